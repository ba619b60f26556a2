import { concat, maskRows, slice } from "../ops/frames.ts";
import { type Array64, columnSums, map } from "./float64.ts";
import { defineOp, inHalf, type InputSpec } from "./op_info.ts";

const rows = (shape: number[]): InputSpec => ({ shape, dtype: "u32", fill: (_, n) => (n % 3 === 1 ? 0 : 1) });

/** Columns start … start + width − 1. */
function columns({ shape, data }: Array64, start: number, width: number): Array64 {
  const C = shape.at(-1) ?? 1;
  const y = data.filter((_, i) => i % C >= start && i % C < start + width);
  return { shape: [...shape.slice(0, -1), width], data: y };
}

const sizes: [N: number, C: number][] = [
  [7, 3],
  [1, 1],
  [1023, 5],
];

export const records = [
  defineOp({
    name: "maskRows",
    tolerance: 0,
    gradientTolerance: 1e-6, // the fill's gradient is a sum; the rows' are moved
    run: ({ x, keep, fill }) => maskRows(x, keep, fill),
    reference: ({ x, keep, fill }) => {
      const C = x.shape.at(-1) ?? 1;
      return map(x, (v, i) => (keep.data[Math.floor(i / C)] ? v : (fill?.data[i % C] ?? 0)));
    },
    gradients: ({ x, keep }, _, dy) => {
      const C = x.shape.at(-1) ?? 1;
      const open = (i: number) => keep.data[Math.floor(i / C)] === 1;
      return {
        x: dy.map((v, i) => (open(i) ? v : 0)),
        fill: columnSums(
          dy.map((v, i) => (open(i) ? 0 : v)),
          C,
        ),
      };
    },
    samples: [
      ...sizes.flatMap(([N, C]) => [
        { inputs: { x: [N, C], keep: rows([N]), fill: [C] } },
        { inputs: { x: [N, C], keep: rows([N]) }, gradientTolerance: 0 },
      ]),
      inHalf({ inputs: { x: [17, 5], keep: rows([17]), fill: [5] } }, ["x", "fill"]),
    ],
    bench: [{ inputs: { x: [2, 249, 1024], keep: rows([2, 249]), fill: [1024] } }],
  }),
  defineOp({
    name: "concat",
    tolerance: 0,
    run: (parts) => concat(Object.values(parts)),
    reference: (parts) => {
      const all = Object.values(parts);
      const rowsOf = all.map((p) => ({ width: p.shape.at(-1) ?? 1, data: p.data }));
      const W = rowsOf.reduce((sum, { width }) => sum + width, 0);
      const y = Array.from({ length: all[0].data.length / rowsOf[0].width }, (_, n) =>
        rowsOf.flatMap(({ width, data }) => [...data.subarray(n * width, (n + 1) * width)]),
      );
      return { shape: [...all[0].shape.slice(0, -1), W], data: Float64Array.from(y.flat()) };
    },
    gradients: (parts, _, dy) => {
      const widths = Object.values(parts).map((p) => p.shape.at(-1) ?? 1);
      const W = widths.reduce((a, b) => a + b, 0);
      const starts = widths.map((__, i) => widths.slice(0, i).reduce((a, b) => a + b, 0));
      const whole = { shape: [dy.length / W, W], data: dy };
      return Object.fromEntries(
        Object.keys(parts).map((name, i) => [name, columns(whole, starts[i], widths[i]).data]),
      );
    },
    samples: [
      ...sizes.map(([N, C]) => ({ inputs: { a: [N, C], b: [N, 1], c: [N, 2 * C] } })),
      { inputs: { a: [2, 2, 3], b: [2, 2, 4] } },
      inHalf({ inputs: { a: [2, 2, 3], b: [2, 2, 4] } }),
    ],
    bench: [{ inputs: { a: [2, 249, 768], b: [2, 249, 768] } }],
  }),
  defineOp<{ start: number; width: number }>({
    name: "slice",
    tolerance: 0,
    run: ({ x }, { start, width }) => slice(x, start, width),
    reference: ({ x }, { start, width }) => columns(x, start, width),
    gradients: ({ x }, { start, width }, dy) => {
      const W = x.shape.at(-1) ?? 1;
      return {
        x: x.data.map((_, i) => {
          const c = (i % W) - start;
          return c >= 0 && c < width ? dy[Math.floor(i / W) * width + c] : 0;
        }),
      };
    },
    samples: [
      ...sizes.flatMap(([N, C]) =>
        [
          { start: 0, width: C },
          { start: C, width: 1 },
          { start: C + 1, width: 2 * C },
        ].map((args) => ({ inputs: { x: [N, 3 * C + 1] }, args })),
      ),
      { inputs: { x: [3, 4] }, args: { start: 0, width: 4 }, name: "all" },
      inHalf({ inputs: { x: [3, 7] }, args: { start: 2, width: 4 } }),
    ],
    bench: [{ inputs: { x: [2, 249, 3072] }, args: { start: 1024, width: 1024 } }],
  }),
];
