/** The best UA that anyone can reach on the generated corpus, computed from its joint table. */
import { LABELS, type Label } from "../corpora/corpus.ts";
import { ALIGNMENT } from "./plan.ts";
import { STATES, type State, TABLE, TYPES, type TextType } from "./prosody.ts";

export interface Ceilings {
  /** From the voice alone. */
  readonly audio: number;
  /** From the words alone. */
  readonly text: number;
  /** From both, without knowing which word was stressed. */
  readonly both: number;
  /** From both, word by word. */
  readonly aligned: number;
}

/** How often the state or the keyword is misread. */
export interface Misreading {
  readonly state: number;
  readonly keyword: number;
}

/** IEMOCAP's share of each class. */
const PRIORS: Readonly<Record<Label, number>> = {
  angry: 1_103 / 5_531,
  happy: 1_636 / 5_531,
  sad: 1_084 / 5_531,
  neutral: 1_708 / 5_531,
};

type Observed = Map<string, number>;

/**
 * Ceilings of a corpus in which `alignment` of the clips are alignment items. A misread state is any other
 * one with equal chance; a misread keyword leaves no type at all.
 */
export function ceilings(misreading: Misreading = { state: 0, keyword: 0 }, alignment = ALIGNMENT): Ceilings {
  const audio = (state: State, _type: TextType) => readState(state, misreading.state);
  const text = (_state: State, type: TextType) => readType(type, misreading.keyword);
  const both = (state: State, type: TextType) => product(audio(state, type), text(state, type));
  const pooled = (): Observed => new Map([["stress somewhere", 1]]);
  const exact = (label: Label): Observed => new Map([[`stress on ${label}`, 1]]);
  return {
    audio: bestUa(audio, pooled, alignment),
    text: bestUa(text, pooled, alignment),
    both: bestUa(both, pooled, alignment),
    aligned: bestUa(both, exact, alignment),
  };
}

/** Mean over classes of P(answer right), answering each observation with the class that makes it likeliest. */
function bestUa(
  observe: (state: State, type: TextType) => Observed,
  observeItem: (label: Label) => Observed,
  alignment: number,
): number {
  const best = new Map<string, number>();
  for (const label of LABELS) {
    const items = label === "angry" || label === "happy" ? alignment / 2 / PRIORS[label] : 0;
    const seen: Observed = new Map();
    for (const { state, type, p } of TABLE[label]) add(seen, observe(state, type), p * (1 - items));
    if (items > 0) add(seen, observeItem(label), items);
    for (const [what, p] of seen) best.set(what, Math.max(best.get(what) ?? 0, p));
  }
  return [...best.values()].reduce((a, b) => a + b, 0) / LABELS.length;
}

function readState(state: State, error: number): Observed {
  return new Map(STATES.map((s) => [s, s === state ? 1 - error : error / (STATES.length - 1)]));
}

function readType(type: TextType, lost: number): Observed {
  return new Map<string, number>([
    ...TYPES.map((t) => [t, t === type ? 1 - lost : 0] as const),
    ["lost", lost],
  ]);
}

function product(a: Observed, b: Observed): Observed {
  return new Map([...a].flatMap(([x, p]) => [...b].map(([y, q]) => [`${x} ${y}`, p * q] as const)));
}

function add(into: Observed, from: Observed, weight: number): void {
  for (const [what, p] of from) into.set(what, (into.get(what) ?? 0) + weight * p);
}
