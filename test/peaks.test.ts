/** The ceilings of an adapter: the work that their kernels count is the work that they do, and what is remembered of them. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { declaredSource } from "../src/gpu/kernel.ts";
import { expand } from "../src/gpu/wgsl.ts";
import { identify } from "../src/gpu/adapter.ts";
import { CHAINS } from "../src/records/measure_peaks.ts";
import { relativeL2 } from "../src/records/float64.ts";
import { copy, fmas, matrices, workgroupLoads } from "../src/records/peak_kernels.ts";
import { type Peaks, readPeaks, writePeaks } from "../src/records/peaks.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-peaks-"));
const before = process.env.XDG_CACHE_HOME;
process.env.XDG_CACHE_HOME = folder;
after(() => {
  if (before === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = before;
  rmSync(folder, { recursive: true });
});

const THREADS = 64;

/** What a thread of the kernel fmas ends with, in float64, and how many fma it took. */
function chains(thread: number, rounds: number, { pairs, CHAINS: count, FMAS }: (typeof CHAINS)[number]) {
  const [a0, b] = pairs ? [0.1, 0] : [0.9, 0.01];
  let [sum, fma] = [0, 0];
  for (let chain = 0; chain < count; chain++)
    for (let c = 0; c < 4; c++) {
      const a = a0 + 0.001 * c * (thread % 8);
      let x = [0.5, 0.25, 0.125, 0.75][c] + (thread % 16) * 0.0625 + 0.015625 * chain;
      let y = 1 - x;
      for (let n = 0; n < rounds * FMAS; n++) {
        if (pairs) {
          x += a * y;
          y -= a * x;
          fma += 2;
        } else {
          x = x * a + b;
          fma++;
        }
      }
      sum += pairs ? x + y : x;
    }
  return { sum, fma };
}

for (const X of ["f32", "f16"] as const)
  test(`peak_fma in ${X} does every multiply-add that is counted`, {
    skip: X === "f16" && !device.info.f16,
  }, async () => {
    for (const each of CHAINS) {
      const rounds = 3;
      const y = Tensor.empty(device, [THREADS]);
      const flags = { X, enables: X === "f16" ? "enable f16;" : "", ...each };
      const of = each.pairs ? { a: 0.1, b: 0 } : { a: 0.9, b: 0.01 };
      fmas.run("forward", { y }, { rounds, ...of }, [THREADS / 16], { flags, overrides: { WG: 16 } });
      const want = Array.from({ length: THREADS }, (_, thread) => chains(thread, rounds, each));
      const error = relativeL2(
        await y.read(),
        Float64Array.from(want, ({ sum }) => sum),
      );
      assert.ok(error < (X === "f16" ? 0.05 : 1e-5), `${JSON.stringify(each)}: ${error}`);
      // As the trials count: FLOP of a thread.
      assert.equal(2 * want[0].fma, rounds * each.FMAS * each.CHAINS * (each.pairs ? 2 : 1) * 4 * 2);
      y.release();
    }
  });

test("peak_copy copies everything, and peak_workgroup reads as often as is counted", async () => {
  const size = 4 * 4096;
  const values = Float32Array.from({ length: size }, (_, i) => i);
  const x = Tensor.from(device, values, [size]);
  for (const QUADS of [1, 4, 8]) {
    const y = Tensor.from(device, new Float32Array(size), [size]);
    const variant = { flags: { QUADS, LAST: QUADS - 1 }, overrides: { WG: 8 } };
    copy.run("forward", { x, y }, { quads: size / 4 }, [size / 4 / QUADS / 8], variant);
    assert.deepEqual(await y.read(), values);
    y.release();
  }
  for (const LOADS of [4, 8]) {
    const [rounds, WG] = [5, 16];
    const y = Tensor.empty(device, [THREADS]);
    workgroupLoads.run("forward", { y }, { rounds }, [THREADS / WG], { flags: { LOADS }, overrides: { WG } });
    const want = Float32Array.from({ length: THREADS }, (_, thread) => {
      let sum = 0;
      for (let n = 0; n < rounds; n++)
        for (let i = 0; i < LOADS; i++) sum += 4 * ((((thread % WG) + 64 * n + 8 * i) % 512) + rounds);
      return sum;
    });
    assert.deepEqual(await y.read(), want);
    y.release();
  }
  x.release();
});

test("peaks are remembered by adapter and driver, and a file that does not fit is named in one line", async () => {
  const { host } = device;
  const notes: string[] = [];
  const read = () => readPeaks(host, device, (line) => notes.push(line));
  assert.equal(await read(), undefined);
  const peaks: Peaks = {
    ...identify(device),
    measured: "2026-01-02T03:04:05.678Z",
    ...{ f32: 1e12, copy: 1e11, workgroup: 1e12, dispatch: 1e-6, upload: 1e10, readback: 1e10 },
    spread: { f32: 0.01 },
  };
  const path = await writePeaks(host, peaks);
  assert.deepEqual(await read(), peaks);
  assert.equal(notes.length, 0);

  await writePeaks(host, { ...peaks, driver: "another" });
  assert.equal(readdirSync(join(folder, "wavegate", "peaks")).length, 2);
  assert.deepEqual(await read(), peaks);

  const text = readFileSync(path, "utf8");
  const again = "; `wavegate doctor --peaks` measures anew";
  for (const [content, said] of [
    [text.slice(0, 40), `Cannot read ${path}: not JSON, `],
    [
      text.replace(/"f32": \d+/, '"f32": -1'),
      `Cannot use ${path}: f32 is -1 but should be a number above 0${again}`,
    ],
    [text.replace('"copy"', '"cpy"'), `Cannot use ${path}: `],
    [
      text.replace(JSON.stringify(peaks.driver), '"older"'),
      `Cannot use ${path}: driver is "older" but should be ${JSON.stringify(peaks.driver)}${again}`,
    ],
  ]) {
    writeFileSync(path, content);
    assert.equal(await read(), undefined);
    const [note, ...others] = notes.splice(0);
    assert.equal(others.length, 0);
    assert.ok(note.startsWith(said) && note.endsWith(again) && !note.includes("\n"), note);
  }
});

test("peak_matrix compiles for every kind of subgroup matrix, on Dawn without a GPU", async () => {
  const { create } = await import("webgpu");
  // Kept for good: Node may crash where an instance is collected.
  Object.assign(globalThis, {
    nullBackend: create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]),
  });
  const { nullBackend } = globalThis as unknown as { nullBackend: GPU };
  const adapter = await device.host.quiet(() => nullBackend.requestAdapter());
  assert.ok(adapter);
  const features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];
  const requiredFeatures = features as GPUFeatureName[];
  const gpu = await device.host.quiet(() => adapter.requestDevice({ requiredFeatures }));
  for (const [X, M, N, K] of [
    ["f16", 16, 16, 16],
    ["f16", 8, 8, 8],
    ["f16", 8, 16, 16],
    ["f32", 8, 8, 8],
  ] as const) {
    const flags = { X, enables: X === "f16" ? "enable f16;" : "", M, N, K };
    const code = expand(declaredSource(matrices.name) ?? "", flags, new Map(), matrices.name);
    gpu.pushErrorScope("validation");
    const compute = { module: gpu.createShaderModule({ code }), constants: { WG: 128 } };
    gpu.createComputePipeline({ layout: "auto", compute });
    const error = await device.host.quiet(() => gpu.popErrorScope());
    assert.equal(error?.message, undefined, `${X} ${M}×${N}×${K}`);
  }
});
