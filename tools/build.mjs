/**
 * Builds dist/ for the npm package: JavaScript and types of src/ and of the verbs, and the kernels.
 * Plain Node; `npm pack` calls it.
 */
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");

const typescript = findTypescript();
rmSync(dist, { recursive: true, force: true });
const tsc = spawnSync(process.execPath, [join(typescript, "bin/tsc"), "-p", "tsconfig.build.json"], {
  cwd: root,
  stdio: ["ignore", 2, 2], // stdout belongs to npm pack --json
});
if (tsc.status !== 0) {
  rmSync(dist, { recursive: true, force: true });
  console.error("build: Cannot build dist: the type check failed");
  process.exit(1);
}
cpSync(join(root, "kernels"), join(dist, "kernels"), { recursive: true });

// The public types name GPU* and Symbol.dispose. TypeScript 6 and later have both in their own libraries;
// for earlier ones a second entry brings @webgpu/types. The two together would clash.
const types = join(dist, "src/mod.d.ts");
const libraries = '/// <reference lib="dom" />\n/// <reference lib="esnext.disposable" />\n';
writeFileSync(types, libraries + readFileSync(types, "utf8"));
const earlier = '/// <reference types="@webgpu/types" />\nexport * from "./mod.js";\n';
writeFileSync(join(dist, "src/mod.before-6.d.ts"), earlier);

function findTypescript() {
  try {
    return dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
  } catch {
    console.error("build: Cannot find typescript: run npm install first");
    process.exit(1);
  }
}
