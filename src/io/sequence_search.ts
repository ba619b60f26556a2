/**
 * Search for the likeliest sequences of a model that writes one token after the other, as an attention decoder: greedy, and by
 * beam (Sutskever et al. 2014), many inputs at once. The model is a function, so that this is pure code.
 */

/** A sequence that was found, without the token that ends it. */
export interface Sequence {
  /** Its tokens. */
  readonly ids: readonly number[];
  /** Of each id. */
  readonly logProbabilities: readonly number[];
  /** What the step said of each id's place in the input. */
  readonly positions: readonly number[];
  /** Natural logarithm of the probability of all of it, its end included where it has ended. */
  readonly logProbability: number;
  /** False: the search ended it at `maxLength`. */
  readonly ended: boolean;
}

/** What the model says of the tokens that may follow. */
export interface StepResult {
  /** (rows, V): natural log probabilities. */
  readonly logProbs: Float32Array;
  /** The place in its input to which each row belongs, handed on to Sequence.positions; 0 where left out. */
  readonly positions?: ArrayLike<number>;
}

/**
 * Goes on with some sequences by one token each. `parents`: the row of the call before whose state each row has, at the first
 * call the input itself. `inputs`: the input of each row.
 */
export type Step = (
  tokens: readonly number[],
  parents: readonly number[],
  inputs: readonly number[],
) => Promise<StepResult>;

/** What is searched, and how far. */
export interface SearchOptions {
  /** The token before the first. */
  readonly start: number;
  /** The token that ends a sequence. */
  readonly end: number;
  /** Most tokens of a sequence of each input, its end included. */
  readonly maxLengths: readonly number[];
}

/** Options of beamSearch(). */
export interface BeamSearchOptions extends SearchOptions {
  /** Sequences that are kept at every step. */
  readonly width: number;
  /**
   * Sequences are ranked by logProbability / tokens ** lengthPenalty, their end a token too, as transformers' length_penalty;
   * 0, the default, ranks by probability.
   */
  readonly lengthPenalty?: number;
}

/** A token and those before it. */
interface Node {
  readonly parent: Node | undefined;
  readonly token: number;
  readonly logProb: number;
  readonly position: number;
  /** Sum of the log probabilities up to here, in float64. */
  readonly score: number;
  readonly length: number;
}

function checkLengths({ maxLengths }: SearchOptions): void {
  const bad = maxLengths.findIndex((n) => !(Number.isSafeInteger(n) && n >= 1));
  if (bad >= 0)
    throw new RangeError(
      `Cannot search: maxLengths[${bad}] is ${maxLengths[bad]} but should be a whole number from 1`,
    );
}

/** Log probabilities of a row. Throws for a NaN, which would be passed over by every comparison. */
function rowOf({ logProbs }: StepResult, row: number, rows: number): Float32Array {
  const V = logProbs.length / rows;
  const values = logProbs.subarray(row * V, (row + 1) * V);
  if (values.some(Number.isNaN))
    throw new Error("Cannot search: the model's log probabilities are not finite");
  return values;
}

/** The likeliest token at every step, the first of equal ones, until the end or `maxLengths`. One sequence for each input. */
export async function greedySearch(step: Step, options: SearchOptions): Promise<Sequence[]> {
  checkLengths(options);
  const { start, end, maxLengths } = options;
  const found: Sequence[] = [];
  let live = maxLengths.map((_, input) => ({ input, node: undefined as Node | undefined, row: input }));
  while (live.length > 0) {
    const result = await step(
      live.map(({ node }) => node?.token ?? start),
      live.map(({ row }) => row),
      live.map(({ input }) => input),
    );
    const next: typeof live = [];
    for (const [row, { input, node }] of live.entries()) {
      const values = rowOf(result, row, live.length);
      let best = 0;
      for (let v = 1; v < values.length; v++) if (values[v] > values[best]) best = v;
      const own = child(node, best, values[best], result.positions?.[row] ?? 0);
      if (best === end) found[input] = sequence(node, true, own.score);
      else if (own.length === maxLengths[input]) found[input] = sequence(own, false, own.score);
      else next.push({ input, node: own, row });
    }
    live = next;
  }
  return found;
}

/**
 * The `width` best sequences of each input, best first; exact where `width` is at least the number of sequences. Equal scores
 * keep the order of their parents, then of their tokens, so that the same scores give the same result. An input's search ends
 * when nothing that goes on can come among its best any more.
 */
export async function beamSearch(step: Step, options: BeamSearchOptions): Promise<Sequence[][]> {
  checkLengths(options);
  const { start, end, maxLengths, width, lengthPenalty = 0 } = options;
  if (!(Number.isSafeInteger(width) && width >= 1))
    throw new RangeError(`Cannot search with a beam of ${width}: at least 1 expected`);
  if (!(lengthPenalty >= 0))
    throw new RangeError(`Cannot search: lengthPenalty is ${lengthPenalty}, expected a number from 0`);
  const ranked = (score: number, tokens: number) => score / tokens ** lengthPenalty;
  const finished = maxLengths.map((): { rank: number; sequence: Sequence }[] => []);
  const finish = (input: number, rank: number, made: () => Sequence) => {
    const list = finished[input];
    let at = list.length;
    while (at > 0 && list[at - 1].rank < rank) at--;
    if (at >= width) return;
    list.splice(at, 0, { rank, sequence: made() });
    list.length = Math.min(list.length, width);
  };
  let live = maxLengths.map((_, input) => ({ input, node: undefined as Node | undefined, row: input }));
  while (live.length > 0) {
    const result = await step(
      live.map(({ node }) => node?.token ?? start),
      live.map(({ row }) => row),
      live.map(({ input }) => input),
    );
    const next: typeof live = [];
    for (let from = 0; from < live.length; ) {
      const { input } = live[from];
      let to = from;
      while (to < live.length && live[to].input === input) to++;
      const candidates: { score: number; row: number; token: number; logProb: number }[] = [];
      for (let row = from; row < to; row++) {
        const { node } = live[row];
        const values = rowOf(result, row, live.length);
        const [before, length] = [node?.score ?? 0, (node?.length ?? 0) + 1];
        for (let token = 0; token < values.length; token++) {
          const score = before + values[token];
          if (score === Number.NEGATIVE_INFINITY) continue;
          if (token === end) finish(input, ranked(score, length), () => sequence(node, true, score));
          else candidates.push({ score, row, token, logProb: values[token] });
        }
      }
      // Sorting is stable: equal scores keep their order.
      candidates.sort((a, b) => b.score - a.score);
      const most = maxLengths[input];
      const worst = finished[input][width - 1]?.rank ?? Number.NEGATIVE_INFINITY;
      for (const { score, row, token, logProb } of candidates.slice(0, width)) {
        const node = child(live[row].node, token, logProb, result.positions?.[row] ?? 0);
        if (node.length === most) finish(input, ranked(score, most), () => sequence(node, false, score));
        // Scores fall with every token; the most that a longer sequence divides by is its greatest length.
        else if (ranked(score, most) > worst) next.push({ input, node, row });
      }
      from = to;
    }
    live = next;
  }
  return finished.map((list) => list.map((each) => each.sequence));
}

const child = (parent: Node | undefined, token: number, logProb: number, position: number): Node => ({
  ...{ parent, token, logProb, position },
  score: (parent?.score ?? 0) + logProb,
  length: (parent?.length ?? 0) + 1,
});

function sequence(last: Node | undefined, ended: boolean, logProbability: number): Sequence {
  const nodes: Node[] = [];
  for (let node = last; node; node = node.parent) nodes.push(node);
  nodes.reverse();
  return {
    ids: nodes.map(({ token }) => token),
    logProbabilities: nodes.map(({ logProb }) => logProb),
    positions: nodes.map(({ position }) => position),
    ...{ logProbability, ended },
  };
}
