/** Kernels that are not the package's: their source comes from twin(), before or after a device is opened. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Device } from "../src/gpu/device.ts";
import { type Twin, twin } from "../src/gpu/kernel.ts";
import { gridFor } from "../src/gpu/launch.ts";
import { full } from "../src/ops/elementwise.ts";
import { map, sigmoid } from "../src/records/float64.ts";
import { defineOp } from "../src/records/op_info.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { record } from "../src/tensor/tape.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { assertSample } from "./records_fixture.ts";

/** y = scale·x·sigmoid(x), four values a thread, by the package's sigmoid. */
const swish = `
struct Dims { quads: u32, scale: f32 }
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> d: Dims;
override WG: u32 = 64;
#include "lib/sigmoid.wgsl"
#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
#if \${scaled}
  y[i] = d.scale * x[i] * sigmoid(x[i]);
#else
  y[i] = x[i] * sigmoid(x[i]);
#endif
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  let s = sigmoid(x[i]);
  let slope = s + x[i] * s * sigmoid(-x[i]);
#if \${scaled}
  y[i] = d.scale * dy[i] * slope;
#else
  y[i] = dy[i] * slope;
#endif
}`;

function operator(k: Twin, scale = 1, WG = 32): (x: Tensor) => Tensor {
  return (x) => {
    const quads = Math.ceil(x.size / 4);
    const variant = { flags: { scaled: scale !== 1 }, overrides: { WG } };
    const y = x.like();
    k.run("forward", { x, y }, { quads, scale }, gridFor(quads, WG), variant);
    return record("swish", [x], y, [x], (dy) => {
      const dx = x.like();
      k.run("backward", { x, dy, y: dx }, { quads, scale }, gridFor(quads, WG), variant);
      return [dx];
    });
  };
}

async function agrees(device: Device, op: (x: Tensor) => Tensor, scale: number): Promise<void> {
  const { samples } = defineOp({
    name: "swish",
    run: ({ x }) => op(x),
    reference: ({ x }) => map(x, (v) => scale * v * sigmoid(v)),
    samples: [{ inputs: { x: { shape: [37], fill: (_, i) => (i - 18) / 5 } } }, { inputs: { x: [7, 5] } }],
    bench: [],
  });
  for (const sample of samples) await assertSample(device, sample);
}

const early = twin("test/early", swish);
const device = await testDevice();
const late = twin("test/late", swish);

test("twin() with a source declared before the device was opened computes, and its gradient is right", async () => {
  await agrees(device, operator(early), 1);
  await agrees(device, operator(early, 1.5), 1.5);
});

test("twin() with a source declared after the device was opened computes, and its gradient is right", async () => {
  await agrees(device, operator(late), 1);
  await agrees(device, operator(late, 0.5, 64), 0.5);
});

test("Device.precompile() compiles an own kernel", async () => {
  const own = await testDevice();
  const op = operator(early);
  const body = () => scope(own, () => void op(full(own, [8], 1)));
  await own.precompile(body);
  const { pipelines } = own.counters;
  body();
  await own.idle();
  assert.equal(own.counters.pipelines, pipelines);
});

test("operators that are imported after the device was opened find their kernels", async () => {
  const { groupNorm } = await import("../src/ops/group_norm.ts");
  const y = scope(device, () => {
    const [w, b] = [full(device, [2], 1), full(device, [2], 3)];
    return groupNorm(full(device, [1, 4, 2], 5), w, b, 1, 1e-5);
  });
  assert.deepEqual(await y.read(), new Float32Array(8).fill(3));
  y.release();
});

test("an entry point without Dims runs beside one that has them", async () => {
  const k = twin(
    "test/no-dims",
    `
    struct Dims { value: f32 }
    @group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @group(0) @binding(7) var<uniform> d: Dims;
    @compute @workgroup_size(4) fn count(@builtin(local_invocation_index) t: u32) { y[t] = f32(t); }
    @compute @workgroup_size(4) fn add(@builtin(local_invocation_index) t: u32) { y[t] += d.value; }`,
  );
  const y = full(device, [4], 0);
  k.run("count", { y }, { value: 0 }, [1]);
  k.run("add", { y }, { value: 10 }, [1]);
  assert.deepEqual([...(await y.read())], [10, 11, 12, 13]);
  y.release();
  const bare = twin(
    "test/bare",
    `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) t: u32) { y[t] = 7.0; }`,
  );
  const z = full(device, [4], 0);
  bare.run("main", { y: z }, {}, [1]);
  assert.deepEqual([...(await z.read())], [7, 7, 7, 7]);
  assert.throws(() => bare.run("main", { y: z }, { N: 1 }, [1]), {
    message: "Cannot run test/bare.main: Dims has no N",
  });
  z.release();
});

test("a gradient that an own kernel cuts off is an error that names it", () => {
  const x = full(device, [4], 1);
  const variant = { flags: { scaled: false } };
  assert.throws(
    () =>
      scope(device, () =>
        vjp(device, [x], () => {
          const y = x.like();
          early.run("forward", { x, y }, { quads: 1, scale: 1 }, [1], variant);
          return { outputs: [y], cotangents: [full(device, [4], 1)] };
        }),
      ),
    { message: /^Cannot differentiate test\/early\.forward: / },
  );
  x.release();
});

test("twin() takes one source a name, no name of the package's, and a name that messages can show", () => {
  assert.doesNotThrow(() => twin("test/early", swish));
  assert.throws(() => twin("test/early", `${swish}\n`), {
    message:
      "Cannot declare kernel test/early: it was declared with another source, one source a name expected",
  });
  // One that this file imports no operator of, and one that it does.
  for (const name of ["softmax", "elementwise"])
    assert.throws(() => twin(name, swish), {
      message: `Cannot declare kernel ${name}: the package has one of that name, another name expected`,
    });
  assert.throws(() => (twin as (name: string) => Twin)("test/none"), {
    message: "Cannot declare kernel test/none: the package has none of that name, its WGSL source expected",
  });
  for (const name of ["", "a b", "../a"])
    assert.throws(() => twin(name, swish), {
      message: `Cannot declare kernel ${JSON.stringify(name)}: a name of letters, digits and _ @ . / - expected`,
    });
});

test("an own kernel says what its source lacks, by its name", () => {
  const y = full(device, [4], 0);
  const run = (name: string, source: string) => () => twin(name, source).run("main", { y }, {}, [1]);
  assert.throws(run("test/include", '#include "lib/none.wgsl"'), {
    message: `Cannot expand kernel test/include: #include "lib/none.wgsl" names no file in the package's kernels/`,
  });
  assert.throws(run("test/flag", `const a = \${A};`), {
    message: `Cannot expand kernel test/flag: \${A} has no value (given: none)`,
  });
  assert.throws(run("test/entry", "fn main() {}"), {
    message: "Cannot run test/entry.main: the kernel has no entry point main (it has: none)",
  });
  y.release();
});

const broken = `
struct Dims { N: u32 }
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> d: Dims;
override WG: u32 = 8;
@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  y[id.x] = \${T}(d.N) + undefined_name;
}`;

test("a kernel that does not compile shows its name, flags, constants and the source line", async () => {
  const own = await testDevice();
  const y = full(own, [16], 0);
  twin("test/broken", broken).run("forward", { y }, { N: 1 }, [2], {
    flags: { T: "f32" },
    overrides: { WG: 16 },
  });
  const shown = (error: Error) => {
    const [first, ...source] = error.message.split("\n");
    assert.match(first, /^Cannot compile kernel test\/broken\.forward \{"T":"f32"\} \{"WG":16\}: /);
    assert.match(first, /undefined_name/);
    assert.ok(
      source.some((line) => /^> +\d+ .*f32\(d\.N\) \+ undefined_name/.test(line)),
      `no marked source line in:\n${error.message}`,
    );
    return true;
  };
  await assert.rejects(own.idle(), shown);
  const other = await testDevice();
  const body = () =>
    twin("test/broken", broken).run("forward", { y: full(other, [16], 0) }, { N: 1 }, [2], {
      flags: { T: "f32" },
      overrides: { WG: 16 },
    });
  await assert.rejects(other.precompile(body), shown);
});
