/**
 * The paths that kernels can go on this adapter, against the one that they go by default. A CPU adapter tests so what a
 * GPU gets: tiles in workgroup memory, 64 threads, no subgroups.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Device } from "../src/gpu/device.ts";
import { FEWEST_LANES, PATHS } from "../src/gpu/launch.ts";
import * as ops from "../src/ops/mod.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();
const { cpu, path: usual, subgroup } = device.info;
const possible = PATHS.filter((path) => path !== "subgroups" || subgroup >= FEWEST_LANES);
const others: Device[] = [];
for (const path of possible) {
  // Attention of path cpu compiles for a minute on lavapipe through Dawn; through wgpu it is the default there.
  if (path !== usual && !(path === "cpu" && cpu)) others.push(await testDevice({ path }));
}

/** Fails unless y and every gradient are the same by all paths. */
async function same(inputs: readonly Given[], op: (...t: Tensor[]) => Tensor, limit = 3e-6): Promise<void> {
  const a = await run(device, inputs, op);
  for (const other of others) {
    const b = await run(other, inputs, op);
    const by = `by path ${other.info.path}`;
    near(b.y, a.y, limit, `y ${by}`);
    near(b.recorded, a.recorded, limit, `the recorded y ${by}`);
    for (const [i, g] of a.gradients.entries()) near(b.gradients[i], g, limit, `gradient ${i} ${by}`);
  }
}

test("the adapter can go at least one other path", () => {
  assert.ok(possible.includes(usual));
  assert.ok(others.length >= 1);
});

const flags = (x: Tensor, shape: readonly number[], one: (i: number) => boolean) => {
  const size = shape.reduce((n, side) => n * side, 1);
  return Tensor.from(
    x.device,
    Uint32Array.from({ length: size }, (_, i) => (one(i) ? 1 : 0)),
    shape,
  );
};

test("linear() and matmul() by tiles, at sizes about the tile's and far from it", async () => {
  for (const [M, N, K] of [
    [1, 1, 1],
    [7, 17, 63],
    [65, 129, 17],
    [64, 64, 64],
    [68, 132, 20],
    [4, 8, 1000],
    [129, 64, 65],
  ]) {
    await same([given([M, K], 1), given([N, K], 2), given([N], 3)], (x, w, b) => ops.linear(x, w, b));
    await same([given([2, M, K], 1), given([2, K, N], 2)], (x, w) => ops.matmul(x, w));
    await same([given([2, M, K], 1), given([2, N, K], 2)], (x, w) => ops.matmul(x, w, { transB: true }));
  }
});

test("linear() by tiles with a fused activation and a residual", async () => {
  const inputs = [given([65, 17], 1), given([63, 17], 2), given([63], 3), given([65, 63], 4)];
  for (const activation of ["gelu", "tanh"] as const)
    await same(inputs.slice(0, 3), (x, w, b) => ops.linear(x, w, b, { activation }));
  await same(inputs, (x, w, b, residual) => ops.linear(x, w, b, { residual }));
});

test("conv1d() by tiles: strided, padded, grouped, dilated", async () => {
  for (const [B, T, C, O, k, options] of [
    [2, 65, 1, 16, 10, { stride: 5 }],
    [2, 65, 8, 16, 3, { stride: 2 }],
    [2, 63, 16, 16, 8, { padding: 4, groups: 4, drop: 1 }],
    [1, 17, 7, 9, 3, { padding: 1 }],
    [2, 33, 6, 10, 3, { groups: 2, padding: 2, dilation: 2 }],
  ] as const) {
    const groups = "groups" in options ? options.groups : 1;
    await same([given([B, T, C], 1), given([O, C / groups, k], 2), given([O], 3)], (x, w, b) =>
      ops.conv1d(x, w, b, options),
    );
  }
});

test("attention with 64 threads: head sizes, masks, dropout, two lengths", async () => {
  for (const [B, T, H, D] of [
    [1, 1, 1, 4],
    [1, 129, 1, 64],
    [2, 65, 2, 16],
  ]) {
    const packed = [given([B, T, 3 * H * D], 1)];
    await same(packed, (x) => ops.selfAttention(x, { heads: H }));
    await same(packed, (x) => {
      const mask = flags(x, [B, T], (i) => i % T < Math.max(1, T - 5 * Math.floor(i / T)));
      return ops.selfAttention(x, { heads: H, mask, dropout: { rate: 0.3, seed: 77 } });
    });
  }
  await same([given([2, 7, 8], 1), given([2, 65, 16], 2)], (q, kv) =>
    ops.crossAttention(q, kv, { heads: 2 }),
  );
});

test("norms, softmax, losses and the rest with 64 threads a row", async () => {
  for (const [N, C] of [
    [1, 1],
    [7, 17],
    [300, 65],
    [3, 1000],
  ]) {
    const affine = [given([N, C], 1), given([C], 2), given([C], 3)];
    await same(affine, (x, w, b) => ops.layerNorm(x, w, b, 1e-5), 1e-5);
    await same([given([N, C], 1, 3)], (x) => ops.softmax(x));
    const targets = Array.from({ length: N }, (_, i) => (i % 5 === 4 ? -100 : (i * 7) % C));
    await same([given([N, C], 1, 3)], (x) => ops.crossEntropy(x, targets, { labelSmoothing: 0.1 }));
    await same([given([N, C], 1)], (x) => ops.dropout(x, 0.4, { next: () => 5 }));
  }
  for (const [B, T, C, G] of [
    [2, 65, 8, 8],
    [1, 17, 12, 3],
    [1, 1000, 4, 1],
  ])
    await same(
      [given([B, T, C], 1), given([C], 2), given([C], 3)],
      (x, w, b) => ops.groupNorm(x, w, b, G, 1e-5),
      1e-5,
    );
  await same([given([2, 65, 63], 1)], (x) =>
    ops.maskedMean(
      x,
      flags(x, [2, 65], (i) => i % 4 > 0),
    ),
  );
  await same([given([5, 7], 1), given([17, 7], 2)], (w, plus) =>
    ops.embedding(
      w,
      Array.from({ length: 17 }, (_, i) => (i * i) % 5),
      [17],
      { plus },
    ),
  );
  await same([given([65, 17, 7], 1), given([1, 1, 7], 2)], (v, g) => ops.weightNorm(v, g));
});

test("ctcLoss() with a GPU's workgroups, long and short", async () => {
  for (const [B, T, V, L] of [
    [1, 1, 2, 0],
    [2, 17, 7, 5],
    [1, 400, 32, 120],
  ]) {
    const targets = Array.from({ length: B }, (_, i) =>
      Array.from({ length: Math.max(0, L - i) }, (_, j) => 1 + ((j * j + i) % (V - 1))),
    );
    const frames = targets.map((_, i) => Math.max(1, T - 3 * i));
    await same([given([B, T, V], 1, 3)], (x) => ops.ctcLoss(x, targets, frames), 1e-5);
  }
});
