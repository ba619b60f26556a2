import { type CrossEntropyOptions, crossEntropy } from "../ops/cross_entropy.ts";
import type { Reduction } from "../ops/ctc.ts";
import { logSoftmaxRow, type Numbers, someClass } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type InputSpec } from "./op_info.ts";

type Arguments = Omit<CrossEntropyOptions, "weight"> & { readonly targets: readonly number[] };

/** A row's loss, its gradient (V) on the logits, and the weight by which a mean divides. */
function lossOfRow(logits: Numbers, target: number, args: Arguments, weight?: Numbers) {
  const { labelSmoothing = 0, ignoreIndex = -100 } = args;
  const V = logits.length;
  if (target === ignoreIndex) return { loss: 0, gradient: new Array<number>(V).fill(0), weight: 0 };
  const w = Array.from({ length: V }, (_, c) => weight?.[c] ?? 1);
  // The loss is −Σ q_c·log p_c with these q.
  const q = w.map((v, c) => v * ((c === target ? 1 - labelSmoothing : 0) + labelSmoothing / V));
  const total = q.reduce((a, b) => a + b, 0);
  const logP = logSoftmaxRow(logits);
  return {
    loss: -q.reduce((sum, v, c) => sum + (v === 0 ? 0 : v * logP[c]), 0),
    gradient: logP.map((v, c) => Math.exp(v) * total - q[c]),
    weight: w[target],
  };
}

/** Losses of the rows, and what a loss that is one number divides their sum by. */
function losses({ logits, weight }: Arrays, args: Arguments) {
  const [, V] = logits.shape;
  const rows = args.targets.map((target, n) =>
    lossOfRow(logits.data.subarray(n * V, (n + 1) * V), target, args, weight?.data),
  );
  const divisor = args.reduction === "sum" ? 1 : rows.reduce((sum, row) => sum + row.weight, 0);
  return { rows, divisor, each: args.reduction === "none" };
}

const reductions: Reduction[] = ["mean", "sum", "none"];
const spread = (N: number, V: number): InputSpec => ({ shape: [N, V], fill: (v) => 3 * v });
const weight = (V: number): InputSpec => ({ shape: [V], fill: (v) => 0.2 + Math.abs(v), gradient: false });

export const records = [
  defineOp<Arguments>({
    name: "crossEntropy",
    tolerance: 1e-6,
    run: ({ logits, weight }, { targets, ...options }) =>
      crossEntropy(logits, targets, { ...options, weight }),
    reference: (inputs, args) => {
      const { rows, divisor, each } = losses(inputs, args);
      const all = Float64Array.from(rows, (row) => row.loss);
      if (each) return { shape: [all.length], data: all };
      return { shape: [], data: Float64Array.of(all.reduce((a, b) => a + b, 0) / divisor) };
    },
    gradients: (inputs, args, dy) => {
      const { rows, divisor, each } = losses(inputs, args);
      const scale = (n: number) => (each ? dy[n] : dy[0] / divisor);
      return { logits: rows.flatMap((row, n) => row.gradient.map((g) => g * scale(n))) };
    },
    samples: [
      ...[
        [13, 7],
        [1, 1],
        [70, 4],
        [3, 1023],
      ].flatMap(([N, V]) => {
        const targets = Array.from({ length: N }, (_, n) =>
          n % 5 === 3 ? -1 : someClass(N * V, n, 0, V - 1),
        );
        return reductions.flatMap((reduction) => [
          { inputs: { logits: spread(N, V) }, args: { targets, ignoreIndex: -1, reduction } },
          {
            inputs: { logits: spread(N, V), weight: weight(V) },
            args: { targets, ignoreIndex: -1, reduction, labelSmoothing: 0.2 },
          },
        ]);
      }),
      ...[
        [7, 17],
        [300, 65],
        [3, 1000],
      ].map(([N, V]) => ({
        inputs: { logits: spread(N, V) },
        args: {
          targets: Array.from({ length: N }, (_, i) => (i % 5 === 4 ? -100 : (i * 7) % V)),
          labelSmoothing: 0.1,
        },
      })),
      ...reductions.map((reduction) =>
        inHalf({ inputs: { logits: spread(9, 7) }, args: { targets: Array(9).fill(3), reduction } }),
      ),
    ],
    bench: [
      {
        name: "BERT's vocabulary",
        inputs: { logits: [128, 30522] },
        args: { targets: Array.from({ length: 128 }, (_, n) => someClass(1, n, 0, 30521)) },
      },
    ],
    stored: [
      {
        op: /^cross_entropy$/,
        run: (i) => ({
          out: crossEntropy(i.tensor("x"), i.integers("t").values, {
            weight: i.named("class_weight"),
            labelSmoothing: i.number("label_smoothing", 0),
            ignoreIndex: i.number("ignore_index", -100),
            reduction: i.choice("reduction", ["mean", "sum", "none"], "mean"),
          }),
        }),
      },
    ],
  }),
];
