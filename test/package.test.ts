import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { buildSync } from "esbuild";
import { installed, project, root, run, runScript } from "./package.ts";

const app = installed();

/** A product of the package's, and the gradients of two kernels of its own, declared before and after the device is opened. */
const program = `
import { currentHost, gridFor, openDevice, ops, record, scope, Tensor, twin, vjp } from "wavegate";
const source = \`
  struct Dims { size: u32 }
  @group(0) @binding(0) var<storage, read> x: array<f32>;
  @group(0) @binding(1) var<storage, read> dy: array<f32>;
  @group(0) @binding(2) var<storage, read_write> y: array<f32>;
  @group(0) @binding(3) var<uniform> d: Dims;
  #include "lib/grid.wgsl"
  @compute @workgroup_size(64)
  fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = linear_id(wg, groups, t, 64u);
    if (i < d.size) { y[i] = x[i] * x[i]; }
  }
  @compute @workgroup_size(64)
  fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
    let i = linear_id(wg, groups, t, 64u);
    if (i < d.size) { y[i] = 2.0 * x[i] * dy[i]; }
  }\`;
const square = (k) => (x) => {
  const [y, dims, grid] = [x.like(), { size: x.size }, gridFor(x.size, 64)];
  k.run("forward", { x, y }, dims, grid);
  return record("square", [x], y, [x], (dy) => {
    const dx = x.like();
    k.run("backward", { x, dy, y: dx }, dims, grid);
    return [dx];
  });
};
const early = twin("app/early", source);
const device = await openDevice(await currentHost());
const late = twin("app/late", source);
const y = scope(device, () => ops.matmul(
  Tensor.from(device, Float32Array.of(1, 2, 3, 4), [2, 2]), Tensor.from(device, Float32Array.of(1, 0, 0, 2), [2, 2]),
));
const shown = [await y.read()];
for (const k of [early, late]) {
  const x = Tensor.from(device, Float32Array.of(1, 2, 3), [3]);
  const { outputs, gradients } = vjp(device, [x], () => (
    { outputs: [square(k)(x)], cotangents: [ops.full(device, [3], 1)] }
  ));
  shown.push(await outputs[0].read(), await gradients.get(x).read());
}
console.log(shown.map((values) => values.join(" ")).join("; "));
device.dispose();
process.exit(0);
`;
const printed = "1 4 3 8; 1 4 9; 2 4 6; 1 4 9; 2 4 6\n";

test("package brings its kernels along in modules, takes others, and no development dependency is needed", () => {
  writeFileSync(join(app, "app.mjs"), `import process from "node:process";${program}`);
  assert.equal(runScript(app, "app.mjs"), printed);
  const files = readdirSync(join(app, "node_modules/wavegate/dist"), { recursive: true, encoding: "utf8" });
  assert.deepEqual(
    files.filter((name) => name.endsWith(".wgsl")),
    [],
  );
});

/** The program in one file, in a folder that has no more than the packages with native code. */
function bundled(resolveDir: string): string {
  const elsewhere = project(["webgpu", "tokenizers"]);
  buildSync({
    stdin: { contents: `import process from "node:process";${program}`, resolveDir },
    outfile: join(elsewhere, "bundle.mjs"),
    bundle: true,
    minify: true,
    format: "esm",
    platform: "node",
    ...(resolveDir === root ? { alias: { wavegate: join(root, "src/mod.ts") } } : {}),
  });
  return elsewhere;
}

test("package bundled into one file works in another folder", () => {
  assert.equal(runScript(bundled(app), "bundle.mjs"), printed);
});

test("openDevice() says in a bundle of the sources that the built package should be bundled", () => {
  assert.throws(() => runScript(bundled(root), "bundle.mjs"), {
    message:
      /Cannot find kernel \w+\.wgsl: only the built package \(npm run build\) works without the folder kernels/,
  });
});

test("package opens by floor too, and one door leads to all", () => {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const floors = Object.keys(exports).filter((path) => path !== "." && path !== "./package.json");
  assert.ok(floors.length >= 9, floors.join());
  const specifiers = floors.map((path) => path.replace(".", "wavegate"));
  writeFileSync(
    join(app, "floors.mjs"),
    `import process from "node:process";
    const whole = await import("wavegate");
    for (const path of ${JSON.stringify(specifiers)}) {
      const floor = await import(path);
      const door = path === "wavegate/ops" ? whole.ops : whole;
      for (const name of Object.keys(floor)) if (door[name] !== floor[name]) console.log(path, name);
      if (Object.keys(floor).length === 0) console.log(path, "exports nothing");
    }
    process.exit(0);`,
  );
  assert.equal(runScript(app, "floors.mjs"), "");
});

test("package's types hold for every floor", () => {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const floors = Object.keys(exports).filter((path) => path !== "./package.json");
  const imports = floors.map((path, i) => `import * as floor${i} from "${path.replace(".", "wavegate")}";`);
  const uses = floors.map((_, i) => `floor${i}`);
  writeFileSync(join(app, "floors.ts"), `${imports.join("\n")}\nconsole.log(${uses.join(", ")});\n`);
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2023", "--types", "node"];
  const roots = ["--typeRoots", join(root, "node_modules/@types")];
  run(app, join(root, "node_modules/.bin/tsc"), ...options, ...roots, "floors.ts");
});

test("package's doctor has every operator's record with it, and finds all right", () => {
  const script = join(app, "node_modules/wavegate/dist/tools/doctor.js");
  const { selfTest } = JSON.parse(runScript(app, script, "--json"));
  assert.ok(selfTest.length > 40, `${selfTest.length} operators`);
  for (const { operator, pass } of selfTest) assert.ok(pass, operator);
});

test("package makes the page of a profile by itself", () => {
  const script = join(app, "node_modules/wavegate/dist/tools/profile.js");
  runScript(app, script, "predict", "--seconds", "0.5", "--runs", "1", "--html", join(app, "page.html"));
  const page = readFileSync(join(app, "page.html"), "utf8");
  assert.match(page, /<title>Wavegate profile predict/);
  assert.match(page, /uPlot=function/);
  assert.match(page, /<circle class="dot/);
});

test("package holds what its README and its docs link to", () => {
  const base = join(app, "node_modules/wavegate");
  for (const page of ["README.md", ...readdirSync(join(base, "docs")).map((name) => `docs/${name}`)])
    for (const [, target] of readFileSync(join(base, page), "utf8").matchAll(/\]\((?!https?:|#)([^)#\s]+)/g))
      assert.ok(existsSync(join(base, dirname(page), target)), `${page} links to ${target}`);
});
