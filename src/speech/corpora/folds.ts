/**
 * Cross-validation by sessions: every fold tests on one session and trains on the others. Or by speakers: every fold tests on
 * one speaker, chooses the epoch on the other of the session and trains on the other sessions. A corpus that comes with a split
 * of its own has that as its only fold.
 */
import { beginningOf } from "../../io/listed.ts";
import type { Utterance } from "./corpus.ts";
import { random } from "./random.ts";

/**
 * A split of a corpus into training, dev and test sets. Test and training have no speaker and no dialogue in common; test and
 * dev have no speaker, and dialogues only where a speaker is held out, whose partner is the dev set.
 */
export interface Fold {
  /** Name of the session held out for the test, or of the speaker. */
  readonly name: string;
  /** The other sessions, without dev. */
  readonly train: readonly Utterance[];
  /** Whole dialogues of the other sessions, or the speaker's partners; they select the epoch. */
  readonly dev: readonly Utterance[];
  /** The session held out, or what the speaker says. */
  readonly test: readonly Utterance[];
}

/** Whether the utterances come with a split. */
const hasOwnSplit = (utterances: readonly Utterance[]): boolean =>
  utterances.some((u) => u.split !== undefined);

/** Options of folds() and holdOut(). */
export interface FoldOptions {
  /** Of the random choice of the dev set. Default 0. */
  seed?: number;
  /** Share of the training dialogues in dev, at least one dialogue. Default 0.1; 0 for no dev set. */
  dev?: number;
}

/** Compares names of sessions by their numbers: Session2 before Session10. */
export function bySession(a: string, b: string): number {
  const [x, y] = [Number(/\d+/.exec(a)?.[0]), Number(/\d+/.exec(b)?.[0])];
  return x < y ? -1 : x > y ? 1 : a < b ? -1 : a > b ? 1 : 0;
}

/** Names of the sessions of the utterances, in the order of their numbers. */
export const sessionsOf = (utterances: readonly Utterance[]): string[] =>
  [...new Set(utterances.map((u) => u.session))].sort(bySession);

/** Names of the speakers of the utterances, in the order of their numbers. */
export const speakersOf = (utterances: readonly Utterance[]): string[] =>
  [...new Set(utterances.map((u) => u.speaker))].sort(bySession);

/**
 * The session with the name or the number `wanted`; "5" and "05" are Session5 or Session05. Undefined where there is none, or
 * where two have the number.
 */
export function sessionNamed(sessions: readonly string[], wanted: string): string | undefined {
  if (sessions.includes(wanted)) return wanted;
  const number = /^(?:session)?0*(\d+)$/i.exec(wanted)?.[1];
  const same = sessions.filter(
    (name) => number !== undefined && /\d+$/.exec(name)?.[0].replace(/^0+(?=\d)/, "") === number,
  );
  return same.length === 1 ? same[0] : undefined;
}

/**
 * One fold per session: test on it, train on the others, dev by dialogues of the others.
 * Throws an Error where a speaker or a dialogue of the test is also in training or dev.
 */
export function folds(utterances: readonly Utterance[], options: FoldOptions = {}): Fold[] {
  return requireSessions(utterances).map((name) => holdOut(utterances, name, options));
}

/**
 * Returns the sessions of the utterances; of a corpus with a split of its own the test alone. Throws a RangeError where there
 * are fewer than two.
 */
export function requireSessions(utterances: readonly Utterance[]): string[] {
  const sessions = sessionsOf(utterances);
  if (hasOwnSplit(utterances)) {
    const lacks = (["train", "test"] as const).find((split) => !sessions.includes(split));
    if (lacks === undefined) return ["test"];
    throw new RangeError(`Cannot make folds: no utterance of the corpus's own ${lacks} can be used`);
  }
  if (sessions.length >= 2) return sessions;
  const found =
    sessions.length === 0
      ? "no utterance can be used"
      : `found 1 (${sessions[0]}) with utterances that can be used`;
  throw new RangeError(`Cannot make folds: need at least two sessions, ${found}`);
}

/**
 * The fold that tests on session `name`. Throws a RangeError where dev would take all dialogues that are left for training,
 * an Error where a speaker or a dialogue of the test is also in training or dev.
 */
export function holdOut(utterances: readonly Utterance[], name: string, options: FoldOptions = {}): Fold {
  const { seed = 0, dev = 0.1 } = options;
  if (!(dev >= 0 && dev < 1)) {
    throw new RangeError(`Cannot make folds: dev is ${dev}, expected a share in [0, 1)`);
  }
  if (hasOwnSplit(utterances)) return ownFold(utterances, name);
  const rest = utterances.filter((u) => u.session !== name);
  const dialogues = [...new Set(rest.map((u) => u.dialogue))].sort();
  const count = dev === 0 ? 0 : Math.max(1, Math.round(dialogues.length * dev));
  if (count > 0 && rest.length > 0 && count >= dialogues.length) {
    throw new RangeError(
      `Cannot make folds: with ${name} held out ${dialogues.length} dialogues are left (${beginningOf(dialogues, 3)}), and dev, a share of ${dev}, would take ${count}: expected at least one for training; dev=0 takes none`,
    );
  }
  const chosen = new Set(random(seed, "dev", name).shuffled(dialogues).slice(0, count));
  const test = utterances.filter((u) => u.session === name);
  requireDisjoint(name, "speaker", test, rest);
  requireDisjoint(name, "dialogue", test, rest);
  return {
    name,
    train: rest.filter((u) => !chosen.has(u.dialogue)),
    dev: rest.filter((u) => chosen.has(u.dialogue)),
    test,
  };
}

/**
 * The fold that tests on what speaker `name` says, chooses the epoch on what the others of that session say, and trains on the
 * other sessions: ten folds of IEMOCAP. Throws an Error where a speaker or a dialogue of the session is also in another.
 *
 * Speakers are those who speak. Published lists that take the letter after the session's number (Cai et al. 2021, EmoBox) go by
 * who wears the markers: their folds test on both speakers of a session, and train on both as well.
 */
export function holdOutSpeaker(utterances: readonly Utterance[], name: string): Fold {
  if (hasOwnSplit(utterances))
    throw new Error(
      `Cannot hold out speaker ${name}: the corpus has a split of its own, whose test is the only fold`,
    );
  const test = utterances.filter((u) => u.speaker === name);
  const sessions = new Set(test.map((u) => u.session));
  const near = utterances.filter((u) => sessions.has(u.session));
  const train = utterances.filter((u) => !sessions.has(u.session));
  requireDisjoint(name, "speaker", near, train);
  requireDisjoint(name, "dialogue", near, train);
  return { name, train, dev: near.filter((u) => u.speaker !== name), test };
}

/** The split that a corpus comes with; its speakers may be on both sides. */
function ownFold(utterances: readonly Utterance[], name: string): Fold {
  if (name !== "test")
    throw new RangeError(
      `Cannot hold out ${name}: the corpus has a split of its own, whose test is the only fold`,
    );
  const of = (split: Utterance["split"]) => utterances.filter((u) => u.split === split);
  const [train, dev, test] = [of("train"), of("dev"), of("test")];
  requireDisjoint(name, "dialogue", test, [...train, ...dev]);
  return { name, train, dev, test };
}

function requireDisjoint(
  fold: string,
  key: "speaker" | "dialogue",
  test: readonly Utterance[],
  rest: readonly Utterance[],
): void {
  const seen = new Map(test.map((u) => [u[key], u.id]));
  const twice = rest.find((u) => seen.has(u[key]));
  if (twice !== undefined) {
    throw new Error(
      `Cannot use fold ${fold}: ${key} ${twice[key]} is in the test (${seen.get(twice[key])}) and in another session (${twice.id})`,
    );
  }
}
