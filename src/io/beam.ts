/**
 * CTC prefix beam search (Hannun et al. 2014) in log space; what else a prefix is worth, as by a language model, may be added.
 *
 * A prefix has two sums over its paths: over those that end in a blank, and over those that end in its last label. After the
 * latter the same label again is a repeat, which collapses; after the former it is a new label.
 */

/** A labelling and its probability. */
export interface Hypothesis {
  ids: number[];
  /** Summed over all paths in the beam that collapse to `ids`. */
  logProbability: number;
}

/** What prefixes are worth besides their probability, by states that grow with them. */
export interface PrefixScorer<State> {
  /** The label between words. It is no text at either end or beside another: such prefixes are one, as in pyctcdecode. */
  readonly separator: number;
  /** Of the empty prefix. */
  readonly start: State;
  /** Of a prefix with one label more. */
  extend(state: State, label: number): State;
  /** Added to the log probability of a prefix that may go on. */
  score(state: State): number;
  /** Added to that of a whole labelling. */
  final(state: State): number;
}

/** A node in the tree of prefixes, with its log probabilities after the present frame and after the next. */
interface Prefix {
  label: number;
  parent: Prefix | undefined;
  children: Map<number, Prefix> | undefined;
  /** The scorer's, and what it adds. */
  state: unknown;
  score: number;
  total: number;
  endsBlank: number;
  endsLabel: number;
  nextBlank: number;
  nextLabel: number;
}

const NONE = Number.NEGATIVE_INFINITY;

/** pyctcdecode's limits, natural logarithms: of a token, and of a prefix below the best, that a search with a scorer follows. */
const LEAST_TOKEN = -5;
const LEAST_PREFIX = -10;

/**
 * The `width` likeliest labellings of `logProbs` (T, V), best first; exact if `width` is at least the number of prefixes. Takes
 * T·width·V steps. With a scorer the best by both; of the tokens of a frame then only those above e⁻⁵ and the likeliest. Without `isEnd`
 * labels may follow: nothing is judged as a whole labelling. Throws a RangeError for a width below 1, and at a frame in which no token is possible.
 */
export function prefixBeamSearch(
  logProbs: Float32Array,
  V: number,
  blank: number,
  width: number,
  scorer?: PrefixScorer<unknown>,
  isEnd = true,
): Hypothesis[] {
  if (!(width >= 1)) throw new RangeError(`Cannot search with a beam of ${width}: at least 1 expected`);
  const root = makePrefix(scorer?.separator ?? blank, undefined, scorer?.start);
  let beam = [{ ...root, total: 0, endsBlank: 0 }];
  const worth = ({ total, score }: Prefix) => total + score;
  for (let row = 0; row + V <= logProbs.length; row += V) {
    const frame = logProbs.subarray(row, row + V);
    const tokens = tokensOf(frame, scorer ? LEAST_TOKEN : NONE);
    const reached = new Set<Prefix>();
    for (const prefix of beam) extend(prefix, frame, tokens, blank, reached, scorer);
    for (const prefix of beam) prefix.total = prefix.endsBlank = prefix.endsLabel = NONE;
    for (const prefix of reached) {
      prefix.endsBlank = prefix.nextBlank;
      prefix.endsLabel = prefix.nextLabel;
      prefix.total = logAdd(prefix.nextBlank, prefix.nextLabel);
      prefix.nextBlank = prefix.nextLabel = NONE;
    }
    beam = [...reached].sort((a, b) => worth(b) - worth(a));
    if (!(beam[0]?.total > NONE))
      throw new RangeError(`Cannot decode: frame ${row / V} has no possible token`);
    const least = scorer ? worth(beam[0]) + LEAST_PREFIX : NONE;
    const kept = beam.findIndex((prefix, i) => i === width || worth(prefix) < least);
    if (kept >= 0) for (const prefix of beam.splice(kept)) prune(prefix);
  }
  if (!isEnd) return beam.map((prefix) => ({ ids: labelsOf(prefix), logProbability: prefix.total }));
  const totals = new Map<Prefix, number>();
  for (const prefix of beam) {
    const text = scorer && prefix.parent && prefix.label === scorer.separator ? prefix.parent : prefix;
    totals.set(text, logAdd(totals.get(text) ?? NONE, prefix.total));
  }
  return [...totals]
    .map(([prefix, total]) => ({ prefix, total, value: total + (scorer?.final(prefix.state) ?? 0) }))
    .sort((a, b) => b.value - a.value)
    .map(({ prefix, total }) => ({ ids: labelsOf(prefix), logProbability: total }));
}

/** The tokens of a frame above `least`, and the likeliest. */
function tokensOf(frame: Float32Array, least: number): number[] {
  let best = 0;
  for (let v = 1; v < frame.length; v++) if (frame[v] > frame[best]) best = v;
  return Array.from(frame.keys()).filter((v) => frame[v] > least || (v === best && frame[v] > NONE));
}

/** Adds the paths of a prefix, extended by one frame, to the prefixes that they reach. */
function extend(
  prefix: Prefix,
  frame: Float32Array,
  tokens: readonly number[],
  blank: number,
  reached: Set<Prefix>,
  scorer: PrefixScorer<unknown> | undefined,
): void {
  for (const v of tokens) {
    const p = frame[v];
    if (v === blank) {
      prefix.nextBlank = logAdd(prefix.nextBlank, prefix.total + p);
      reached.add(prefix);
      continue;
    }
    const repeats = v === prefix.label;
    if (repeats && prefix.endsLabel > NONE) {
      prefix.nextLabel = logAdd(prefix.nextLabel, prefix.endsLabel + p);
      reached.add(prefix);
    }
    const before = repeats ? prefix.endsBlank : prefix.total;
    if (before === NONE) continue;
    const child = repeats && v === scorer?.separator ? prefix : childOf(prefix, v, scorer);
    child.nextLabel = logAdd(child.nextLabel, before + p);
    reached.add(child);
  }
}

function makePrefix(label: number, parent: Prefix | undefined, state: unknown, score = 0): Prefix {
  const sums = { total: NONE, endsBlank: NONE, endsLabel: NONE, nextBlank: NONE, nextLabel: NONE };
  return { label, parent, children: undefined, state, score, ...sums };
}

function childOf(prefix: Prefix, label: number, scorer: PrefixScorer<unknown> | undefined): Prefix {
  prefix.children ??= new Map();
  const known = prefix.children.get(label);
  if (known) return known;
  const state = scorer?.extend(prefix.state, label);
  const child = makePrefix(label, prefix, state, scorer?.score(state));
  prefix.children.set(label, child);
  return child;
}

/** Removes a prefix from the beam, and from the tree unless it has children. */
function prune(prefix: Prefix): void {
  prefix.total = prefix.endsBlank = prefix.endsLabel = NONE;
  if (!prefix.children) prefix.parent?.children?.delete(prefix.label);
}

/** log(eᵃ + eᵇ). */
function logAdd(a: number, b: number): number {
  if (a < b) return logAdd(b, a);
  return b === NONE ? a : a + Math.log1p(Math.exp(b - a));
}

function labelsOf(prefix: Prefix): number[] {
  const ids: number[] = [];
  for (let node = prefix; node.parent; node = node.parent) ids.push(node.label);
  return ids.reverse();
}
