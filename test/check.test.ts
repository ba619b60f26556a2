import assert from "node:assert/strict";
import { test } from "node:test";
import { check, showFloors } from "../tools/check.ts";

/** Faults of a small project as "path:line rule". */
function faults(files: Record<string, string>): string[] {
  return check(new Map(Object.entries(files))).map(({ path, line, rule }) => `${path}:${line} ${rule}`);
}

const launch = (...entries: string[]) =>
  `import type { Grid } from "./kernel.ts";\nconst TABLE = {\n${entries.map((e) => `  ${e}\n`).join("")}};\n`;
const gelu = {
  "kernels/gelu.wgsl": "// gelu",
  "src/ops/gelu.ts": 'import { run } from "../gpu/kernel.ts";\nconst k = twin("gelu", { WG: 256 });\nrun(k);',
  "src/ops/mod.ts": 'export { type GeluOptions, gelu } from "./gelu.ts";',
  "src/gpu/kernel.ts": "export function run(device: GPUDevice) {}",
  "src/gpu/launch.ts": launch("gelu: alone,"),
  "src/records/gelu.ts": 'export const records = [defineOp({ name: "gelu" })];',
};

test("check() finds nothing in a project in order", () => {
  assert.deepEqual(faults(gelu), []);
});

test("check() names an import that goes up a floor, a type as well", () => {
  assert.deepEqual(
    faults({ "src/gpu/pool.ts": '// pool\nimport type { Tensor } from "../tensor/tensor.ts";' }),
    ["src/gpu/pool.ts:2 floor 1 imports src/tensor/tensor.ts on floor 2: import only downward"],
  );
});

test("check() lets src/ import nothing from test, tools or bench", () => {
  assert.deepEqual(faults({ "src/mod.ts": 'export {\n  runVerb,\n} from "../tools/cli.ts";' }), [
    "src/mod.ts:1 src imports tools/cli.ts: nothing imports test, tools or bench",
  ]);
});

test("check() keeps host/current.ts for src/host/mod.ts and tools", () => {
  const text = 'import { host } from "../src/host/current.ts";';
  assert.deepEqual(
    faults({ "tools/doctor.ts": text, "src/host/mod.ts": text.replace("../src/host", ".") }),
    [],
  );
  assert.deepEqual(faults({ "src/gpu/device.ts": 'const h = await import("../host/current.ts");' }), [
    "src/gpu/device.ts:1 only src/host/mod.ts, test, bench and tools import host/current.ts: take a Device or a Host instead",
  ]);
});

test("check() keeps WebGPU types below floor 2, and reads no comment or string as one", () => {
  const text = '// GPUBuffer is fine here\nconst s = "GPUDevice";\nlet b: GPUBuffer;\n';
  assert.deepEqual(faults({ "src/tensor/tensor.ts": text }), [
    "src/tensor/tensor.ts:3 GPUBuffer: only host/ and gpu/ name WebGPU types",
  ]);
});

test("check() names what a new operator still wants: twin, launch entry, record, kernel, export", () => {
  const relu: Record<string, string> = { ...gelu, "kernels/relu.wgsl": "// relu" };
  const left = (path: string, ...rules: string[]) =>
    assert.deepEqual(
      faults(relu),
      rules.map((rule) => `${path} ${rule}`),
    );
  const entry = "has no entry relu in the table of src/gpu/launch.ts";
  const record = "has no record in src/records/relu.ts";
  left("kernels/relu.wgsl:1", 'has no twin("relu") in src/ops/relu.ts', entry, record);
  relu["src/ops/relu.ts"] = `import { twin } from "../gpu/kernel.ts";
import { record } from "../tensor/tape.ts";
const k = twin("relu", { forward: pointwise(1, "x", "y") });
export function relu(x: Tensor): Tensor {
  k.run("forward", { x, y }, {}, [1]);
  return record("relu", [x], y, [], back);
}`;
  const alone = "relu() runs a kernel, and src/ops/mod.ts does not export it";
  const unheld = "relu() runs a kernel, and no record in src/records/relu.ts and no test names it";
  assert.deepEqual(faults(relu), [
    `src/ops/relu.ts:3 ${entry}`,
    `src/ops/relu.ts:3 ${record}`,
    `src/ops/relu.ts:4 ${alone}`,
    `src/ops/relu.ts:4 ${unheld}`,
  ]);
  relu["src/gpu/launch.ts"] = launch("gelu: alone,", "relu,", '"relu.sums": () => ({ parts: 64 }),');
  relu["src/ops/mod.ts"] += '\nexport { relu } from "./relu.ts";';
  assert.deepEqual(faults(relu), [`src/ops/relu.ts:3 ${record}`, `src/ops/relu.ts:4 relu() ${record}`]);
  relu["src/records/relu.ts"] = "export const records = [];";
  left("src/ops/relu.ts:4", `relu() ${record}`);
  relu["src/records/relu.ts"] = 'export const records = [defineOp({ name: "relu" })];';
  left("");
  delete relu["kernels/relu.wgsl"];
  assert.deepEqual(faults(relu), [
    "src/gpu/launch.ts:4 the entry relu has no kernels/relu.wgsl",
    'src/ops/relu.ts:3 twin("relu") has no kernels/relu.wgsl',
  ]);
});

test("check() leaves a twin with a source of its own where it is", () => {
  assert.deepEqual(
    faults({ "src/records/peak.ts": 'twin(\n  "wavegate/peak",\n  `fn forward() {}`,\n);' }),
    [],
  );
});

test("check() wants a cost of each entry point, and none besides", () => {
  const wgsl = (...entries: string[]) =>
    entries.map((entry) => `@compute @workgroup_size(WG)\nfn ${entry}(@builtin(x) i: u32) {}`).join("\n");
  const told = (costs: string, kernel = wgsl("forward", "backward")) =>
    faults({
      ...gelu,
      "kernels/gelu.wgsl": kernel,
      "src/ops/gelu.ts": gelu["src/ops/gelu.ts"].replace('twin("gelu", { WG: 256 })', `twin("gelu"${costs})`),
    });
  const lacks = (entry: string) =>
    `src/ops/gelu.ts:2 twin("gelu") declares no cost of its entry point ${entry}`;
  assert.deepEqual(told(""), [lacks("forward"), lacks("backward")]);
  assert.deepEqual(told(", { forward: pointwise(1, 'x') }"), [lacks("backward")]);
  assert.deepEqual(told(", {\n  forward: ({ dims: { backward } }) => ({ flops: 1, backward: 2 }),\n}"), [
    lacks("backward"),
  ]);
  const both = ", { forward: pointwise(1, 'x'), backward: ({ bytes }) => ({ flops: 0, bytes: bytes('x') }) }";
  assert.deepEqual(told(both), []);
  assert.deepEqual(told(both, wgsl("forward")), [
    'src/ops/gelu.ts:2 twin("gelu") declares the cost of backward, which its kernel has not',
  ]);
  const included = { "kernels/lib/body.wgsl": wgsl("backward") };
  const files = { ...gelu, ...included, "kernels/gelu.wgsl": `#include "lib/body.wgsl"\n${wgsl("forward")}` };
  assert.deepEqual(
    faults({
      ...files,
      "src/ops/gelu.ts": gelu["src/ops/gelu.ts"].replace("{ WG: 256 }", "{ forward: one }"),
    }),
    [lacks("backward")],
  );
});

test("check() keeps a twin in the file of its name", () => {
  assert.deepEqual(faults({ ...gelu, "src/ops/norm.ts": 'twin("gelu");' }), [
    'src/ops/norm.ts:1 twin("gelu") belongs in src/ops/gelu.ts',
  ]);
});

test("check() takes an operator that other files use for exported, and a test that names it for a record", () => {
  const files = operator(
    "export function geluParts(x: Tensor): Tensor {\n  k.run('f', { x }, {}, [1]);\n  return record(x);\n}",
  );
  assert.deepEqual(faults(files), [
    "src/ops/gelu.ts:4 geluParts() runs a kernel, and src/ops/mod.ts does not export it",
    "src/ops/gelu.ts:4 geluParts() runs a kernel, and no record in src/records/gelu.ts and no test names it",
  ]);
  const inner = { ...files, "src/ops/norm.ts": 'import { geluParts } from "./gelu.ts";' };
  assert.deepEqual(faults({ ...inner, "test/gelu.test.ts": "geluParts(x);" }), []);
  assert.deepEqual(faults({ ...inner, "test/gelu.test.ts": "// geluParts(x);" }), [
    "src/ops/gelu.ts:4 geluParts() runs a kernel, and no record in src/records/gelu.ts and no test names it",
  ]);
});

test("showFloors() has a line for each floor, from the roof down", () => {
  const lines = showFloors();
  assert.deepEqual(
    [lines[0], lines.at(-2), lines.at(-1)],
    ["11  src/mod.ts", " 1  gpu, page", " 0  host, io"],
  );
  assert.ok(lines.some((line) => /^ 4 {2}.*\brecords\b/.test(line)));
  assert.equal(lines.length, 12);
});

test("check() lets the tape have a twin of its own, with a record and a word on its gradient", () => {
  const text = (comment: string) => `import { twin } from "../gpu/kernel.ts";
const k = twin("accumulate");
${comment}
export function accumulate(a: Tensor): Tensor {
  k.run("forward", { a, y }, {}, [1]);
  return y;
}
`;
  const files = (comment: string) => ({
    "kernels/accumulate.wgsl": "// accumulate",
    "src/tensor/accumulate.ts": text(comment),
    "src/tensor/autograd.ts": 'import { accumulate } from "./accumulate.ts";',
    "src/gpu/launch.ts": launch("accumulate: alone,"),
    "src/records/accumulate.ts": 'export const records = [defineOp({ name: "accumulate" })];',
  });
  assert.deepEqual(faults(files("/** A sum. Has no gradient. */")), []);
  assert.deepEqual(faults(files("/** A sum. */")), [
    "src/tensor/accumulate.ts:4 accumulate() runs a kernel and records no backward: record() one, or notDifferentiable()",
  ]);
  const { "src/records/accumulate.ts": given, ...unrecorded } = files("/** A sum. Has no gradient. */");
  assert.ok(given);
  assert.deepEqual(faults(unrecorded), [
    "src/tensor/accumulate.ts:2 has no record in src/records/accumulate.ts",
    "src/tensor/accumulate.ts:4 accumulate() runs a kernel, and no record in src/records/accumulate.ts and no test names it",
  ]);
  const { "src/tensor/accumulate.ts": moved, ...elsewhere } = files("");
  assert.ok(moved);
  assert.deepEqual(faults({ ...elsewhere, "src/nn/accumulate.ts": 'twin("accumulate");' }), [
    'src/nn/accumulate.ts:1 twin("accumulate") belongs in src/ops/accumulate.ts',
  ]);
});

const operator = (body: string) => ({
  ...gelu,
  "src/ops/gelu.ts": `import { twin } from "../gpu/kernel.ts";
import { notDifferentiable, record } from "../tensor/tape.ts";
const k = twin("gelu");
${body}`,
});

test("check() names an operator that runs a kernel and records no backward", () => {
  const fault = (line: number, name = "gelu") =>
    `src/ops/gelu.ts:${line} ${name}() runs a kernel and records no backward: record() one, or notDifferentiable()`;
  const run = "k.run('forward', { x, y }, {}, [1]);";
  assert.deepEqual(faults(operator(`export function gelu(x: Tensor): Tensor {\n  ${run}\n  return y;\n}`)), [
    fault(4),
  ]);
  assert.deepEqual(
    faults(operator(`export const gelu = (x: Tensor): Tensor => {\n  ${run}\n  return y;\n};`)),
    [fault(4)],
  );
  // Through a helper; what the helper's other caller records does not count.
  const helper = `function apply(x: Tensor): Tensor {\n  ${run}\n  return y;\n}\n`;
  const good =
    'export function gelu(x: Tensor): Tensor {\n  return record("gelu", [x], apply(x), [], back);\n}\n';
  assert.deepEqual(faults(operator(helper + good)), []);
  const bad = "export function geluFast(x: Tensor): Tensor {\n  gelu(x);\n  return apply(x);\n}\n";
  const fast = {
    "src/ops/mod.ts": 'export { gelu, geluFast } from "./gelu.ts";',
    "src/records/gelu.ts": 'const records = [one("gelu"), one("geluFast")];',
  };
  assert.deepEqual(faults({ ...operator(helper + good + bad), ...fast }), [fault(11, "geluFast")]);
  const inline = run.replace("k.", 'twin("gelu").');
  assert.deepEqual(faults(operator(`export function gelu(x: Tensor) {\n  ${inline}\n}`)), [fault(4)]);
  // A record in a comment or a string is none.
  const said = `export function gelu(x: Tensor): Tensor {\n  ${run} // record(y)\n  return log("record(y)");\n}`;
  assert.deepEqual(faults(operator(said)), [fault(4)]);
});

test("check() lets an operator do without a backward that says so, or that gets no tensor", () => {
  const body = "(x: Tensor): Tensor {\n  k.run('forward', { x, y }, {}, [1]);\n  return y;\n}\n";
  assert.deepEqual(faults(operator(`/** Has no gradient. */\nexport function gelu${body}`)), []);
  const record = 'return record("gelu", [x], y, [], notDifferentiable("gelu", "a step"));';
  assert.deepEqual(faults(operator(`export function gelu${body.replace("return y;", record)}`)), []);
  assert.deepEqual(
    faults(operator(`export function gelu${body.replace("x: Tensor", "device: Device")}`)),
    [],
  );
  const file = operator(`export function gelu${body}`);
  const text = `/** Steps. They have no gradient. */\n${file["src/ops/gelu.ts"]}`;
  assert.deepEqual(faults({ ...file, "src/ops/gelu.ts": text }), []);
});

test("check() lets no kernel write one component of a workgroup vector", () => {
  const kernel =
    "var<workgroup> tile: array<vec4f, 16>;\n// tile[i].x = 1\ntile[i] = v;\nlet y = tile[i].x;\ntile[i][j % 4u] = x;\ntile[i].w += x;";
  const rule = "writes one component of tile: store vectors of workgroup memory whole";
  assert.deepEqual(faults({ ...gelu, "kernels/gelu.wgsl": kernel }), [
    `kernels/gelu.wgsl:5 ${rule}`,
    `kernels/gelu.wgsl:6 ${rule}`,
  ]);
});

test("check() names the import that closes a circle, unless it is a type", () => {
  const circle = {
    "src/nn/a.ts": 'import { b } from "./b.ts";',
    "src/nn/b.ts": 'import { a } from "./a.ts";',
  };
  assert.deepEqual(faults(circle), ["src/nn/b.ts:1 import cycle: src/nn/a.ts → src/nn/b.ts → src/nn/a.ts"]);
  assert.deepEqual(faults({ ...circle, "src/nn/b.ts": 'import type { A } from "./a.ts";' }), []);
});

test("check() finds registry hosts and paths of one machine in any text", () => {
  const host = ["registry", "example", "org"].join(".");
  const path = ["", "home", "someone", "x"].join("/");
  assert.deepEqual(faults({ "README.md": `see ${host}\nor ${path}\nnot https://example.org${path}` }), [
    `README.md:1 "${host}" names the host of a package registry`,
    `README.md:2 "${path.slice(0, -2)}" names an absolute path of one machine`,
  ]);
});

test("check() refuses a lock file without an optional package of some platform, or with a mirror's address", () => {
  const lock = (packages: object) => ({ "package-lock.json": JSON.stringify({ packages }, null, 2) });
  const entry = { optionalDependencies: { "@d/linux": "2", "@d/darwin": "2" } };
  const whole = {
    "": {},
    "node_modules/d": entry,
    "node_modules/@d/linux": {},
    "node_modules/a/node_modules/d": entry,
    "node_modules/a/node_modules/@d/linux": {},
    "node_modules/@d/darwin": {},
  };
  assert.deepEqual(faults(lock(whole)), []);
  const { "node_modules/@d/darwin": _, ...partial } = whole;
  const advice =
    "delete node_modules and the lock, then run npm install --package-lock-only --ignore-scripts";
  assert.deepEqual(faults(lock(partial)), [
    `package-lock.json:4 lacks @d/darwin: ${advice}`,
    `package-lock.json:11 lacks @d/darwin: ${advice}`,
  ]);
  assert.deepEqual(faults(lock({ "node_modules/a": { resolved: "https://mirror.example/a.tgz" } })), [
    "package-lock.json:3 names the mirror that node_modules/a came from",
  ]);
});
