import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { map } from "../src/records/float64.ts";
import { loadRecords, selectRecords } from "../src/records/mod.ts";
import type { Arrays } from "../src/records/op_info.ts";
import { selfTest } from "../src/records/self_test.ts";
import { kernelDigest, placeOf, writeTuning } from "../src/tune/tuning.ts";
import { vulkanDrivers } from "../tools/vulkan.ts";
import { testDevice } from "./device.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-doctor-"));
after(() => rmSync(folder, { recursive: true }));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

/** Mesa goes on with the shaders that it keeps, wherever doctor keeps what it measures. */
const { MESA_SHADER_CACHE_DIR, XDG_CACHE_HOME = join(homedir(), ".cache") } = process.env;
const shaders = { MESA_SHADER_CACHE_DIR: MESA_SHADER_CACHE_DIR ?? XDG_CACHE_HOME };

function doctor(args: string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [...runtime, "tools/doctor.ts", ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
}

test("doctor finds the adapter, every operator that has a record right, its tuning, and with --peaks its ceilings", async () => {
  const device = await testDevice();
  const kernel = kernelDigest(device, "reduce.columns");
  const milliseconds = { default: 2, chosen: 1 };
  const tuned = {
    choice: "reduce.columns",
    sizes: { rows: 512 },
    value: { parts: 4 },
    kernel,
    milliseconds,
  } as const;
  const cached = { ...device.host, cacheDirectory: () => join(folder, "wavegate") };
  await writeTuning(cached, placeOf(device), [tuned]);
  const { status, stdout, stderr } = doctor(["--json", "--peaks"], { XDG_CACHE_HOME: folder, ...shaders });
  assert.equal(status, 0);
  assert.doesNotMatch(stderr, /Cannot/);
  const found = JSON.parse(stdout);
  assert.match(found.host, /^(Node|Deno) \d/);
  assert.ok(found.adapters.length >= 1);
  assert.ok(found.adapter.name.length > 0);
  assert.equal(typeof found.adapter.features.f16, "boolean");
  assert.match(found.adapter.path, /^(portable|cpu|subgroups)$/);
  if (!found.adapter.cpu) assert.equal(found.adapter.path, "portable");
  assert.ok(found.adapter.limits.maxStorageBufferBindingSize >= 2 ** 27);
  assert.deepEqual(
    found.selfTest.map((t: { operator: string; pass: boolean }) => [t.operator, t.pass]),
    (await loadRecords()).map(({ name }) => [name, true]),
  );
  for (const { relL2 } of found.selfTest) assert.ok(relL2 >= 0 && relL2 < 1e-5);
  assert.deepEqual(found.tuned, [tuned]);
  assert.ok(found.speed.gflops > 0 && found.speed.gigabytesPerSecond > 0);
  const names = [
    "copy",
    "dispatch",
    ...(found.adapter.features.f16 ? ["f16"] : []),
    "f32",
    "readback",
    "upload",
  ];
  for (const name of [...names, "workgroup"]) {
    assert.ok(found.peaks[name] > 0, name);
    assert.ok(found.peaks.spread[name] >= 0, name);
  }
  // Whatever else runs: a product is far below the adapter's arithmetic, and dispatches are not free.
  assert.ok(found.peaks.f32 > 0.5e9 * found.speed.gflops, `${found.peaks.f32} ${found.speed.gflops}`);
  assert.ok(found.peaks.dispatch < 0.01);
  const [file, ...others] = readdirSync(join(folder, "wavegate", "peaks"));
  assert.equal(others.length, 0);
  assert.deepEqual(JSON.parse(readFileSync(join(folder, "wavegate", "peaks", file), "utf8")), found.peaks);
});

test("selfTest() finds an operator wrong whose result or whose gradient is", async () => {
  const records = selectRecords(await loadRecords(), ["softmax"]);
  const device = await testDevice();
  const [{ samples }] = records;
  const wrong = [
    { reference: (inputs: Arrays) => map(samples[0].reference(inputs), (v) => 1.001 * v) },
    { gradients: (inputs: Arrays) => ({ x: inputs.x.data }) },
  ];
  for (const change of wrong) {
    const [test] = await selfTest(device, [{ ...records[0], samples: [{ ...samples[0], ...change }] }]);
    assert.deepEqual([test.operator, test.pass], ["softmax", false]);
    assert.ok(test.relL2 > 5e-4);
  }
});

test("doctor says what to install where there is no driver, with status 1", {
  skip: process.platform !== "linux",
}, () => {
  const { status, stdout, stderr } = doctor(["--json"], { VK_DRIVER_FILES: join(folder, "absent.json") });
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^wavegate doctor: Cannot find a WebGPU adapter: no Vulkan driver is installed; install [^\n]+\n$/,
  );
  assert.equal(JSON.parse(stdout).adapter, null);
});

test("doctor lists what there is where an adapter of that name is not", () => {
  const { status, stderr } = doctor(["--adapter", "voodoo"]);
  assert.equal(status, 1);
  const own = stderr.split("\n").filter((line) => line.startsWith("wavegate"));
  assert.equal(own.length, 1);
  assert.match(own[0], /Cannot find adapter 'voodoo': available are ./);
});

test("vulkanDrivers() looks where the loader does", { skip: process.platform !== "linux" }, () => {
  const manifest = (name: string) =>
    JSON.stringify({ ICD: { library_path: `${name}.so`, api_version: "1.3.0" } });
  const drivers = join(folder, "data", "vulkan", "icd.d");
  mkdirSync(drivers, { recursive: true });
  for (const name of ["b", "a"]) writeFileSync(join(drivers, `${name}.json`), manifest(name));
  writeFileSync(join(drivers, "broken.json"), "{");
  writeFileSync(join(drivers, "readme.txt"), manifest("no"));
  const libraries = (env: NodeJS.ProcessEnv) => vulkanDrivers(env)?.map((driver) => driver.library);
  const nowhere = { XDG_CONFIG_HOME: folder, XDG_CONFIG_DIRS: folder, XDG_DATA_HOME: folder };
  assert.deepEqual(libraries({ VK_DRIVER_FILES: drivers }), ["a.so", "b.so"]);
  assert.deepEqual(libraries({ VK_ICD_FILENAMES: [join(drivers, "b.json"), "/nowhere"].join(delimiter) }), [
    "b.so",
  ]);
  const found = libraries({ ...nowhere, XDG_DATA_DIRS: join(folder, "data") }) ?? [];
  assert.deepEqual(found.slice(-2), ["a.so", "b.so"]);
});
