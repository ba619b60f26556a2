/** AdamW over all of BERT-base, beside a plain copy of the same bytes. */
import process from "node:process";
import { full, scale } from "../src/ops/elementwise.ts";
import { adamStep } from "../src/ops/optimizer.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { openBenchDevice, time } from "./measure.ts";

const device = await openBenchDevice();
console.log(`AdamW, f32, ${device.info.name}`);
// AdamW reads p, g, m, v and writes p, m, v: 28 bytes a parameter; a copy of as many bytes moves 14 in and 14 out.
const shapes = [
  [768, 768],
  [3072, 768],
  [768, 3072],
  [2304, 768],
];
const sets = shapes.map((shape) => Array.from({ length: 4 }, () => full(device, shape, 0.01)));
const parameters = shapes.reduce((n, [r, c]) => n + r * c, 0);
const clip = Tensor.from(device, Float32Array.of(1, 0, 1), [3]);
const rule = { rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, step: 1, decoupled: true };
const source = full(device, [Math.ceil((parameters * 28) / 8)], 1);
const copy = await time(device, {
  name: `copy of AdamW's bytes (${parameters} parameters)`,
  run: () => scale(source, 1),
  bytes: 28 * parameters,
});
const adam = await time(device, {
  name: `AdamW (${parameters} parameters)`,
  run: () => {
    for (const [p, g, m, v] of sets) adamStep(p, g, m, v, clip, rule);
    return undefined;
  },
  bytes: 28 * parameters,
});
console.log(`  AdamW / copy of the same bytes: ${(adam / copy).toFixed(2)}`);
process.exit(0);
