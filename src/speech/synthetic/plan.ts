/**
 * Plans every clip of a synthetic corpus before it is synthesised: label, speaker, words and prosody. Counts per session
 * and class, per cell of the joint table and of clips told by stress are apportioned, not drawn, so that a corpus of a
 * thousand clips has the proportions of one of five thousand.
 */
import { LABELS, type Label } from "../corpora/corpus.ts";
import { type Pool, slicePool } from "./lexicon.ts";
import { apportion, type Prosody, STATES, type State, TABLE, type TextType, TYPES } from "./prosody.ts";
import { type Random, random } from "../corpora/random.ts";
import { type Clause, chooseFrom, sentence } from "./sentences.ts";
import type { Speaker } from "./speakers.ts";
import { planSession } from "./session.ts";

export interface CorpusPreset {
  /** Clips of the four classes. */
  readonly clips: number;
  /** Keywords per part of speech and text type, at most 20: a text type has three times as many. */
  readonly keywords: number;
  /** How many of them occur in one session only, per session. */
  readonly own: number;
  /** Single clauses from three templates, for a model that is to fit within minutes. */
  readonly few: boolean;
  /** Dialogues per session and marker wearer. */
  readonly dialogues: { readonly improvised: number; readonly scripted: number };
  /** Lines of the text-only corpus. */
  readonly lines: number;
}

export const CORPUS_PRESETS: Readonly<Record<"nano" | "mini" | "full", CorpusPreset>> = {
  nano: {
    clips: 120,
    keywords: 3,
    own: 0,
    few: true,
    dialogues: { improvised: 1, scripted: 1 },
    lines: 2_000,
  },
  mini: {
    clips: 1_200,
    keywords: 20,
    own: 3,
    few: false,
    dialogues: { improvised: 6, scripted: 3 },
    lines: 50_000,
  },
  full: {
    clips: 5_531,
    keywords: 20,
    own: 3,
    few: false,
    dialogues: { improvised: 8, scripted: 7 },
    lines: 50_000,
  },
};

/** IEMOCAP's clips by session and class, in the order of LABELS. */
const CLIPS = [
  [229, 278, 194, 384],
  [137, 327, 197, 362],
  [240, 286, 305, 320],
  [327, 303, 143, 258],
  [170, 442, 245, 384],
];
/** Share of "exc" in IEMOCAP's merged class happy. */
const EXCITED = 1_041 / 1_636;
/** Share of alignment items among all clips: only which word is stressed tells their label. */
export const ALIGNMENT = 0.12;

/** Words `from` to `to` (exclusive) of a clip, with one prosody. */
export interface WordSpan {
  readonly from: number;
  readonly to: number;
  readonly prosody: Prosody;
}

export interface Clip {
  readonly id: string;
  /** IEMOCAP's code, "exc" as well as "hap"; a few clips have one outside the four classes. */
  readonly code: string;
  readonly label?: Label;
  readonly session: number;
  readonly speaker: Speaker;
  readonly dialogue: string;
  readonly scripted: boolean;
  readonly state: State;
  readonly type: TextType;
  /** Text type of the stressed word of an alignment item. */
  readonly stress?: "joy" | "plain";
  /** The state covers one of two clauses; the other is flat. */
  readonly partial: boolean;
  readonly clauses: readonly Clause[];
  readonly spans: readonly WordSpan[];
  /** A bracketed tag before the text, or in place of it. */
  readonly tag?: string;
  /** The clip is an interjection, and its transcript has no words. */
  readonly wordless: boolean;
}

/** What is decided of a clip before it gets words, a speaker and a dialogue. */
export interface ClipSpec {
  readonly label?: Label;
  readonly code: string;
  readonly state: State;
  readonly type: TextType;
  readonly stress?: "joy" | "plain";
  /** Whether the noun of type joy comes first in an alignment item. */
  readonly joyFirst?: boolean;
}

/** Equal seeds and presets give equal clips, in order of id. */
export function plan(preset: CorpusPreset, seed: number): Clip[] {
  const sharedPool = slicePool(preset.own * CLIPS.length, preset.keywords);
  const bank = scriptBank(preset, sharedPool, random(seed, "scripts"));
  return apportionClips(preset, seed).flatMap((specs, s) => {
    const session = s + 1;
    const ownPool = slicePool(s * preset.own, (s + 1) * preset.own);
    return planSession(specs, session, { preset, seed, sharedPool, ownPool, bank });
  });
}

/** The clips of each session: apportioned over classes, table cells and alignment items, then shuffled. */
function apportionClips(preset: CorpusPreset, seed: number): ClipSpec[][] {
  const counts = apportion(CLIPS.flat(), preset.clips);
  const sessions: ClipSpec[][] = CLIPS.map(() => []);
  const alignmentItems = preset.few ? 0 : Math.round(preset.clips * ALIGNMENT);
  LABELS.forEach((label, c) => {
    const perSession = CLIPS.map((_, s) => counts[s * LABELS.length + c]);
    const n = perSession.reduce((a, b) => a + b, 0);
    const stress = label === "angry" ? "joy" : label === "happy" ? "plain" : undefined;
    const aligned = stress === undefined ? 0 : Math.min(n, Math.round(alignmentItems / 2));
    const excited = Math.round(n * EXCITED);
    const code = (i: number) =>
      label === "happy" ? (i < excited ? "exc" : "hap") : { angry: "ang", sad: "sad", neutral: "neu" }[label];
    const order = random(seed, "codes", label).shuffled(Array.from({ length: n }, (_, i) => code(i)));

    const cells = TABLE[label];
    const table = apportion(
      cells.map((cell) => cell.p),
      n - aligned,
    ).flatMap((count, k) => Array.from({ length: count }, () => ({ ...cells[k], label })));
    const pairs = Array.from({ length: aligned }, (_, i): Omit<ClipSpec, "code"> => {
      return { label, state: "flat", type: "joy", stress, joyFirst: i % 2 === 0 };
    });
    const items = random(seed, "deal", label).shuffled<Omit<ClipSpec, "code">>([...table, ...pairs]);
    let next = 0;
    perSession.forEach((count, s) => {
      for (let i = 0; i < count; i++, next++) sessions[s].push({ ...items[next], code: order[next] });
    });
  });
  sessions.forEach((items, s) => {
    const draw = random(seed, "other", s);
    const others = Math.max(1, Math.round(items.length * 0.02));
    for (let i = 0; i < others; i++) {
      const code = draw.pick(["fru", "xxx", "sur"]);
      items.push({ code, state: draw.pick(STATES), type: draw.pick(TYPES) });
    }
  });
  return sessions;
}

/** Script lines by text type, the same in every session. */
function scriptBank(preset: CorpusPreset, pool: Pool, draw: Random): Record<TextType, Clause[][]> {
  const lines = Math.max(4, Math.round(preset.clips / 40));
  const of = (type: TextType) =>
    Array.from({ length: lines }, () => sentence(chooseFrom(pool[type], draw), draw, preset.few));
  return { hostile: of("hostile"), joy: of("joy"), loss: of("loss"), plain: of("plain") };
}
