import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { buildSync } from "esbuild";
import { installed, project, root, runScript } from "./package.ts";

const app = installed();

const program = `
import { currentHost, openDevice, ops, scope, Tensor } from "wavegate";
const device = await openDevice(await currentHost());
const y = scope(device, () => ops.matmul(
  Tensor.from(device, Float32Array.of(1, 2, 3, 4), [2, 2]), Tensor.from(device, Float32Array.of(1, 0, 0, 2), [2, 2]),
));
console.log([...await y.read()].join(" "));
device.dispose();
process.exit(0);
`;

test("package brings its kernels along in one module, and no development dependency is needed", () => {
  writeFileSync(join(app, "app.mjs"), `import process from "node:process";${program}`);
  assert.equal(runScript(app, "app.mjs"), "1 4 3 8\n");
  assert.ok(!existsSync(join(app, "node_modules/wavegate/dist/kernels")));
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
    external: ["webgpu", "tokenizers"],
    ...(resolveDir === root ? { alias: { wavegate: join(root, "src/mod.ts") } } : {}),
  });
  return elsewhere;
}

test("package bundled into one file works in another folder", () => {
  assert.equal(runScript(bundled(app), "bundle.mjs"), "1 4 3 8\n");
});

test("openDevice() says in a bundle of the sources that the built package should be bundled", () => {
  assert.throws(() => runScript(bundled(root), "bundle.mjs"), {
    message:
      /Cannot find kernel \w+\.wgsl: only the built package \(npm run build\) works without the folder kernels/,
  });
});
