/**
 * Decides every clip of a generated corpus before a sound is made: who says what, how, and with which
 * label. Counts per session and class, per cell of the joint table and per ingredient are apportioned, not
 * drawn, so that a corpus of a thousand clips shows what one of five thousand would.
 */
import { LABELS, type Label } from "../corpora/corpus.ts";
import { type Pool, slicePool } from "./lexicon.ts";
import { apportion, type Prosody, STATES, type State, TABLE, type TextType, TYPES } from "./prosody.ts";
import { type Random, random } from "../corpora/random.ts";
import { type Clause, chooseFrom, sentence } from "./sentences.ts";
import type { Speaker } from "./speakers.ts";
import { stage } from "./session.ts";

export interface Preset {
  /** Clips of the four classes. */
  readonly clips: number;
  /** Keywords a part of speech and text type, at most 20; three times as many a type. */
  readonly keywords: number;
  /** How many of them each session has to itself. */
  readonly own: number;
  /** Single clauses from three templates, for a model that should fit within minutes. */
  readonly few: boolean;
  /** Dialogues a session and marker wearer. */
  readonly dialogues: { readonly improvised: number; readonly scripted: number };
  /** Lines of the text-only corpus. */
  readonly lines: number;
}

export const PRESETS: Readonly<Record<"nano" | "mini" | "full", Preset>> = {
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
/** IEMOCAP's share of excitement in the merged class happy. */
const EXCITED = 1_041 / 1_636;
/** Share of all clips whose label lies in which word is stressed. */
export const ALIGNMENT = 0.12;
/** Words `from` to `to` of a clip, said in one manner. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly prosody: Prosody;
}

export interface Clip {
  readonly id: string;
  /** IEMOCAP's code, exc as well as hap; codes outside the four classes for a few clips. */
  readonly code: string;
  readonly label?: Label;
  readonly session: number;
  readonly speaker: Speaker;
  readonly dialogue: string;
  readonly scripted: boolean;
  readonly state: State;
  readonly type: TextType;
  /** The stressed word of an alignment item. */
  readonly stress?: "joy" | "plain";
  readonly partial: boolean;
  readonly clauses: readonly Clause[];
  readonly stretches: readonly Stretch[];
  /** A bracketed tag before the text, or in place of it. */
  readonly tag?: string;
  readonly wordless: boolean;
}

/** What a clip must be, before it has words, a speaker and a dialogue. */
export interface Item {
  readonly label?: Label;
  readonly code: string;
  readonly state: State;
  readonly type: TextType;
  readonly stress?: "joy" | "plain";
  readonly joyFirst?: boolean;
}

/** The same seed and preset give the same clips, in order of id. */
export function plan(preset: Preset, seed: number): Clip[] {
  const sessions = CLIPS.length;
  const sharedPool = slicePool(preset.own * sessions, preset.keywords);
  const bank = scriptBank(preset, sharedPool, random(seed, "scripts"));
  const dealt = deal(preset, seed);
  return dealt.flatMap((items, s) => {
    const session = s + 1;
    const ownPool = slicePool(s * preset.own, (s + 1) * preset.own);
    return stage(items, session, { preset, seed, sharedPool, ownPool, bank });
  });
}

/** The clips of each session: apportioned over classes, table cells and alignment items, then shuffled. */
function deal(preset: Preset, seed: number): Item[][] {
  const counts = apportion(CLIPS.flat(), preset.clips);
  const sessions: Item[][] = CLIPS.map(() => []);
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
    const pairs = Array.from({ length: aligned }, (_, i): Omit<Item, "code"> => {
      return { label, state: "flat", type: "joy", stress, joyFirst: i % 2 === 0 };
    });
    const items = random(seed, "deal", label).shuffled<Omit<Item, "code">>([...table, ...pairs]);
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

/** Script lines by text type: every session plays the same ones. */
function scriptBank(preset: Preset, pool: Pool, draw: Random): Record<TextType, Clause[][]> {
  const lines = Math.max(4, Math.round(preset.clips / 40));
  const of = (type: TextType) =>
    Array.from({ length: lines }, () => sentence(chooseFrom(pool[type], draw), draw, preset.few));
  return { hostile: of("hostile"), joy: of("joy"), loss: of("loss"), plain: of("plain") };
}
