import { type CtcOptions, ctcLoss } from "../ops/ctc.ts";
import { logSoftmaxRow, type Numbers, randomBits, someClass } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type SampleSpec } from "./op_info.ts";

type Arguments = CtcOptions & {
  readonly targets: readonly (readonly number[])[];
  readonly lengths: readonly number[];
};

const logAdd = (a: number, b: number): number => {
  const most = Math.max(a, b);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(Math.min(a, b) - most));
};

/** CTC of one sample by α and β in log space: logits (T, V), of which `frames` count. */
export function ctcOfSample(
  logits: Numbers,
  [T, V]: readonly [number, number],
  target: readonly number[],
  frames: number,
  blank = 0,
): { loss: number; gradient: Float64Array } {
  const classes = [blank, ...target.flatMap((id) => [id, blank])];
  const S = classes.length;
  const rows = Array.from({ length: frames }, (_, t) =>
    logSoftmaxRow(Array.from({ length: V }, (_, c) => logits[t * V + c])),
  );
  const walk = (times: readonly number[], states: readonly number[]): number[][] => {
    const result: number[][] = [];
    for (const t of times) {
      const before = result.at(-1);
      result.push(
        states.map((s, i) => {
          let sum = before ? before[i] : i < 2 ? 0 : -Infinity;
          if (before && i > 0) sum = logAdd(sum, before[i - 1]);
          if (before && i > 1 && classes[s] !== blank && classes[s] !== classes[states[i - 2]])
            sum = logAdd(sum, before[i - 2]);
          return sum + rows[t][classes[s]];
        }),
      );
    }
    return result;
  };
  const times = Array.from({ length: frames }, (_, t) => t);
  const states = classes.map((_, s) => s);
  const alpha = walk(times, states);
  const beta = walk(times.toReversed(), states.toReversed());
  const last = alpha.at(-1);
  const logP = last
    ? logAdd(last[S - 1], S > 1 ? last[S - 2] : -Infinity)
    : target.length === 0
      ? 0
      : -Infinity;
  const gradient = new Float64Array(T * V);
  for (let t = 0; t < frames; t++) {
    for (let c = 0; c < V; c++) gradient[t * V + c] = Math.exp(rows[t][c]);
    for (let s = 0; s < S; s++) {
      const c = classes[s];
      gradient[t * V + c] -= Math.exp(alpha[t][s] + beta[frames - 1 - t][S - 1 - s] - rows[t][c] - logP);
    }
  }
  return { loss: -logP, gradient };
}

/** Each sample's loss and gradient, and its weight in a loss that is one number. */
function losses({ logits }: Arrays, { targets, lengths, blank, reduction = "mean" }: Arguments) {
  const [B, T, V] = logits.shape;
  return targets.map((target, b) => {
    const own = logits.data.subarray(b * T * V, (b + 1) * T * V);
    return {
      ...ctcOfSample(own, [T, V], target, lengths[b], blank),
      weight: reduction === "mean" ? 1 / (B * Math.max(1, target.length)) : 1,
    };
  });
}

/** Ids of 1 … V − 1, among them repeats. */
export function someTarget(length: number, V: number, seed: number): number[] {
  const ids: number[] = [];
  for (let j = 0; j < length; j++)
    ids.push(j > 0 && randomBits(seed, 2 * j) % 7 === 0 ? ids[j - 1] : someClass(seed, 2 * j + 1, 1, V - 1));
  return ids;
}

const sample = (
  name: string,
  [T, V]: readonly [number, number],
  targets: readonly (readonly number[])[],
  lengths: readonly number[],
  options: CtcOptions = {},
  scale = 1,
): SampleSpec<Arguments> => ({
  name,
  inputs: { logits: { shape: [targets.length, T, V], fill: (v) => scale * v } },
  args: { targets, lengths, ...options },
});

const none: CtcOptions = { reduction: "none" };
const whole = (T: number, V: number, L: number, B: number) =>
  sample(
    "",
    [T, V],
    Array.from({ length: B }, (_, i) =>
      Array.from({ length: Math.max(0, L - i) }, (_, j) => 1 + ((j * j + i) % (V - 1))),
    ),
    Array.from({ length: B }, (_, i) => Math.max(1, T - 3 * i)),
    {},
    3,
  );

export const records = [
  defineOp<Arguments>({
    name: "ctcLoss",
    tolerance: 1e-6,
    gradientTolerance: 3e-6,
    run: ({ logits }, { targets, lengths, ...options }) => ctcLoss(logits, targets, lengths, options),
    reference: (inputs, args) => {
      const each = losses(inputs, args);
      if (args.reduction === "none")
        return { shape: [each.length], data: Float64Array.from(each, ({ loss }) => loss) };
      return { shape: [], data: Float64Array.of(each.reduce((sum, e) => sum + e.weight * e.loss, 0)) };
    },
    gradients: (inputs, args, dy) => ({
      logits: losses(inputs, args).flatMap((e, b) => {
        const scale = args.reduction === "none" ? dy[b] : dy[0] * e.weight;
        return Array.from(e.gradient, (g) => scale * g);
      }),
    }),
    samples: [
      sample("repeats", [41, 13], [[3, 3, 7, 1, 12, 5]], [41], none, 2),
      sample("one class besides the blank", [9, 2], [[1, 1, 1], [1]], [9, 4], none),
      sample("sure logits", [30, 8], [someTarget(7, 8, 1)], [30], none, 12),
      sample(
        "more classes than threads",
        [17, 301],
        [someTarget(5, 301, 2), [], someTarget(8, 301, 3)],
        [17, 12, 16],
        none,
        3,
      ),
      inHalf(sample("f16", [41, 13], [[3, 3, 7, 1, 12, 5], [2]], [41, 30], none, 2)),
      inHalf(sample("f16, the mean", [19, 13], [[3, 3, 7, 1], [2]], [17, 19], {}, 2)),
      sample("a sample of no frames", [6, 4], [[], [1, 2]], [0, 6], none),
      sample("400 labels", [2000, 32], [someTarget(400, 32, 4)], [2000], none, 2),
      ...(["mean", "sum", "none"] as const).map((reduction) =>
        sample(`${reduction} of three`, [9, 6], [[1, 1, 3], [], [2, 4]], [9, 5, 7], { reduction }),
      ),
      sample(
        "two lengths",
        [150, 90],
        [someTarget(70, 90, 14), someTarget(3, 90, 15)],
        [150, 31],
        { reduction: "sum" },
        3,
      ),
      whole(1, 2, 0, 1),
      whole(17, 7, 5, 2),
      whole(400, 32, 120, 1),
    ],
    bench: [
      {
        name: "10 s, 150 letters",
        inputs: { logits: [2, 499, 32] },
        args: { targets: [someTarget(150, 32, 1), someTarget(120, 32, 2)], lengths: [499, 420] },
      },
    ],
    stored: [
      {
        op: /^ctc_loss/,
        run: (i) => {
          const { values, shape } = i.integers("targets");
          const lengths = i.integers("target_lengths").values;
          const targets = lengths.map((n, b) => values.slice(b * shape[1], b * shape[1] + n));
          const out = ctcLoss(i.tensor("logits"), targets, i.integers("input_lengths").values, {
            blank: i.number("blank", 0),
            reduction: i.choice("reduction", ["mean", "sum", "none"], "mean"),
            zeroInfinity: i.flag("zero_infinity"),
          });
          return { out };
        },
      },
    ],
  }),
];
