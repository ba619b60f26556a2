/**
 * Builds dist/ for the npm package: JavaScript and types of src/ and of the verbs, the kernels inside.
 * Plain Node; `npm pack` calls it. `--out DIR` builds into another folder, which is replaced.
 */
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { writeKernels } from "./build_kernels.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values } = parseArgs({ options: { out: { type: "string" } } });
const dist = values.out === undefined ? join(root, "dist") : resolve(values.out);

const typescript = findTypescript();
rmSync(dist, { recursive: true, force: true });
const tsc = spawnSync(
  process.execPath,
  [join(typescript, "bin/tsc"), "-p", "tsconfig.build.json", "--outDir", dist],
  {
    cwd: root,
    stdio: ["ignore", 2, 2], // stdout belongs to npm pack --json
  },
);
if (tsc.status !== 0) {
  rmSync(dist, { recursive: true, force: true });
  console.error("build: Cannot build dist: the type check failed");
  process.exit(1);
}

writeKernels(root, dist);

// NAME.browser.ts takes the place of NAME.ts in a browser: package.json has the condition, which all bundlers know.
const sources = join(dist, "src");
for (const name of readdirSync(sources, { recursive: true, encoding: "utf8" })) {
  const [, path] = /^(.*)\.browser\.js$/.exec(name.replaceAll("\\", "/")) ?? [];
  if (path === undefined) continue;
  renameSync(join(sources, `${path}.js`), join(sources, `${path}.native.js`));
  writeFileSync(join(sources, `${path}.js`), `export * from "#runtime/${path}";\n`);
}

// tsc wraps names that it cannot see into a call; bundlers look for their comments inside import() itself.
for (const name of readdirSync(sources, { recursive: true, encoding: "utf8" })) {
  if (!name.endsWith(".js")) continue;
  const code = readFileSync(join(sources, name), "utf8");
  const plain = code.replace(
    /import\(__rewriteRelativeImportExtension\((\s*\/\* webpackIgnore[^)]*)\)\)/g,
    "import($1)",
  );
  if (plain !== code) writeFileSync(join(sources, name), plain);
}

// As that, for HTML pages.
const { PAGE_FILES } = await import(pathToFileURL(join(dist, "src/page/files.js")).href);
const page = Object.entries(PAGE_FILES).map(([name, path]) => [name, readFileSync(join(root, path), "utf8")]);
const pageTexts = `export const PAGE_TEXTS = ${JSON.stringify(Object.fromEntries(page), null, 2)};\n`;
writeFileSync(join(dist, "src/page/texts.js"), pageTexts);

// What `wavegate isa` compiles where it runs.
for (const name of ["layer.c", "vulkan_subset.h", "msl.cuh"])
  cpSync(join(root, "tools/isa", name), join(dist, "tools/isa", name));

// The public types name GPU* and Symbol.dispose. TypeScript 6 and later have both in their own libraries;
// for earlier ones a second entry refers to @webgpu/types. Both at once would conflict.
const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const libraries = '/// <reference lib="dom" />\n/// <reference lib="esnext.disposable" />\n';
const earlier = '/// <reference types="@webgpu/types" />\nexport * from "./mod.js";\n';
for (const { types } of Object.values(exports)) {
  if (types === undefined) continue;
  const entry = join(dist, types.replace("./dist/", ""));
  const present = entry.replace(".before-6", "");
  writeFileSync(present, libraries + readFileSync(present, "utf8"));
  writeFileSync(entry, earlier);
}

function findTypescript() {
  try {
    return dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
  } catch {
    console.error("build: Cannot find typescript: run npm install first");
    process.exit(1);
  }
}
