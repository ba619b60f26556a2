import type { Utterance } from "./corpus.ts";
import { random } from "./random.ts";

export interface Fold {
  /** The session held out for the test. */
  readonly name: string;
  readonly train: readonly Utterance[];
  /** Whole dialogues of the training sessions; selects the epoch. */
  readonly dev: readonly Utterance[];
  readonly test: readonly Utterance[];
}

export interface FoldOptions {
  seed?: number;
  /** Share of the training dialogues that goes to dev, at least one dialogue. Default 0.1; 0 for none. */
  dev?: number;
}

/**
 * One fold per session: test on it, train on the others, dev by dialogues of the others.
 * Throws an Error where a speaker or a dialogue of the test is also in training or dev.
 */
export function folds(utterances: readonly Utterance[], options: FoldOptions = {}): Fold[] {
  const { seed = 0, dev = 0.1 } = options;
  if (!(dev >= 0 && dev < 1)) {
    throw new RangeError(`Cannot make folds: dev is ${dev}, expected a share in [0, 1)`);
  }
  const sessions = [...new Set(utterances.map((u) => u.session))].sort();
  if (sessions.length < 2) {
    throw new RangeError(
      `Cannot make folds: need at least two sessions, found ${sessions.length} (${sessions.join(", ")})`,
    );
  }
  return sessions.map((name) => {
    const rest = utterances.filter((u) => u.session !== name);
    const dialogues = [...new Set(rest.map((u) => u.dialogue))].sort();
    const count = dev === 0 ? 0 : Math.max(1, Math.round(dialogues.length * dev));
    const chosen = new Set(random(seed, "dev", name).shuffled(dialogues).slice(0, count));
    const test = utterances.filter((u) => u.session === name);
    refuseOverlap(name, "speaker", test, rest);
    refuseOverlap(name, "dialogue", test, rest);
    return {
      name,
      train: rest.filter((u) => !chosen.has(u.dialogue)),
      dev: rest.filter((u) => chosen.has(u.dialogue)),
      test,
    };
  });
}

function refuseOverlap(
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
