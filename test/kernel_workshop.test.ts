/** The kernel workshop in this process: its expressions, references and checks, on kernels that are right and on wrong ones. */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { writeSafetensors } from "../src/io/safetensors_writer.ts";
import { softplus } from "../src/ops/softplus.ts";
import { activations } from "../src/records/float64.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { checkBounds } from "../src/workshop/bounds.ts";
import { compare, indexOf } from "../src/workshop/candidate.ts";
import { Expression, parseDefined } from "../src/workshop/expression.ts";
import { filesOf, type Order, ownVariants, readSubject } from "../src/workshop/subject.ts";
import { expandAll, type KernelReport, runTrial } from "../src/workshop/trial.ts";
import { History, lineIn, showErrors, showReport } from "../tools/kernel/show.ts";
import { testDevice } from "./device.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const host = await currentHost();
const device = await testDevice();
const { info } = device;
const folder = mkdtempSync(join(tmpdir(), "wavegate-workshop-"));
after(() => rmSync(folder, { recursive: true }));

const wgsl = readFileSync(join(root, "examples/kernels/rms_norm.wgsl"), "utf8");
const spec = {
  ...JSON.parse(readFileSync(join(root, "examples/kernels/rms_norm.json"), "utf8")),
  shapes: [{ N: 6, C: 37 }],
  variants: { WG: [8] },
};

/** Writes NAME.wgsl and NAME.json and returns the path of the first. */
function write(name: string, text: string, json: object): string {
  const file = join(folder, `${name}.wgsl`);
  writeFileSync(file, text);
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(json));
  return file;
}

const orderOf = (operand: string, more: Partial<Order> = {}): Order => ({
  ...{ operand, shapes: [], variants: [], backward: false, runs: 0 },
  device: { adapter: process.env.WAVEGATE_ADAPTER },
  ...more,
});

const silent = { phase: () => {}, note: () => {} };
const attempt = async (order: Order, cache = new Map<string, unknown>()): Promise<KernelReport> =>
  await runTrial(await readSubject(host, order, cache), order.runs, silent);

/** All that is said of what is wrong. */
async function errorOf(order: Order): Promise<string> {
  const report = await attempt(order).catch((error: Error) => error);
  if (report instanceof Error) return report.message;
  const texts = new Map(
    [order.operand, order.against].flatMap((path) =>
      path?.endsWith(".wgsl") ? [[path, readFileSync(path, "utf8")] as const] : [],
    ),
  );
  return showErrors(report, texts).join("\n");
}

const verdicts = ({ bouts }: KernelReport) => bouts.flatMap(({ variants }) => variants.map((v) => v.verdict));

test("expressions have the values of arithmetic", () => {
  const numbers = { N: 7, C: 3, x: -2.5 };
  const wanted: [string | number, number][] = [
    ["1 + 2 * 3 - 4 / 8", 6.5],
    ["-2 ^ 2", -4],
    ["2 ^ 3 ^ 2", 512],
    ["2 ^ -1", 0.5],
    ["(1 + 2) * 3 % 4", 1],
    ["ceil(N / C) + floor(x) + round(0.5) + trunc(x)", 3 - 3 + 1 - 2],
    ["max(N, C) - min(N, C)", 4],
    ["N > C && !(C >= 4) || 0", 1],
    ["N == 7 ? C != 3 ? 1 : 2 : 3", 2],
    ["1e-3 + .5", 0.501],
    ["sum(k < N, k) + prod(k < C, k + 1) + mean(k < C, k)", 21 + 6 + 1],
    ["max(k < N, (k - 2) ^ 2) + min(k < N, abs(k - 2) + 1)", 17],
    ["sum(i < 3, sum(j < i, i * j))", 2],
    ["sigmoid(0) + gelu(1) + tanh(0)", 0.5 + activations.gelu.f(1)],
    [12, 12],
  ];
  for (const [text, value] of wanted)
    assert.ok(Math.abs(new Expression(text).value(numbers) - value) < 1e-12, `${text} is not ${value}`);
  const a = { shape: [2, 3], data: Float64Array.of(1, 2, 3, 4, 5, 6) };
  const b = { shape: [3], data: Float64Array.of(1, 10, 100) };
  const product = new Expression("sum(k < 3, a[m, k] * b[k])").bind(
    {},
    new Map([
      ["a", a],
      ["b", b],
    ]),
    ["m"],
  );
  assert.deepEqual([product(0), product(1)], [321, 654]);
});

test("expressions that are wrong say where", () => {
  const tensors = new Map([["a", { shape: [2], data: Float64Array.of(1, 2) }]]);
  const wanted: [string, RegExp][] = [
    ["1 +", /"1 \+" is wrong at character 4: a number or a name expected/],
    ["(1", /character 3: \) expected/],
    ["1 2", /character 3: "2" is one too many/],
    ["a # b", /character 3: "#" is not understood/],
    ["Nn + 1", /Nn is not known; did you mean N\?/],
    ["cell(N)", /cell is not known; did you mean ceil\?/],
    ["min(1)", /min\(\) should be like min\(k < K, x\[k\]\)|min\(\) has 1 operands, 2 expected/],
    ["sum(N < 3, 1)", /sum\(\) should be like/],
    ["a + 1", /a is a tensor, its indices expected/],
    ["a[0, 1]", /a has 1 axes \(2\), and 2 indices/],
    ["a[N]", /a\[7\] is outside of a \(2\)/],
    ["a[0.5]", /a\[0\.5\] is outside/],
    ["process", /process is not known/],
    ["constructor(1)", /constructor is not known/],
  ];
  for (const [text, error] of wanted)
    assert.throws(() => new Expression(text).bind({ N: 7 }, tensors, [])(), error, text);
  assert.deepEqual(
    parseDefined(" y[n < N - 1, c]").indices.map(({ name, end }) => [name, end?.value({ N: 3 })]),
    [
      ["n", 2],
      ["c", undefined],
    ],
  );
  for (const text of ["y", "y[]", "y[1]", "[n]"])
    assert.throws(() => parseDefined(text), /should be a tensor with its indices/);
});

test("compare() finds a single wrong element in many, and says where", () => {
  const want = Float64Array.from({ length: 1_000_000 }, (_, i) => Math.sin(i));
  const got = want.slice();
  assert.equal(compare("y", [1000, 1000], got, want, 1e-3).pass, true);
  got[123_456] += 0.5;
  const found = compare("y", [1000, 1000], got, want, 1e-3);
  assert.ok((found.relL2 ?? 1) < 1e-3);
  assert.equal(found.pass, false);
  assert.deepEqual(found.worst?.index, [123, 456]);
  assert.deepEqual(indexOf(23, [2, 3, 4]), [1, 2, 3]);
  got[7] = Number.NaN;
  assert.deepEqual(compare("y", [1000, 1000], got, want, 1e-3).worst?.index, [0, 7]);
  const infinite = Float64Array.of(1, Number.NEGATIVE_INFINITY);
  assert.equal(compare("y", [2], infinite, infinite.slice(), 0).pass, true);
});

test("the example is right in all its variants and shapes, and is timed", async () => {
  const file = join(root, "examples/kernels/rms_norm.wgsl");
  const report = await attempt(orderOf(file, { runs: 2 }));
  assert.deepEqual(verdicts(report), Array(6).fill("right"));
  for (const { variants } of report.bouts) {
    for (const { times, work, farthest, flopsPerSecond } of variants) {
      assert.equal(times?.warm.samples.length, 2);
      assert.ok((times?.cold.median ?? 0) > 0 && (flopsPerSecond ?? 0) > 0);
      assert.ok((farthest?.relL2 ?? 1) < 1e-6);
      assert.ok(work && work.bytes > 0 && (work.flops ?? 0) > 0);
    }
    assert.equal(variants.filter(({ behind }) => behind === undefined).length, 1);
  }
  const [{ variants }] = report.bouts;
  assert.equal(variants[0].work?.flops, 512 * (4 * 768 + 3));
  assert.equal(variants[0].work?.bytes, 4 * (2 * 512 * 768 + 768));
  const lines = [...showReport(report)];
  assert.ok(lines.includes("N=7 C=65"), lines.join("\n"));
  assert.ok(lines.some((line) => /^WG=64 .* ± /.test(line)));
});

const noW = { ...spec.buffers };
delete noW.w;

const WRONG: Record<string, [text: (wgsl: string) => string, json: object, error: RegExp]> = {
  "a result that differs": [
    (w) => w.replace("* scale * w[c]", "* scale * w[(c + 1u) % d.C]"),
    {},
    /^Cannot time .*\.wgsl WG=8 at N=6 C=37: y is \d\.\de-\d from float64 \(relative L2, at most 1e-5 expected\); y\[\d, \d+\] is -?[\d.]+, -?[\d.]+ expected$/,
  ],
  "one element that is never written": [
    (w) => w.replace("c < d.C; c += WG) {\n    y", "c < d.C - 1u; c += WG) {\n    y"),
    {},
    /^Cannot time .* y\[\d, 36\] is never written, -?[\d.]+ expected$/,
  ],
  "a write past the end": [
    (w) => w.replace("c < d.C; c += WG) {\n    y", "c < d.C + 9u; c += WG) {\n    y"),
    {},
    /^Cannot (?:trust .*: it writes past the end of y, to element \d+ of 222|time .* y is )/,
  ],
  "a read past the end": [
    (w) => w.replace("+ d.eps);", "+ d.eps) + 1e-30 * abs(x[400u]);"),
    {},
    /^Cannot trust .*: it reads past the end of x, and y depends on what stands there/,
  ],
  "WGSL that does not compile": [
    (w) => w.replace("var squares = 0.0;", "var squares = ;"),
    {},
    /^Cannot compile .*\.wgsl:16 with WG=8: [^\n]+\n[\s\S]*\n> +16 {3}var squares = ;\n/,
  ],
  "a workgroup that is too large": [
    (w) => w,
    { variants: { WG: [1048576] } },
    /^Cannot compile .* with WG=1048576: /,
  ],
  "a buffer that the JSON lacks": [
    (w) => w,
    { buffers: noW },
    /^Cannot use .*\.json: it lacks the key buffers\.w, which .*\.wgsl binds at 1 for forward$/,
  ],
  "a buffer that the WGSL lacks": [
    (w) => w,
    { buffers: { ...spec.buffers, ww: { shape: ["C"] } } },
    /binds no ww, which buffers names; did you mean w\?$/,
  ],
  "a key that there is not": [
    (w) => w,
    { grid: undefined, gird: ["N"] },
    /there is no key gird; did you mean grid\?$/,
  ],
  "a key of a buffer that there is not": [
    (w) => w,
    { buffers: { ...spec.buffers, y: { shap: ["N", "C"] } } },
    /it lacks the key buffers\.y\.shape|there is no key buffers\.y\.shap; did you mean buffers\.y\.shape\?/,
  ],
  "a grid that is no whole number": [
    (w) => w,
    { grid: ["N / 4"] },
    /grid\.0 is N \/ 4 = 1\.5 at .*, a whole number from 1 expected; ceil\(N \/ 4\)\?$/,
  ],
  "a grid that the adapter does not take": [(w) => w, { grid: [1e7] }, /exceeds \d+ in one dimension$/],
  "a shape that does not fit on the adapter": [
    (w) => w,
    { shapes: [{ N: 1e6, C: 1e6 }] },
    /^Cannot bind x \(1000000, 1000000\): it takes [\d.]+ MiB, the adapter binds at most [\d.]+ MiB at once$/,
  ],
  "a definition whose ends do not fit": [
    (w) => w,
    { reference: { "y[n < C, c]": "x[n, c]" } },
    /reference "y\[n < C, c\]": n ends at 37, but y is \(6, 37\)$/,
  ],
  "a definition that reads outside": [
    (w) => w,
    { reference: { "y[n, c]": "x[n, c + 1]" } },
    /x\[0, 37\] is outside of x \(6, 37\)$/,
  ],
  "a definition of something else": [
    (w) => w,
    { reference: { "z[n < N]": "1" } },
    /its reference gives none of the outputs y$/,
  ],
  "a definition of an input": [(w) => w, { reference: { "x[n, c]": "1" } }, /the kernel does not write x$/],
  "a field of Dims without a value": [(w) => w, { dims: {} }, /it says nothing of Dims\.eps/],
  "a field of Dims that there is not": [
    (w) => w,
    { dims: { epsilon: 1 } },
    /dims\.epsilon is no field of struct Dims/,
  ],
  "a Dims value of another type": [
    (w) => w,
    { dims: { eps: 0, C: 36.5 } },
    /Dims\.C is 36\.5, a value of u32 expected$/,
  ],
  "an entry that there is not": [
    (w) => w,
    { entry: "backward" },
    /entry is "backward" but should be one of forward$/,
  ],
  "a variant that there is not": [
    (w) => w,
    { variants: { W: [8] } },
    /no flag and no override W; did you mean WG\?$/,
  ],
  "no reference": [(w) => w, { reference: undefined }, /it lacks the key reference/],
  "another dtype than the WGSL's": [
    (w) => w,
    { buffers: { ...spec.buffers, w: { shape: ["C"], dtype: "f16" } } },
    /buffers\.w\.dtype is f16, but .* reads f32$/,
  ],
  "a file that is absent": [
    (w) => w,
    { buffers: { ...spec.buffers, w: { shape: ["C"], init: { file: "none.safetensors" } } } },
    /none\.safetensors: no such file or folder$/,
  ],
};

for (const [name, [change, json, error]] of Object.entries(WRONG))
  test(`refused in one line: ${name}`, async () => {
    const text = change(wgsl);
    assert.ok(text !== wgsl || Object.keys(json).length > 0);
    const file = write(name.replaceAll(" ", "_"), text, { ...spec, ...json });
    const said = await errorOf(orderOf(file, { runs: 1 }));
    assert.match(said, error);
    if (!/does not compile/.test(name)) assert.equal(said.split("\n").length, 1, said);
  });

test("a variant that is refused leaves the others alone", async () => {
  const file = write("some", wgsl, { ...spec, variants: { WG: [8, 1048576, 16] } });
  const report = await attempt(orderOf(file, { runs: 1 }));
  assert.deepEqual(verdicts(report), ["right", "refused", "right"]);
  assert.ok(report.bouts[0].variants[2].times);
});

const DOUBLE = `
\${enables}
alias X = \${X};
struct Dims { quads: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<X>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<X>>;
@group(0) @binding(2) var<uniform> d: Dims;
override WG: u32 = 64;
@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < d.quads) { y[id.x] = 2.0 * x[id.x]; }
}`;

test("the flag X is the element type, f32 or by --dtype f16", async () => {
  const json = {
    ...{ shapes: [{ N: 1001 }], buffers: { x: { shape: ["N"] }, y: { shape: ["N"] } } },
    ...{
      dims: { quads: "ceil(N / 4)" },
      grid: ["ceil(ceil(N / 4) / WG)"],
      reference: { "y[i]": "2 * x[i]" },
    },
  };
  const file = write("double", DOUBLE, json);
  for (const dtype of info.f16 ? ([undefined, "f32", "f16"] as const) : ([undefined, "f32"] as const)) {
    const report = await attempt(orderOf(file, { dtype }));
    assert.deepEqual(verdicts(report), ["right"]);
    const [{ farthest, name }] = report.bouts[0].variants;
    assert.equal(farthest?.tolerance, dtype === "f16" ? 1e-3 : 1e-5);
    assert.equal(name, `X=${dtype ?? "f32"}`);
  }
  const plain = write("plain", wgsl, spec);
  await assert.rejects(attempt(orderOf(plain, { dtype: "f16" })), /has no flag \$\{X\}, its types are fixed/);
  const [{ variants }] = await ownVariants(host, orderOf(file, { dtype: "f16", variants: ["WG=32,WG=64"] }));
  assert.deepEqual(variants, [
    { X: "f16", enables: "enable f16;", WG: 32 },
    { X: "f16", enables: "enable f16;", WG: 64 },
  ]);
});

test("integers, includes beside the file, buffers in place, and arrayLength()", async () => {
  writeFileSync(join(folder, "twice.wgsl"), "fn twice(v: u32) -> u32 { return 2u * v; }\n");
  const text = `
    #include "twice.wgsl"
    @group(0) @binding(0) var<storage, read> at: array<u32>;
    @group(0) @binding(1) var<storage, read_write> counts: array<u32>;
    @compute @workgroup_size(64)
    fn add(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&counts)) { counts[id.x] += twice(at[id.x]); }
    }`.replace(/^ {4}/gm, "");
  const json = {
    ...{ shapes: [{ N: 77 }], grid: ["ceil(N / 64)"] },
    buffers: { at: { shape: ["N"], init: "floor(u * 10)" }, counts: { shape: ["N"], init: "i" } },
    reference: { "counts[i]": "counts[i] + 2 * at[i]" },
  };
  const file = write("counts", text, json);
  const report = await attempt(orderOf(file, { runs: 2 }));
  assert.deepEqual(verdicts(report), ["right"]);
  assert.equal(report.bouts[0].variants[0].farthest?.relL2, 0);
  assert.match(report.notes.join(), /arrayLength\(\): its bounds are not checked/);
  assert.deepEqual(
    (await filesOf(host, orderOf(file))).map((path) => path.slice(folder.length + 1)),
    [...["counts.wgsl", "twice.wgsl", "counts.json"]],
  );
  const [text2] = [...(await expandAll(await readSubject(host, orderOf(file), new Map()))).values()];
  assert.match(text2, /fn twice[\s\S]*fn add/);
});

test("bounds that are not checked are told: of large buffers, and with arrayLength() in what is run", async () => {
  type Given = Parameters<typeof checkBounds>;
  const own = { json: "k.json" } as Given[1];
  const source = { path: "k.wgsl", text: "" } as Given[2];
  const told = (text: string, bytes: number) =>
    checkBounds(device, own, source, { text } as Given[3], [{ bytes }] as unknown as Given[4], () =>
      assert.fail("runs what it cannot check"),
    );
  assert.equal(await told("", 513 * 2 ** 20), "takes 513 MiB of buffers, more than 512");
  assert.equal(await told("arrayLength(&x)", 4), "goes by arrayLength()");
});

test("a reference may be a module, read anew when it changed, or a file", async () => {
  const module = join(folder, "rms.mjs");
  const source = (factor: number) => `export default ({ x, w }, { N, C }) => {
    const y = new Float64Array(N * C);
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += x.data[n * C + c] ** 2;
      for (let c = 0; c < C; c++) y[n * C + c] = ${factor} * x.data[n * C + c] * w.data[c] / Math.sqrt(sum / C + 1e-6);
    }
    return { y };
  };`;
  const file = write("by_module", wgsl, { ...spec, reference: "rms.mjs" });
  writeFileSync(module, source(1));
  assert.deepEqual(verdicts(await attempt(orderOf(file))), ["right"]);
  writeFileSync(module, source(2));
  assert.deepEqual(verdicts(await attempt(orderOf(file))), ["wrong"]);
  writeFileSync(module, "export default () => ({ z: [] });");
  assert.match(
    await errorOf(orderOf(file)),
    /it returned z, which the kernel does not write \(it writes y\)$/,
  );
  writeFileSync(module, "export default () => { throw new Error('no luck'); };");
  assert.match(await errorOf(orderOf(file)), /it threw no luck$/);

  const ones = Float32Array.from({ length: 5 }, (_, i) => i + 1);
  const tensor = (key: string, values: Float32Array) => ({
    ...{ key, dtype: "F32" as const, shape: [5] },
    data: new Uint8Array(values.slice().buffer),
  });
  await writeSafetensors(host, join(folder, "stored.safetensors"), [
    tensor("x", ones),
    tensor(
      "y",
      ones.map((v) => 2 * v),
    ),
  ]);
  const stored = write("stored", DOUBLE, {
    ...{ shapes: [{ N: 5 }], dims: { quads: 2 }, grid: [1], reference: "stored.safetensors" },
    buffers: { x: { shape: ["N"], init: { file: "stored.safetensors" } }, y: { shape: ["N"] } },
  });
  assert.deepEqual(verdicts(await attempt(orderOf(stored))), ["right"]);
  assert.match(
    await errorOf(orderOf(stored, { shapes: ["N=6"] })),
    /stored\.safetensors: x is \(5\), \(6\) expected$/,
  );
});

test("another file is held to the same reference, or is one", async () => {
  const other = join(folder, "other.wgsl");
  writeFileSync(other, wgsl.replace("inverseSqrt(", "1.0 / sqrt("));
  const file = write("against", wgsl, spec);
  const report = await attempt(orderOf(file, { against: other, runs: 4 }));
  assert.deepEqual(verdicts(report), ["right", "right"]);
  const [own, rival] = report.bouts[0].variants;
  assert.equal(own.against, undefined);
  assert.ok(rival.against?.text);
  writeFileSync(other, wgsl.replace("+ d.eps", "+ 2.0"));
  assert.match(
    await errorOf(orderOf(file, { against: other })),
    /^Cannot time .*other\.wgsl WG=8 at N=6 C=37: y is /,
  );
  const without = write("without", wgsl, { ...spec, reference: undefined });
  assert.match(await errorOf(orderOf(without, { against: other })), /^Cannot time .*without\.wgsl WG=8/);
  writeFileSync(other, wgsl);
  const equal = await attempt(orderOf(without, { against: other }));
  assert.deepEqual(verdicts(equal), ["right", "right"]);
  assert.match(equal.notes.join(), /other\.wgsl is taken as right/);
});

test("another file with a JSON of its own is called by that, with the first's values and reference", async () => {
  const file = write("first", wgsl, spec);
  const source = `
    struct Dims { size: u32, C: u32 }
    @group(0) @binding(0) var<storage, read> w: array<f32>;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @group(0) @binding(3) var<uniform> d: Dims;
    override LANES: u32 = 32;
    @compute @workgroup_size(LANES)
    fn each(@builtin(global_invocation_id) id: vec3u) {
      if (id.x >= d.size) { return; }
      let row = id.x - id.x % d.C;
      var squares = 0.0;
      for (var c = 0u; c < d.C; c++) { squares += x[row + c] * x[row + c]; }
      y[id.x] = x[id.x] * w[id.x % d.C] / sqrt(squares / f32(d.C) + 1e-6);
    }
    @compute @workgroup_size(1)
    fn nothing() { y[0] = x[0] * w[0] * f32(d.C); }`;
  const json = {
    ...{ entry: "each", shapes: [{}], buffers: { x: { shape: [] }, y: { shape: [] }, w: { shape: [] } } },
    ...{ grid: ["ceil(N * C / LANES)"], dims: { size: "N * C" }, variants: { LANES: [16, 64] } },
  };
  const against = write("second", source, json);
  const order = orderOf(file, { against, runs: 1 });
  const report = await attempt(order);
  assert.deepEqual(
    report.bouts[0].variants.map(({ name, verdict }) => [name, verdict]),
    [
      ["WG=8", "right"],
      ["LANES=16", "right"],
      ["LANES=64", "right"],
    ],
  );
  assert.ok((await filesOf(host, order)).includes(against.replace(".wgsl", ".json")));
  const without = write("first_without", wgsl, { ...spec, reference: undefined });
  assert.deepEqual(verdicts(await attempt(orderOf(without, { against }))), ["right", "right", "right"]);
});

test("kernels and operators of the package go by their records", async () => {
  const report = await attempt(orderOf("softplus", { runs: 1, shapes: ["x=3x17"], backward: true }));
  const [{ shape, variants }] = report.bouts;
  assert.equal(shape, "softplus() of x (3, 17)");
  assert.ok(variants.every(({ verdict, times }) => verdict === "right" && times));
  assert.deepEqual(
    variants[0].dispatches?.map((each) => each.split(",")[0]),
    ["softplus.forward", "softplus.backward"],
  );
  assert.match(await errorOf(orderOf("softplos")), /^Cannot find kernel softplos: did you mean softplus\?$/);
  assert.match(await errorOf(orderOf("softplus", { shapes: ["y=3"] })), /its inputs are x$/);
  assert.match(
    await errorOf(orderOf("softplus", { variants: ["fast"] })),
    /one of portable, cpu, subgroups$/,
  );
  const half = orderOf("linear", { dtype: "f16", shapes: ["x=9x12,w=20x12,b=20"], backward: true, runs: 1 });
  if (!info.f16) assert.match(await errorOf(half), /^Cannot run linear.* in f16: |has no f16$/);
  else {
    const [{ variants: typed }] = (await attempt(half)).bouts;
    assert.ok(typed.every(({ verdict, times }) => verdict === "right" && times));
    assert.ok(typed.every(({ farthest }) => farthest?.what === "y"));
  }
});

test("a text in the place of a kernel of the package is held to the record", async () => {
  const same = join(folder, "softplus.wgsl");
  copyFileSync(join(root, "kernels/softplus.wgsl"), same);
  const order = { shapes: ["x=3x17"], against: same };
  assert.ok(verdicts(await attempt(orderOf("softplus", order))).every((verdict) => verdict === "right"));
  const right = readFileSync(same, "utf8");
  const text = right.replace(/(fn backward[\s\S]*)\bsigmoid\(/, "$1 1.01 * sigmoid(");
  assert.notEqual(text, right);
  writeFileSync(same, text);
  const report = await attempt(orderOf("softplus", order));
  assert.deepEqual(new Set(verdicts(report)), new Set(["right", "wrong"]));
  assert.match(
    await errorOf(orderOf("softplus", order)),
    /softplus\.wgsl .*: the gradient of x of softplus\(\) of x /,
  );
});

test("no source is substituted for a kernel that was compiled", async () => {
  const x = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [4]);
  const y = softplus(x);
  await device.idle();
  assert.throws(
    () => device.kernels.substitute("softplus", ""),
    /^Error: Cannot substitute kernel softplus: it was compiled/,
  );
  x.release();
  y.release();
});

test("lineIn() finds the line of a file, or says that it cannot tell", () => {
  const text = "// one\nlet a = 1;\nfoo();\n/* two\n lines */\nlet b = 2;\nfoo();\n";
  assert.equal(lineIn(text, ["     1 let a = 1;", ">    2 foo();", "     3 let b = 2;"]), 3);
  assert.equal(lineIn(text, ["     3 let b = 2;", ">    4 foo();"]), 7);
  assert.equal(lineIn(text, [">    4 foo();"]), undefined);
  assert.equal(lineIn(text, [">    4 bar();"]), undefined);
});

test("a history compares with the last run that was timed", () => {
  const measured = (median: number) => ({
    median,
    spread: 0,
    samples: [1, 1.01, 1.02, 1.03, 1.04].map((x) => x * median),
  });
  const run = (verdict: "right" | "wrong", ms?: number): KernelReport => ({
    ...{ kernel: "k", adapter: "a", driver: "d", clock: "gpu", runs: 5, flush: 0, peaks: false, notes: [] },
    bouts: [
      {
        shape: "N=1",
        variants: [
          {
            ...{ name: "WG=8", source: "k.wgsl", verdict, compared: 1 },
            ...(ms && { times: { warm: measured(ms), cold: measured(ms), calls: 1 } }),
          },
        ],
      },
    ],
  });
  const history = new History();
  assert.deepEqual(history.changes(run("right", 2)), []);
  assert.deepEqual(history.changes(run("wrong")), ["k.wgsl WG=8: was right, is wrong"]);
  assert.deepEqual(history.changes(run("right", 1)), [
    "k.wgsl WG=8: was wrong, is right; 2.00 → 1.00 ms warm, faster 2.00× (p = 0.0079)",
  ]);
});
