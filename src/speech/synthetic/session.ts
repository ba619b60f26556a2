/** Puts the clips of one session on stage: dialogue, speaker, turn, then words and manner of each. */
import type { Label } from "../corpora/corpus.ts";
import type { Pool } from "./lexicon.ts";
import type { Clip, Item, Preset, Stretch } from "./plan.ts";
import { type Prosody, perform, type TextType } from "./prosody.ts";
import { type Random, random } from "../corpora/random.ts";
import { type Clause, chooseFrom, longSentence, pairClause, sentence } from "./sentences.ts";
import { speakerOf } from "./speakers.ts";

/** P(scripted | label): anger is mostly acted from scripts, sadness improvised; 40 % in all. */
const SCRIPTED: Readonly<Record<Label, number>> = { angry: 0.6, happy: 0.35, sad: 0.3, neutral: 0.38 };
/** Share of the other clips whose state covers one clause only. */
const PARTIAL = 0.3;
/** P(the keyword belongs to the session alone | improvised): 35 % of all keywords of a session. */
const OWN = 0.58;

/** What the clips of a session share. */
export interface World {
  preset: Preset;
  seed: number;
  sharedPool: Pool;
  ownPool: Pool;
  bank: Record<TextType, Clause[][]>;
}

/** The clips of a session, in order of id. */
export function stage(items: Item[], session: number, world: World): Clip[] {
  const { preset, seed } = world;
  const draw = random(seed, "stage", session);
  const speakers = {
    F: speakerOf(session, "F", random(seed, "speaker", session, "F")),
    M: speakerOf(session, "M", random(seed, "speaker", session, "M")),
  };
  const names = dialogueNames(session, preset);
  const turns = new Map<string, number>();
  const wordless = Math.max(1, Math.round(items.length * 0.005));

  const clips = draw.shuffled(items).map((item, i): Clip => {
    const scripted = draw.uniform() < (item.label === undefined ? 0.4 : SCRIPTED[item.label]);
    const dialogue = draw.pick(scripted ? names.scripted : names.improvised);
    const letter = draw.uniform() < 0.5 ? "F" : "M";
    const voice = `${dialogue}_${letter}`;
    const turn = turns.get(voice) ?? 0;
    turns.set(voice, turn + 1);
    const id = `${voice}${String(turn).padStart(3, "0")}`;
    const own = random(seed, id);
    const isWordless = i < wordless && item.stress === undefined && !preset.few;
    const tagged = isWordless || own.uniform() < 0.03;
    return {
      id,
      code: item.code,
      label: item.label,
      session,
      speaker: speakers[letter],
      dialogue,
      scripted,
      state: item.state,
      type: item.type,
      stress: item.stress,
      wordless: isWordless,
      tag: tagged ? own.pick(["[LAUGHTER]", "[BREATHING]", "[GARBAGE]"]) : undefined,
      ...performance(item, scripted, isWordless, world, own),
    };
  });
  return clips.sort((a, b) => (a.id < b.id ? -1 : 1));
}

function performance(
  item: Item,
  scripted: boolean,
  wordless: boolean,
  world: World,
  draw: Random,
): Pick<Clip, "clauses" | "stretches" | "partial"> {
  const { preset, sharedPool, ownPool, bank } = world;
  const whole = (clauses: Clause[], prosody: Prosody): Stretch[] => [
    { from: 0, to: length(clauses), prosody },
  ];
  if (wordless) {
    const clauses = [{ words: ["ah", "ah"] }];
    return { clauses, stretches: whole(clauses, perform(item.state, draw)), partial: false };
  }
  const pool = !scripted && preset.own > 0 && draw.uniform() < OWN ? ownPool : sharedPool;
  if (item.stress !== undefined) {
    const joy = draw.pick(pool.joy.noun);
    const plain = draw.pick(pool.plain.noun);
    const { clause, places } = item.joyFirst ? pairClause(joy, plain, draw) : pairClause(plain, joy, draw);
    const stressed = places[(item.stress === "joy") === item.joyFirst ? 0 : 1];
    return { clauses: [clause], stretches: burst(clause, stressed, draw), partial: false };
  }
  const partial = !preset.few && item.state !== "flat" && draw.uniform() < PARTIAL;
  const choose = chooseFrom(pool[item.type], draw);
  const lines = bank[item.type].filter((line) => !partial || line.length > 1);
  const clauses =
    scripted && lines.length > 0
      ? draw.pick(lines)
      : partial
        ? longSentence(choose, draw)
        : sentence(choose, draw, preset.few);
  const prosody = perform(item.state, draw);
  if (!partial) return { clauses, stretches: whole(clauses, prosody), partial };

  const cut = clauses[0].words.length;
  const calm = perform("flat", draw);
  const first = draw.uniform() < 0.5;
  const stretches = [
    { from: 0, to: cut, prosody: first ? prosody : calm },
    { from: cut, to: length(clauses), prosody: first ? calm : prosody },
  ];
  return { clauses, stretches, partial };
}

/** A calm sentence with one word said tensely. */
function burst(clause: Clause, at: number, draw: Random): Stretch[] {
  const calm = perform("flat", draw);
  const tense = perform("tense", draw);
  // Within a word neither rate nor range is heard: pitch and roughness carry the stress.
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
  ].filter((stretch) => stretch.to > stretch.from);
}

/** IEMOCAP's names, odd ones included. */
function dialogueNames(session: number, { dialogues }: Preset): { improvised: string[]; scripted: string[] } {
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
