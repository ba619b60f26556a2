import { broadcast, reduceTo } from "../ops/broadcast.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import { array64, columnSums } from "./float64.ts";
import { defineOp, type InputSpec } from "./op_info.ts";

const combine = {
  add: (a: number, b: number) => 0.5 * a - 3 * b,
  mul: (a: number, b: number) => a * b,
  div: (a: number, b: number) => a / b,
};
type Entry = keyof typeof combine;
const entries = Object.keys(combine) as Entry[];

/** Far enough from 0 to be divided by. */
const away = (shape: Shape): InputSpec => ({ shape, fill: (v) => v + Math.sign(v) });

/** The kernel itself; the records of add, sub, mul and div hold all that its shapes can be. */
export const records = [
  defineOp<{ entry: Entry }>({
    name: "broadcast",
    tolerance: 1e-6,
    differentiable: false,
    run: ({ a, b }, { entry }) => broadcast(entry, entry, a, b, 0.5, -3),
    reference: ({ a, b }, { entry }) =>
      array64(a.shape.length > b.shape.length ? a.shape : b.shape, (i) =>
        combine[entry](a.data[i % a.data.length], b.data[i % b.data.length]),
      ),
    samples: entries.flatMap((entry) => [
      { inputs: { a: away([31, 33]), b: away([33]) }, args: { entry } },
      { inputs: { a: away([33]), b: away([31, 33]) }, args: { entry } },
    ]),
    bench: [{ inputs: { a: [3199, 512], b: [512] }, args: { entry: "add" } }],
  }),
  defineOp<{ shape: Shape }>({
    name: "reduceTo",
    differentiable: false,
    run: ({ gradient }, { shape }) => reduceTo(gradient, shape),
    reference: ({ gradient }, { shape }) => ({ shape, data: columnSums(gradient.data, sizeOf(shape)) }),
    samples: [
      { inputs: { gradient: [33, 5, 7] }, args: { shape: [5, 7] } },
      { inputs: { gradient: [33, 5, 7] }, args: { shape: [] } },
      { inputs: { gradient: [5, 7] }, args: { shape: [5, 7] } },
      { inputs: { gradient: [0, 7] }, args: { shape: [7] } },
    ],
    bench: [{ inputs: { gradient: [3199, 512] }, args: { shape: [512] } }],
  }),
];
