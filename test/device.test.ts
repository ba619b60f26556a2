import assert from "node:assert/strict";
import { Profiler } from "../src/gpu/profiler.ts";
import { test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import type { Path } from "../src/gpu/launch.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { Linear } from "../src/nn/linear.ts";
import { Weights } from "../src/nn/weights.ts";
import { mean } from "../src/ops/reduce.ts";
import { add, full, scale } from "../src/ops/elementwise.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();

test("openDevice() finds an adapter by a part of its name in any case, and lists those at hand where none fits", async () => {
  const part = device.info.name.slice(0, 6).toUpperCase();
  const named = await openDevice(await currentHost(), { adapter: part });
  assert.equal(named.info.name, device.info.name);
  named.dispose();
  await assert.rejects(openDevice(await currentHost(), { adapter: "no such adapter" }), {
    message: /^Cannot find adapter 'no such adapter': available are ./,
  });
});

test("openDevice() takes the path asked for, and says why it cannot", async () => {
  const host = await currentHost();
  const { cpu, subgroup, path } = device.info;
  assert.equal(path, !cpu ? "portable" : subgroup >= 8 ? "subgroups" : "cpu");
  for (const path of ["portable", "cpu"] as const)
    assert.deepEqual((await testDevice({ path })).info, { ...device.info, path });
  await assert.rejects(testDevice({ path: "fast" as Path }), {
    name: "RangeError",
    message: 'Cannot take path "fast": there are portable, cpu, subgroups',
  });
  const adapter = (min: number | undefined, max: number | undefined): Host => ({
    ...host,
    async gpu(options) {
      const found = (await (await host.gpu(options)).requestAdapter())!;
      const { vendor, architecture, device, description, isFallbackAdapter } = found.info;
      const lanes = { subgroupMinSize: min, subgroupMaxSize: max };
      const info = { vendor, architecture, device, description, isFallbackAdapter, ...lanes };
      const features = new Set([...found.features, "subgroups"]);
      const limits = found.limits;
      const requestDevice = () => found.requestDevice();
      return { requestAdapter: async () => ({ info, features, limits, requestDevice }) } as unknown as GPU;
    },
  });
  for (const [min, max, why] of [
    [undefined, undefined, "has no subgroups of one fixed size"],
    [8, 32, "has no subgroups of one fixed size"],
    [4, 4, "has subgroups of 4 lanes"],
  ] as const)
    await assert.rejects(openDevice(adapter(min, max), { path: "subgroups" }), {
      message: `Cannot take path subgroups: ${device.info.name} ${why}, at least 8 lanes expected`,
    });
  const given = await openDevice(adapter(8, 8), { path: "subgroups" });
  assert.deepEqual([given.info.path, given.info.subgroup], ["subgroups", 8]);
  given.dispose();
});

test("Device takes more dispatches than one submit holds, in order", async () => {
  const y = scope(device, () => {
    let sum = full(device, [5], 0);
    for (let i = 0; i < 300; i++) sum = add(sum, full(device, [5], i));
    return sum;
  });
  assert.deepEqual(await y.read(), new Float32Array(5).fill((299 * 300) / 2));
  y.release();
});

test("Device reads many tensors at once, and parts of one", async () => {
  const tensors = Array.from({ length: 9 }, (_, i) => full(device, [i + 1], i));
  const values = await Promise.all(tensors.map((t) => t.read()));
  for (const [i, v] of values.entries()) assert.deepEqual(v, new Float32Array(i + 1).fill(i));
  const ramp = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [4]);
  assert.deepEqual([...new Float32Array(await device.read(ramp.buffer, 8, 4))], [2, 3]);
  assert.equal((await device.read(ramp.buffer, 0)).byteLength, 0);
  for (const t of [...tensors, ramp]) t.release();
});

test("Device.precompile() makes the pipelines that the body needs, so that the next run makes none", async () => {
  const own = await testDevice();
  const body = () => scope(own, () => void scale(full(own, [9], 1), 2));
  let compiled = 0;
  await own.precompile(body, (n) => {
    compiled = n;
  });
  assert.equal(compiled, 2);
  const { pipelines } = own.counters;
  body();
  await own.idle();
  assert.equal(own.counters.pipelines, pipelines);
});

test("weights may be read while precompile() compiles what uses them, gradients included", async () => {
  const own = await testDevice();
  const weights = new Weights(own, { seed: 1 });
  const layer = new Linear(weights.at("layer"), 8, 4);
  const x = full(own, [3, 8], 1);
  const body = () =>
    scope(own, () => {
      const parameters = weights.parameters.map((p) => p.value);
      const { gradients } = valueAndGrad(own, parameters, () => mean(layer.forward(x)));
      assert.ok(parameters.every((p) => gradients.get(p)));
    });
  assert.throws(body, /layer\.weight \(4, 8\): it has no value yet/);
  const planned = own.plan(body).length;
  await Promise.all([own.precompile(body), weights.initialize()]);
  const { pipelines } = own.counters;
  assert.equal(own.plan(body).length, planned);
  body();
  await own.idle();
  assert.equal(own.counters.pipelines, pipelines);
  weights.dispose();
  assert.throws(() => own.plan(body), /its weights were disposed/);
  x.release();
  assert.equal(own.pool.statistics.live, 0);
});

test("a CPU adapter gets the first dispatch of a kernel at once, to compile it beside the recording of the next", async () => {
  const own = await testDevice();
  const first = own.info.cpu ? 1 : 0;
  scope(own, () => {
    const x = full(own, [5], 1);
    assert.equal(own.recorder.submits, first);
    scale(x, 2);
    assert.equal(own.recorder.submits, 2 * first);
    scale(x, 3);
    assert.equal(own.recorder.submits, 2 * first);
  });
});

test("Device profiles dispatches by label, longest first", async (t) => {
  if (!device.info.timestamps) {
    t.diagnostic(`${device.info.name} has no timestamps: it must say so`);
    assert.throws(() => device.startProfile(), { message: /^Cannot profile: .* has no timestamp-query$/ });
    return;
  }
  device.startProfile();
  scope(device, () => {
    const x = full(device, [100_000], 1);
    device.labelled("outer", () => device.labelled("inner", () => [scale(x, 2), scale(x, 3)]));
  });
  const rows = await device.endProfile();
  const counts = Object.fromEntries(rows.map((r) => [r.label, r.count]));
  assert.deepEqual(counts, { "outer.inner/elementwise.scale": 2, "elementwise.fill": 1 });
  assert.ok(
    rows.every((r, i) => r.milliseconds >= 0 && (i === 0 || r.milliseconds <= rows[i - 1].milliseconds)),
  );
});

test("a profile tells each dispatch apart, in as many submits as its timestamps need", async (t) => {
  const own = await testDevice();
  if (!own.info.timestamps) return t.diagnostic(`${own.info.name} has no timestamps`);
  const nowhere = { phase: "", part: "", layer: "" };
  const profiler = new Profiler(own.gpu, own.pool.statistics, () => nowhere, 8);
  own.recorder.profiler = profiler;
  own.recorder.observer = profiler;
  scope(own, () => {
    const x = full(own, [1000], 1);
    for (let i = 0; i < 9; i++) scale(x, i + 2);
  });
  await own.endProfile();
  const { events, cpu, memory } = profiler;
  assert.deepEqual(
    events.map(({ kernel, entry }) => `${kernel}.${entry}`),
    ["elementwise.fill", ...new Array(9).fill("elementwise.scale")],
  );
  // Four dispatches have eight timestamps.
  assert.deepEqual(
    events.map(({ submit }) => submit),
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2],
  );
  assert.equal(cpu.filter(({ kind }) => kind === "submit").length, 3);
  for (const { begin, end, flops, bytes, shape, grid, variant, recording } of events.slice(1)) {
    assert.ok(begin > 0 && end >= begin && recording > 0);
    assert.deepEqual([flops, bytes, shape, grid], [1000, 8000, { quads: 250 }, [4, 1, 1]]);
    assert.equal(variant, "QUADS=1 X=f32 WG=64");
  }
  assert.ok(memory.length > 1 && memory.every(([, live, allocated]) => allocated >= live));
  assert.equal(own.recorder.observer, undefined);
});

test("Device says that the GPU was lost", async () => {
  const own = await testDevice();
  const x = full(own, [4], 1);
  await own.idle();
  own.gpu.destroy();
  await own.gpu.lost;
  await assert.rejects(x.read(), { message: /^Lost the GPU \(.+\): / });
});

test("Device says that it was disposed", async () => {
  const own = await openDevice(await currentHost());
  const x = full(own, [4], 1);
  own.dispose();
  own.dispose();
  await assert.rejects(x.read(), { message: "Cannot use the device: it was disposed" });
});
