/** Rows that a CPU adapter adds up by shuffles have the bits that barriers give them: path "cpu" has the same workgroups. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Device } from "../src/gpu/device.ts";
import { additiveScores } from "../src/ops/additive_attention.ts";
import * as ops from "../src/ops/mod.ts";
import { clipNorm } from "../src/ops/optimizer.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const { path, cpu } = device.info;
const byShuffles = path === "subgroups" && cpu;

const N = 5;
const C = 44;
/** Numbers whose sum depends on the order. */
const values = (n: number, seed: number) =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898 + seed) * 10 ** ((i * 7 + seed) % 5));
const tensor = (on: Device, shape: number[], seed: number) =>
  Tensor.from(
    on,
    values(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

/** By name, of leaves (N, C), (C) and (C). */
const bodies: Record<string, (x: Tensor, w: Tensor, b: Tensor) => Tensor> = {
  layerNorm: (x, w, b) => ops.layerNorm(x, w, b, 1e-5),
  softmax: (x) => ops.softmax(x),
  "softmax of a masked row": (x) =>
    ops.softmax(x, {
      mask: Tensor.from(
        x.device,
        Uint32Array.from({ length: C }, (_, i) => +(i % 3 === 0)),
        [C],
      ),
    }),
  logSoftmax: (x) => ops.logSoftmax(x),
  crossEntropy: (x) => ops.crossEntropy(x, [3, 1, 0, 43, 20]),
  mse: (x) => ops.mse(x, tensor(x.device, [N, C], 9)),
  sum: (x) => ops.sum(x),
  additiveScores: (x, w) => additiveScores(ops.reshape(x, [1, N, C]), ops.reshape(x, [1, N, C]), w),
  groupNorm: (x, w, b) => ops.groupNorm(ops.reshape(x, [1, N, C]), w, b, 4, 1e-5),
};

for (const [name, body] of Object.entries(bodies))
  test(`${name} has the same bits by shuffles as by barriers, and so have its gradients`, async (t) => {
    if (!byShuffles) return t.skip(`${device.info.name} goes path ${path}: it has barriers alone`);
    const other = await testDevice({ path: "cpu" });
    const [a, b] = await Promise.all(
      [device, other].map(async (on) => {
        const leaves = [tensor(on, [N, C], 1), tensor(on, [C], 2), tensor(on, [C], 3)];
        const results = scope(on, () => {
          const { outputs, gradients } = vjp(on, leaves, () => {
            const y = body(leaves[0], leaves[1], leaves[2]);
            return { outputs: [y], cotangents: [tensor(on, [...y.shape], 4)] };
          });
          return [...outputs, ...leaves.flatMap((leaf) => gradients.get(leaf) ?? [])];
        });
        return Promise.all(results.map((each) => each.read()));
      }),
    );
    assert.ok(a.length >= 2);
    assert.deepEqual(a, b);
  });

test("the norm of all gradients has the same bits by shuffles as by barriers", async (t) => {
  if (!byShuffles) return t.skip(`${device.info.name} goes path ${path}: it has barriers alone`);
  const other = await testDevice({ path: "cpu" });
  const [a, b] = await Promise.all(
    [device, other].map((on) => clipNorm(on, [tensor(on, [999], 1), tensor(on, [7], 2)], 1).read()),
  );
  assert.deepEqual(a, b);
});

test("a kernel of one subgroup a workgroup is without barriers, and any other with", () => {
  const flags = { ACTIVATION: 0, vec: true, HELD: 0, enables: "", X: "f32" };
  const text = (WG: number) => device.kernels.expanded("layer_norm", { flags, overrides: { WG } });
  assert.equal(text(8).includes("workgroupBarrier"), !(byShuffles && device.info.subgroup === 8));
  assert.match(text(64), /workgroupBarrier/);
  assert.doesNotMatch(text(64), /subgroup/);
});
