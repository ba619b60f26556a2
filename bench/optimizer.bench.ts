/** AdamW over all of BERT-base, beside a plain copy of the same bytes. */
import process from "node:process";
import { full, scale } from "../src/ops/elementwise.ts";
import { adamStep } from "../src/ops/optimizer.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { openBenchDevice } from "./device.ts";
import { time } from "./measure.ts";

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
  async check() {
    const copied = scope(device, () => scale(source, 1));
    const answer = { got: await copied.read(), want: await source.read() };
    copied.release();
    return answer;
  },
  bytes: 28 * parameters,
});
/** What the first step makes of parameters, moments and gradients that are all `x`, in float64. */
function stepped(x: number): number[] {
  const m = rule.beta1 * x + (1 - rule.beta1) * x;
  const v = rule.beta2 * x + (1 - rule.beta2) * x * x;
  const [mean, square] = [m / (1 - rule.beta1), v / (1 - rule.beta2)];
  return [x * (1 - rule.rate * rule.decay) - (rule.rate * mean) / (Math.sqrt(square) + rule.eps), m, v];
}
const adam = await time(device, {
  name: `AdamW (${parameters} parameters)`,
  run: () => {
    for (const [p, g, m, v] of sets) adamStep(p, g, m, v, clip, rule);
    return undefined;
  },
  async check() {
    const [p, g, m, v] = Array.from({ length: 4 }, () => full(device, [33, 31], 0.01));
    adamStep(p, g, m, v, clip, rule);
    const got = [await p.read(), await m.read(), await v.read()].flatMap((values) => [...values]);
    for (const tensor of [p, g, m, v]) tensor.release();
    return { got, want: stepped(0.01).flatMap((value) => new Array<number>(33 * 31).fill(value)) };
  },
  bytes: 28 * parameters,
});
console.log(`  AdamW / copy of the same bytes: ${(adam / copy).toFixed(2)}`);
process.exit(0);
