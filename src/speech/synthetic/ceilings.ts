/** The UA of the Bayes-optimal classifier on the synthetic corpus, computed from its joint table. */
import { LABELS, type Label } from "../corpora/corpus.ts";
import { ALIGNMENT } from "./plan.ts";
import { STATES, type State, TABLE, TYPES, type TextType } from "./prosody.ts";

export interface Ceilings {
  /** From prosody alone. */
  readonly audio: number;
  /** From the words alone. */
  readonly text: number;
  /** From both, without knowing which word was stressed. */
  readonly both: number;
  /** From both, word by word. */
  readonly aligned: number;
}

/** Error rates of recognising the prosody state and the keyword. */
export interface ErrorRates {
  readonly state: number;
  readonly keyword: number;
}

/** Class priors of IEMOCAP. */
const PRIORS: Readonly<Record<Label, number>> = {
  angry: 1_103 / 5_531,
  happy: 1_636 / 5_531,
  sad: 1_084 / 5_531,
  neutral: 1_708 / 5_531,
};

/** P(observation). */
type Distribution = Map<string, number>;

/**
 * Ceilings of a corpus in which `alignment` of the clips are alignment items. A state that is misrecognised is any other one
 * with equal probability; a misrecognised keyword gives no type at all.
 */
export function ceilings(errors: ErrorRates = { state: 0, keyword: 0 }, alignment = ALIGNMENT): Ceilings {
  const audio = (state: State, _type: TextType) => observeState(state, errors.state);
  const text = (_state: State, type: TextType) => observeType(type, errors.keyword);
  const both = (state: State, type: TextType) => product(audio(state, type), text(state, type));
  const pooled = (): Distribution => new Map([["stress somewhere", 1]]);
  const exact = (label: Label): Distribution => new Map([[`stress on ${label}`, 1]]);
  return {
    audio: bestUa(audio, pooled, alignment),
    text: bestUa(text, pooled, alignment),
    both: bestUa(both, pooled, alignment),
    aligned: bestUa(both, exact, alignment),
  };
}

/** Mean over the classes of P(correct) of the classifier that picks the class of greatest likelihood. */
function bestUa(
  observe: (state: State, type: TextType) => Distribution,
  observeItem: (label: Label) => Distribution,
  alignment: number,
): number {
  const best = new Map<string, number>();
  for (const label of LABELS) {
    const items = label === "angry" || label === "happy" ? alignment / 2 / PRIORS[label] : 0;
    const seen: Distribution = new Map();
    for (const { state, type, p } of TABLE[label]) add(seen, observe(state, type), p * (1 - items));
    if (items > 0) add(seen, observeItem(label), items);
    for (const [what, p] of seen) best.set(what, Math.max(best.get(what) ?? 0, p));
  }
  return [...best.values()].reduce((a, b) => a + b, 0) / LABELS.length;
}

function observeState(state: State, error: number): Distribution {
  return new Map(STATES.map((s) => [s, s === state ? 1 - error : error / (STATES.length - 1)]));
}

function observeType(type: TextType, lost: number): Distribution {
  return new Map<string, number>([
    ...TYPES.map((t) => [t, t === type ? 1 - lost : 0] as const),
    ["lost", lost],
  ]);
}

function product(a: Distribution, b: Distribution): Distribution {
  return new Map([...a].flatMap(([x, p]) => [...b].map(([y, q]) => [`${x} ${y}`, p * q] as const)));
}

function add(into: Distribution, from: Distribution, weight: number): void {
  for (const [what, p] of from) into.set(what, (into.get(what) ?? 0) + weight * p);
}
