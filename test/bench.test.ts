import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { noiseTensor } from "../bench/gpu_report/noise.ts";
import { matrixWays } from "../bench/gpu_report/ways.ts";
import type { Device } from "../src/gpu/device.ts";
import { convert } from "../src/ops/convert.ts";
import type { Gemm } from "../src/ops/gemm.ts";
import { gemm } from "../src/ops/matmul.ts";
import { relativeL2 } from "../src/records/float64.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { compareResults, showCompared } from "../tools/bench/compare.ts";
import { collect, findResults, type Line, readResults, type Results } from "../tools/bench/results.ts";
import { CONFIGS, nullDevice, setMatrices, standInDevice } from "./matrix_device.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-bench-test-"));
after(() => rmSync(folder, { recursive: true }));
/** The benches are scripts for Node. */
const skip = "Deno" in globalThis && "the benches run on Node";

const node = (args: string[], env: Record<string, string> = {}) =>
  spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", env: { ...process.env, ...env } });
const bench = (...args: string[]) => node(["--import", "tsx", "tools/bench.ts", ...args]);

/** Results of one case that was measured by processes of these samples. */
const results = (runs: readonly (readonly number[])[], adapter = "gpu", commit = "abc"): Results => ({
  ...{ version: 1, date: "2026-01-01T00:00:00Z", host: "here", commit },
  benches: [
    {
      bench: "b",
      adapter,
      driver: "1",
      cases: [{ name: "c", runs: runs.map((wall) => ({ wall: [...wall] })) }],
    },
  ],
});
const around = (middle: number) => [0.99, 1.005, 1, 1.01, 0.995].map((x) => x * middle);

test("compareResults() takes as a difference what exceeds the noise of samples, of processes, and of nothing else", () => {
  const verdict = (a: Results, b: Results) => compareResults(a, b)[0].verdict;
  assert.equal(verdict(results([around(1)]), results([around(0.5)])).kind, "faster");
  assert.equal(verdict(results([around(1)]), results([around(2)])).kind, "slower");
  // The samples differ, but so do two processes of the same code.
  const near = verdict(results([around(1)]), results([around(1.04)]));
  assert.deepEqual([near.kind, /within the 5 %/.test(near.text)], ["same", true]);
  // Four processes and more: their medians are the samples, and the 5 % no longer guard.
  const four = (by: number) => results([1, 1.002, 0.998, 1.001, 0.999].map((x) => around(x * by)));
  assert.equal(verdict(four(1), four(1.04)).kind, "slower");
  assert.equal(verdict(four(1), four(1)).kind, "same");
  const spread = results([0.8, 1.2, 0.9, 1.1, 1].map(around));
  assert.equal(verdict(spread, results([0.85, 1.3, 0.95, 1.15, 1.02].map(around))).kind, "same");
  assert.match(verdict(results([around(1)]), results([around(1)], "other gpu")).text, /other adapter/);
  assert.match(verdict(results([[1, 1, 1]]), results([[2, 2, 2]])).text, /too few/);
});

test("showCompared() counts the verdicts and says what else differs", () => {
  const [a, b] = [results([around(1)]), results([around(0.5)], "gpu", "def")];
  const lines = [...showCompared(a, b, compareResults(a, b))];
  assert.ok(lines.some((line) => /c .*faster 2\.00×.*, wall$/.test(line)));
  assert.ok(lines.includes("1 faster, 0 slower, 0 without a difference that shows, 0 not comparable"));
  assert.ok(lines.includes("commit abc → def"));
});

test("collect() puts the lines of all processes together by bench and case", () => {
  const path = join(folder, "lines");
  const line = (bench: string, name: string, wall: number[], gpu?: number[]): Line => ({
    ...{ bench, name, wall, adapter: "gpu", driver: "1", ...(gpu && { gpu }) },
  });
  const lines = [line("b", "c", [1], [0.5]), line("b", "d", [2]), line("a", "c", [3]), line("b", "c", [4])];
  writeFileSync(path, lines.map((each) => `${JSON.stringify(each)}\n`).join(""));
  assert.deepEqual(
    collect(path).map(({ bench, cases }) => [bench, cases.map(({ name, runs }) => [name, runs])]),
    [
      [
        "b",
        [
          ["c", [{ wall: [1], gpu: [0.5] }, { wall: [4] }]],
          ["d", [{ wall: [2] }]],
        ],
      ],
      ["a", [["c", [{ wall: [3] }]]]],
    ],
  );
});

test("findResults() takes a file, or each bench of a commit from its newest run", () => {
  const known = mkdtempSync(join(folder, "results-"));
  const save = (name: string, value: Results) => writeFileSync(join(known, name), JSON.stringify(value));
  save("1.json", results([around(1)]));
  save("2.json", { ...results([around(2)]), date: "2026-02-01T00:00:00Z" });
  save("3.json", { ...results([around(3)], "gpu", "abc-dirty"), date: "2026-03-01T00:00:00Z" });
  const samples = (name: string) => findResults(name, known).benches[0].cases[0].runs[0].wall;
  assert.deepEqual(samples("ab"), around(2));
  assert.deepEqual(samples("ab-dirty"), around(3));
  assert.deepEqual(samples(join(known, "1.json")), around(1));
  assert.throws(() => findResults("fed", known), /Cannot find results of fed: .* those of abc, abc-dirty$/);
  writeFileSync(join(known, "bad"), '{"version": 2}');
  assert.throws(
    () => findResults(join(known, "bad")),
    /version is 2 but should be 1, as `npm run bench` writes/,
  );
});

test("npm run bench checks, times by both clocks and writes what it measured; compare reads it", {
  skip,
}, () => {
  const [one, two] = ["one.json", "two.json"].map((name) => join(folder, name));
  assert.equal(bench("softplus", "--out", one).status, 0);
  const { status, stdout } = bench("softplus", "--rounds", "2", "--out", two);
  assert.equal(status, 0, stdout);
  const [{ cases, adapter, driver }] = readResults(two).benches;
  assert.ok(adapter.length > 0 && driver.length > 0);
  assert.equal(cases.length, 2);
  for (const { relL2, runs } of cases) {
    assert.ok(relL2 !== undefined && relL2 < 1e-5);
    assert.equal(runs.length, 2);
    for (const { wall } of runs) assert.ok(wall.length >= 5 && wall.every((ms) => ms > 0));
  }
  const compared = bench("compare", one, two);
  assert.equal(compared.status, 0);
  assert.match(compared.stdout, /softplus\(\) of x .*(faster|slower|no difference seen)/);
  assert.match(bench("compare", one).stderr, /^bench: Cannot compare 1 results: compare A B takes two\n$/);
  assert.match(bench("no-such-bench").stderr, /^bench: Cannot find a bench for no-such-bench\n$/);
});

/** Operands of a product in f16, as the sweep makes them. */
function product(device: Device, [transA, transB]: readonly [boolean, boolean]) {
  const [M, N, K] = [36, 40, 68];
  const a = noiseTensor(device, transA ? [K, M] : [M, K], 1);
  const full = noiseTensor(device, transB ? [N, K] : [K, N], 2);
  const b = transA ? full : convert(full, "F32", full.shape, "f16");
  const y = Tensor.empty(device, [M, N]);
  const given: Gemm = {
    ...{ M, N, K, transA, transB, allowF16: true },
    ...{ a: { rowStride: transA ? M : K }, b: { rowStride: transB ? K : N }, y: { rowStride: N } },
  };
  return { a, b, y, given };
}

test("matrixWays() of the sweep compile for every configuration, and give what gemm() gives", {
  skip,
}, async () => {
  const compiling = await nullDevice();
  for (const config of CONFIGS) {
    setMatrices(compiling, config);
    for (const kind of [[false, true] as const, [false, false] as const, [true, false] as const]) {
      const { a, b, y, given } = product(compiling, kind);
      const ways = matrixWays(y, a, b, given);
      assert.equal(new Set(ways.map(({ name }) => name)).size, 3);
      // The largest needs more workgroup memory than the null backend has.
      for (const { record } of ways.slice(1)) record();
      await compiling.idle();
    }
  }
  const running = await standInDevice();
  setMatrices(running, CONFIGS[0]);
  const { a, b, y, given } = product(running, [false, true]);
  gemm(y, a, b, given);
  const want = await y.read();
  y.write(new Float32Array(y.size));
  matrixWays(y, a, b, given).at(-1)?.record();
  const far = relativeL2(await y.read(), want);
  assert.ok(far < 1e-6, `${far} from what gemm() gives`);
});

test("gpu-report runs every section and writes JSON and Markdown", { skip }, () => {
  const out = mkdtempSync(join(folder, "report-"));
  const env = { OUT: out, PYTHON: "/no/such/python", XDG_CACHE_HOME: join(folder, "cache"), ...shaders };
  const { status, stdout, stderr } = node(["bench/gpu-report.mjs", "--quick"], env);
  assert.equal(status, 0, stdout + stderr);
  const files = readdirSync(out);
  const [json, page] = [".json", ".md"].map((ending) =>
    files.find((f) => new RegExp(`[^e]${ending}$`).test(f)),
  );
  const report = JSON.parse(readFileSync(join(out, json as string), "utf8"));
  assert.deepEqual(
    report.sections.map(({ name, state }: { name: string; state: string }) => [name, state]),
    SECTIONS.map((name) => [name, "done"]),
  );
  for (const { name, rows } of report.sections) assert.ok(rows.length > 0, name);
  const text = readFileSync(join(out, page as string), "utf8");
  assert.ok(text.startsWith(`# ${report.device}\n`));
  for (const what of [
    "Wavegate f32",
    "Former kernels beside today's",
    "All tiles",
    "float64",
    "Profile of",
    "µs of CPU",
  ])
    assert.ok(text.includes(what), what);
  assert.match(text, /^- pytorch: PyTorch is not measured: there is no \/no\/such\/python$/m);
});

test("gpu-report writes the failure of a section into the report, and leaves out what the time does not suffice for", {
  skip,
}, () => {
  const out = mkdtempSync(join(folder, "report-"));
  const args = ["bench/gpu-report.mjs", "--quick", "--out", out, "--only", "kernels"];
  const { status } = node(args, { WAVEGATE_ADAPTER: "voodoo" });
  assert.equal(status, 1);
  const report = JSON.parse(readFileSync(join(out, "gpu-report-unknown-device.json"), "utf8"));
  assert.deepEqual(
    report.sections.map(({ state }: { state: string }) => state),
    ["failed", "failed"],
  );
  for (const { error } of report.sections) assert.match(error, /Cannot find adapter 'voodoo': available are/);
  assert.equal(node([...args, "--seconds", "2"]).status, 1);
  const late = JSON.parse(readFileSync(join(out, "gpu-report-unknown-device.json"), "utf8"));
  assert.ok(late.sections.every(({ state }: { state: string }) => state === "left out"));
});

const SECTIONS = [
  ...["doctor", "parity", "hubert-f32", "hubert-f16", "bert-f32", "bert-f16"],
  ...["pytorch", "kernels", "profile", "sweep", "recording"],
];
/** Mesa goes on with the shaders that it keeps, wherever doctor keeps what it measures. */
const { MESA_SHADER_CACHE_DIR, XDG_CACHE_HOME, HOME } = process.env;
const shaders = { MESA_SHADER_CACHE_DIR: MESA_SHADER_CACHE_DIR ?? XDG_CACHE_HOME ?? `${HOME}/.cache` };
