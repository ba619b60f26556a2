import assert from "node:assert/strict";
import { test } from "node:test";
import { twin, type Variant } from "../src/gpu/kernel.ts";
import { full } from "../src/ops/elementwise.ts";
import "../src/ops/layer_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { FLAGS } from "./elementwise_flags.ts";

const device = await testDevice();
const k = twin("elementwise", {});
const dims = { quads: 1, alpha: 1, beta: 1 };

/** Runs elementwise.add with what `change` makes of four good arguments. */
function add(change: {
  buffers?: Record<string, Tensor | undefined>;
  dims?: Record<string, number | undefined>;
  grid?: readonly [number];
}) {
  scope(device, () => {
    const good = { a: full(device, [4], 1), b: full(device, [4], 2), y: full(device, [4], 0) };
    const given = <T>(of: Record<string, T | undefined>) =>
      Object.fromEntries(Object.entries(of).filter(([, v]) => v !== undefined)) as Record<string, T>;
    k.run(
      "add",
      given({ ...good, ...change.buffers }),
      given({ ...dims, ...change.dims }),
      change.grid ?? [1],
      { flags: FLAGS },
    );
  });
}

test("Twin.run() says which buffer is missing, unknown or shared", () => {
  const [t, u] = [full(device, [4], 1), full(device, [4], 1)];
  const says = (buffers: Record<string, Tensor | undefined>, message: string) =>
    assert.throws(() => add({ buffers }), { message: `Cannot run elementwise.add: ${message}` });
  says({ b: undefined }, "no buffer was given for b");
  says({ c: t }, "the kernel binds no c");
  says({ a: t, y: t }, "input a shares its buffer with an output");
  assert.doesNotThrow(() => add({ buffers: { a: t, b: t, y: u } }), "two inputs may be one buffer");
  for (const each of [t, u]) each.release();
});

test("Twin.run() says which outputs share a buffer", () => {
  const t = full(device, [1, 4], 1);
  const norm = twin("layer_norm", {});
  const buffers = { x: full(device, [1, 4], 1), w: t, b: t, y: full(device, [4], 0) };
  const mean = full(device, [1], 0);
  const given = { ...buffers, mean, rstd: mean };
  assert.throws(
    () =>
      norm.run("forward", given, { N: 1, C: 1, width: 4, eps: 0, step: 0 }, [1], {
        flags: { vec: true, ACTIVATION: 0, HELD: 0, enables: "", X: "f32" },
      }),
    { message: "Cannot run layer_norm.forward: rstd shares its buffer with another output" },
  );
  for (const each of [t, buffers.x, buffers.y, mean]) each.release();
});

test("Twin.run() says which dimension is missing or unknown", () => {
  assert.throws(() => add({ dims: { alpha: undefined } }), {
    message: "Cannot run elementwise.add: Dims.alpha was not given",
  });
  assert.throws(() => add({ dims: { gamma: 1 } }), {
    message: "Cannot run elementwise.add: Dims has no gamma",
  });
});

test("Twin.run() can go on after many refused dispatches", async () => {
  for (let i = 0; i < 300; i++) assert.throws(() => add({ dims: { alpha: undefined } }));
  const y = full(device, [4], 3);
  assert.deepEqual([...(await y.read())], [3, 3, 3, 3]);
  y.release();
});

test("Twin.run() refuses a grid beyond the adapter's limit, and records nothing for an empty one", () => {
  const most = device.limits.maxComputeWorkgroupsPerDimension;
  assert.throws(() => add({ grid: [most + 1] }), {
    name: "RangeError",
    message: `Cannot run elementwise.add: a grid of ${most + 1}×1×1 workgroups exceeds ${most} in one dimension`,
  });
  const before = device.recorder.dispatches;
  add({ grid: [0] });
  assert.equal(device.recorder.dispatches - before, 3, "the three fills alone");
});

test("Twin.run() refuses a grid or a dimension of no possible value", () => {
  for (const [x, shown] of [
    [-1, "-1×1×1"],
    [1.5, "1.5×1×1"],
    [Number.NaN, "NaN×1×1"],
  ] as const)
    assert.throws(() => add({ grid: [x] }), {
      name: "RangeError",
      message: `Cannot run elementwise.add: a grid is ${shown}, whole numbers of workgroups expected`,
    });
  for (const quads of [-1, 1.5, Number.NaN, 2 ** 32])
    assert.throws(() => add({ dims: { quads } }), {
      name: "RangeError",
      message: `Cannot run elementwise.add: Dims.quads is ${quads}, a value of u32 expected`,
    });
  assert.doesNotThrow(() => add({ dims: { quads: 0, alpha: Number.NaN, beta: Number.POSITIVE_INFINITY } }));
});

test("Twin.run() refuses an entry point, an override and a flag that the kernel does not have", () => {
  const t = full(device, [4], 1);
  const run = (entry: string, variant: Variant) => () =>
    k.run(entry, { y: t }, { quads: 1, alpha: 1, beta: 1 }, [1], { flags: FLAGS, ...variant });
  assert.throws(run("fil", {}), {
    message:
      "Cannot run elementwise.fil: the kernel has no entry point fil (it has: add, scale, mul, div, shift, fill)",
  });
  assert.throws(run("fill", { overrides: { WG: 64, TILE: 4 } }), {
    message: "Cannot run elementwise.fill: the kernel has no override TILE (it has: WG)",
  });
  assert.throws(run("fill", { flags: { ...FLAGS, vec: true } }), {
    message: "Cannot expand kernel elementwise: it has no flag vec (it has: enables, X, QUADS)",
  });
  t.release();
});

test("KernelLibrary compiles each combination of entry point, flags and constants once", () => {
  const before = device.counters.pipelines;
  const variant = { flags: FLAGS, overrides: { WG: 32 } };
  const once = device.kernels.pipeline("elementwise", "add", variant);
  assert.equal(device.kernels.pipeline("elementwise", "add", variant), once);
  assert.notEqual(device.kernels.pipeline("elementwise", "add", { ...variant, overrides: { WG: 16 } }), once);
  assert.equal(device.counters.pipelines - before, 2);
});

test("Twin.run() needs a buffer", () => {
  assert.throws(() => k.run("fill", {}, dims, [1]), {
    message: "Cannot run elementwise.fill: no buffer was given",
  });
});
