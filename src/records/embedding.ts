import { embedding } from "../ops/embedding.ts";
import type { Shape } from "../tensor/shape.ts";
import { array64, someClass } from "./float64.ts";
import { type Arrays, defineOp, inHalf } from "./op_info.ts";

interface Arguments {
  readonly ids: readonly number[];
  readonly shape: Shape;
  readonly paddingIndex?: number;
  readonly dtype?: "f16";
}

const someIds = (N: number, V: number) => Array.from({ length: N }, (_, n) => someClass(V, n, 0, V - 1));

export const records = [
  defineOp<Arguments>({
    name: "embedding",
    run: ({ w, plus }, { ids, shape, ...options }) => embedding(w, ids, shape, { plus, ...options }),
    reference: ({ w, plus }: Arrays, { ids, shape }) => {
      const C = w.shape[1];
      return array64(
        [...shape, C],
        (i) => w.data[ids[Math.floor(i / C)] * C + (i % C)] + (plus?.data[i] ?? 0),
      );
    },
    gradients: ({ w }, { ids, paddingIndex }, dy) => {
      const C = w.shape[1];
      const dw = new Float64Array(w.data.length);
      dy.forEach((v, i) => {
        const id = ids[Math.floor(i / C)];
        if (id !== paddingIndex) dw[id * C + (i % C)] += v;
      });
      return { w: dw, plus: dy };
    },
    samples: [
      [7, 7, 17],
      [1, 1, 1],
      [1023, 20, 5],
      [5, 33, 1023],
    ].flatMap(([V, C, N]) => [
      { inputs: { w: [V, C] }, args: { ids: someIds(N, V), shape: [N] } },
      { inputs: { w: [V, C], plus: [1, N, C] }, args: { ids: someIds(N, V), shape: [1, N] } },
      {
        inputs: { w: [V, C], plus: [1, N, C] },
        args: { ids: someIds(N, V), shape: [1, N], paddingIndex: 0 },
        differences: false as const,
      },
      {
        inputs: { w: { shape: [V, C], dtype: "f16" as const }, plus: [N, C] },
        args: { ids: someIds(N, V), shape: [N] },
        name: "an f16 table",
      },
      inHalf({ inputs: { w: [V, C], plus: [N, C] }, args: { ids: someIds(N, V), shape: [N] } }, ["plus"]),
      {
        inputs: { w: [V, C] },
        args: { ids: someIds(N, V), shape: [N], dtype: "f16" as const },
        ...{ tolerance: 1e-3, name: "to f16" },
      },
    ]),
    bench: [
      {
        name: "BERT-base, 512 tokens",
        inputs: { w: [30522, 768], plus: [512, 768] },
        args: { ids: someIds(512, 30522), shape: [512] },
      },
    ],
    stored: [
      {
        op: /^embedding$/,
        run: (i) => {
          const { values, shape } = i.integers("ids");
          return {
            out: embedding(i.tensor("w"), values, shape, { paddingIndex: i.number("padding_idx", -1) }),
          };
        },
      },
    ],
  }),
];
