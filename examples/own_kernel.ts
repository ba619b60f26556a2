/** An operator of one's own: Swish, x·σ(βx), with its kernel, its backward, and a check of its gradient. */
import { currentHost, gridFor, openDevice, record, Tensor, twin, vjp } from "wavegate";

const kernel = twin(
  "examples/swish",
  `
struct Dims { size: u32, beta: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> d: Dims;
override WG: u32 = 64;

#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.size) { y[i] = x[i] / (1.0 + exp(-d.beta * x[i])); }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let s = 1.0 / (1.0 + exp(-d.beta * x[i]));
  dx[i] = dy[i] * s * (1.0 + d.beta * x[i] * (1.0 - s));
}`,
);

/** x·σ(βx), pointwise.   x (…) → y (…) */
export function swish(x: Tensor, beta = 1): Tensor {
  const dims = { size: x.size, beta };
  const grid = gridFor(x.size, 64);
  const y = x.like();
  kernel.run("forward", { x, y }, dims, grid);
  return record("swish", [x], y, [x], (dy) => {
    const dx = x.like();
    kernel.run("backward", { x, dy, dx }, dims, grid);
    return [dx];
  });
}

const device = await openDevice(await currentHost());
const values = Float32Array.from({ length: 9 }, (_, i) => i - 4);
const x = Tensor.from(device, values, [3, 3]);
const ones = Tensor.from(device, new Float32Array(9).fill(1), [3, 3]);
const { outputs, gradients } = vjp(device, [x], () => ({ outputs: [swish(x, 1.5)], cotangents: [ones] }));

const truth = (v: number) => v / (1 + Math.exp(-1.5 * v));
const y = await outputs[0].read();
const dx = await gradients.get(x)?.read();
const worst = (found: ArrayLike<number> = [], expected: (v: number) => number) =>
  Math.max(...Array.from(values, (v, i) => Math.abs(found[i] - expected(v))));
console.log(`forward: ${worst(y, truth).toExponential(1)} from float64`);
const slope = (v: number) => (truth(v + 1e-4) - truth(v - 1e-4)) / 2e-4;
console.log(`backward: ${worst(dx, slope).toExponential(1)} from central differences in float64`);
for (const tensor of [x, ones, ...outputs, ...gradients.values()]) tensor.release();
device.dispose();
