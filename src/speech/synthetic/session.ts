/** Plans the clips of one session: dialogue, speaker and turn, then words and prosody of each. */
import type { Label } from "../corpora/corpus.ts";
import type { Pool } from "./lexicon.ts";
import type { Clip, ClipSpec, CorpusPreset, WordSpan } from "./plan.ts";
import { type Prosody, sampleProsody, type TextType } from "./prosody.ts";
import { type Random, random } from "../corpora/random.ts";
import { type Clause, chooseFrom, longSentence, pairClause, sentence } from "./sentences.ts";
import { speakerOf } from "./speakers.ts";

/** P(scripted | label), as in IEMOCAP: most anger is scripted, most sadness improvised; 40 % in all. */
const SCRIPTED: Readonly<Record<Label, number>> = { angry: 0.6, happy: 0.35, sad: 0.3, neutral: 0.38 };
/** P(the state covers one clause only | not flat and no alignment item). */
const PARTIAL = 0.3;
/** P(the keyword occurs in this session only | improvised): 35 % of all keywords of a session. */
const OWN = 0.58;

/** What the clips of a session share. */
export interface SessionContext {
  preset: CorpusPreset;
  seed: number;
  sharedPool: Pool;
  ownPool: Pool;
  /** Script lines by text type. */
  bank: Record<TextType, Clause[][]>;
}

/** The clips of a session, in order of id. */
export function planSession(specs: readonly ClipSpec[], session: number, context: SessionContext): Clip[] {
  const { preset, seed } = context;
  const draw = random(seed, "stage", session);
  const speakers = {
    F: speakerOf(session, "F", random(seed, "speaker", session, "F")),
    M: speakerOf(session, "M", random(seed, "speaker", session, "M")),
  };
  const names = dialogueNames(session, preset);
  const turns = new Map<string, number>();
  const wordless = Math.max(1, Math.round(specs.length * 0.005));

  const clips = draw.shuffled(specs).map((spec, i): Clip => {
    const scripted = draw.uniform() < (spec.label === undefined ? 0.4 : SCRIPTED[spec.label]);
    const dialogue = draw.pick(scripted ? names.scripted : names.improvised);
    const letter = draw.uniform() < 0.5 ? "F" : "M";
    const prefix = `${dialogue}_${letter}`;
    const turn = turns.get(prefix) ?? 0;
    turns.set(prefix, turn + 1);
    const id = `${prefix}${String(turn).padStart(3, "0")}`;
    const own = random(seed, id);
    const isWordless = i < wordless && spec.stress === undefined && !preset.few;
    const tagged = isWordless || own.uniform() < 0.03;
    return {
      id,
      code: spec.code,
      label: spec.label,
      session,
      speaker: speakers[letter],
      dialogue,
      scripted,
      state: spec.state,
      type: spec.type,
      stress: spec.stress,
      wordless: isWordless,
      tag: tagged ? own.pick(["[LAUGHTER]", "[BREATHING]", "[GARBAGE]"]) : undefined,
      ...sampleUtterance(spec, scripted, isWordless, context, own),
    };
  });
  return clips.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Draws the words of a clip and their prosody. */
function sampleUtterance(
  spec: ClipSpec,
  scripted: boolean,
  wordless: boolean,
  context: SessionContext,
  draw: Random,
): Pick<Clip, "clauses" | "spans" | "partial"> {
  const { preset, sharedPool, ownPool, bank } = context;
  const whole = (clauses: Clause[], prosody: Prosody): WordSpan[] => [
    { from: 0, to: length(clauses), prosody },
  ];
  if (wordless) {
    const clauses = [{ words: ["ah", "ah"] }];
    return { clauses, spans: whole(clauses, sampleProsody(spec.state, draw)), partial: false };
  }
  const pool = !scripted && preset.own > 0 && draw.uniform() < OWN ? ownPool : sharedPool;
  if (spec.stress !== undefined) {
    const joy = draw.pick(pool.joy.noun);
    const plain = draw.pick(pool.plain.noun);
    const { clause, places } = spec.joyFirst ? pairClause(joy, plain, draw) : pairClause(plain, joy, draw);
    const stressed = places[(spec.stress === "joy") === spec.joyFirst ? 0 : 1];
    return { clauses: [clause], spans: stressWord(clause, stressed, draw), partial: false };
  }
  const partial = !preset.few && spec.state !== "flat" && draw.uniform() < PARTIAL;
  const choose = chooseFrom(pool[spec.type], draw);
  const lines = bank[spec.type].filter((line) => !partial || line.length > 1);
  const clauses =
    scripted && lines.length > 0
      ? draw.pick(lines)
      : partial
        ? longSentence(choose, draw)
        : sentence(choose, draw, preset.few);
  const prosody = sampleProsody(spec.state, draw);
  if (!partial) return { clauses, spans: whole(clauses, prosody), partial };

  const cut = clauses[0].words.length;
  const calm = sampleProsody("flat", draw);
  const first = draw.uniform() < 0.5;
  const spans = [
    { from: 0, to: cut, prosody: first ? prosody : calm },
    { from: cut, to: length(clauses), prosody: first ? calm : prosody },
  ];
  return { clauses, spans, partial };
}

/** A flat sentence with the word at `at` stressed. */
function stressWord(clause: Clause, at: number, draw: Random): WordSpan[] {
  const calm = sampleProsody("flat", draw);
  const tense = sampleProsody("tense", draw);
  // Within one word neither rate nor range is perceptible: pitch and roughness carry the stress.
  const prosody = {
    ...tense,
    pitch: tense.pitch + 22,
    rate: calm.rate,
    gap: calm.gap,
    drive: 0.8,
    tilt: 0.6,
  };
  return [
    { from: 0, to: at, prosody: calm },
    { from: at, to: at + 1, prosody },
    { from: at + 1, to: clause.words.length, prosody: calm },
  ].filter((span) => span.to > span.from);
}

/** IEMOCAP's names of dialogues, the irregular ones included. */
function dialogueNames(
  session: number,
  { dialogues }: CorpusPreset,
): { improvised: string[]; scripted: string[] } {
  const letters = ["F", "M"];
  const numbers = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
  const improvised = letters.flatMap((letter) =>
    numbers(dialogues.improvised).flatMap((i) => {
      const name = `Ses0${session}${letter}_impro0${i}`;
      return session === 3 && letter === "M" && (i === 5 || i === 8) ? [`${name}a`, `${name}b`] : [name];
    }),
  );
  const scripted = letters.flatMap((letter) =>
    numbers(dialogues.scripted).flatMap((i) => {
      const name = `Ses0${session}${letter}_script0${Math.ceil(i / 3)}_${((i - 1) % 3) + 1}`;
      return session === 5 && letter === "M" && i === 1 ? [name, `${name}b`] : [name];
    }),
  );
  return { improvised, scripted };
}

function length(clauses: readonly Clause[]): number {
  return clauses.reduce((n, clause) => n + clause.words.length, 0);
}
