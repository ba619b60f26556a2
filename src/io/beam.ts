/**
 * CTC prefix beam search (Hannun et al. 2014) in log space, without a language model.
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

/** A node in the tree of prefixes, with its log probabilities after the present frame and after the next. */
interface Prefix {
  label: number;
  parent: Prefix | undefined;
  children: Map<number, Prefix> | undefined;
  total: number;
  endsBlank: number;
  endsLabel: number;
  nextBlank: number;
  nextLabel: number;
}

const NONE = Number.NEGATIVE_INFINITY;

/**
 * The `width` likeliest labellings of `logProbs` (T, V), best first; exact if `width` is at least the number of prefixes. Takes
 * T·width·V steps. Throws a RangeError for a width below 1, and at a frame in which no token is possible.
 */
export function prefixBeamSearch(
  logProbs: Float32Array,
  V: number,
  blank: number,
  width: number,
): Hypothesis[] {
  if (!(width >= 1)) throw new RangeError(`Cannot search with a beam of ${width}: at least 1 expected`);
  let beam = [{ ...makePrefix(blank, undefined), total: 0, endsBlank: 0 }];
  for (let row = 0; row + V <= logProbs.length; row += V) {
    const reached = new Set<Prefix>();
    for (const prefix of beam) extend(prefix, logProbs.subarray(row, row + V), blank, reached);
    for (const prefix of beam) prefix.total = prefix.endsBlank = prefix.endsLabel = NONE;
    for (const prefix of reached) {
      prefix.endsBlank = prefix.nextBlank;
      prefix.endsLabel = prefix.nextLabel;
      prefix.total = logAdd(prefix.nextBlank, prefix.nextLabel);
      prefix.nextBlank = prefix.nextLabel = NONE;
    }
    beam = [...reached].sort((a, b) => b.total - a.total);
    for (const prefix of beam.splice(width)) prune(prefix);
    if (!(beam[0]?.total > NONE))
      throw new RangeError(`Cannot decode: frame ${row / V} has no possible token`);
  }
  return beam.map((prefix) => ({ ids: labelsOf(prefix), logProbability: prefix.total }));
}

/** Adds the paths of a prefix, extended by one frame, to the prefixes that they reach. */
function extend(prefix: Prefix, frame: Float32Array, blank: number, reached: Set<Prefix>): void {
  for (let v = 0; v < frame.length; v++) {
    const p = frame[v];
    if (p === NONE) continue;
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
    const child = childOf(prefix, v);
    child.nextLabel = logAdd(child.nextLabel, before + p);
    reached.add(child);
  }
}

function makePrefix(label: number, parent: Prefix | undefined): Prefix {
  const sums = { total: NONE, endsBlank: NONE, endsLabel: NONE, nextBlank: NONE, nextLabel: NONE };
  return { label, parent, children: undefined, ...sums };
}

function childOf(prefix: Prefix, label: number): Prefix {
  prefix.children ??= new Map();
  const known = prefix.children.get(label);
  if (known) return known;
  const child = makePrefix(label, prefix);
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
