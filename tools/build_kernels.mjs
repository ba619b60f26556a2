/** Puts the kernels into dist/ as modules, so that no file of them is looked for at run time. For build.mjs. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** What twin() says that kernels of users may include. */
const SHARED = [
  ...["exp", "gelu", "grid", "random", "sigmoid"],
  ...["max", "sum", "sum2", "workgroup_max", "workgroup_sum"],
];

/**
 * For Node and Deno all texts are in one module, which takes the place of the empty one of a checkout. For browsers each is in one
 * of its own, dist/kernels/NAME.js, which the module of its twin imports as #kernels/NAME: a bundle holds the kernels of the
 * operators in it, and each comes with its operator. Throws where a kernel has no twin.
 *
 * @param {string} root the checkout
 * @param {string} dist
 */
export function writeKernels(root, dist) {
  const texts = new Map(
    filesOf(join(root, "kernels"), ".wgsl").map((file) => [
      file,
      readFileSync(join(root, "kernels", file), "utf8"),
    ]),
  );
  const engine = join(dist, "src/gpu");
  const rest = "export const kernelTexts = async () => KERNEL_TEXTS;\n";
  // #kernels/NAME is this module too, which needs no more texts.
  const all = `export const KERNEL_TEXTS = new Map(${JSON.stringify([...texts], null, 2)});\n`;
  writeFileSync(join(engine, "kernel_texts.js"), `${all}${rest}export const texts = [];\n`);
  const shared = listOf(SHARED.map((name) => `../../kernels/lib/${name}.js`));
  writeFileSync(
    join(engine, "kernel_texts.browser.js"),
    `${shared.imports}export const KERNEL_TEXTS = new Map([${shared.items}]);\n${rest}`,
  );

  mkdirSync(join(dist, "kernels/lib"), { recursive: true });
  for (const [file, text] of texts) {
    const included = [...text.matchAll(/^[ \t]*#include "(.+)\.wgsl"/gm)].map(([, name]) => `${name}.js`);
    const up = file.startsWith("lib/") ? "../" : "./";
    const { imports, items } = listOf([...new Set(included)].map((name) => up + name));
    const own = JSON.stringify([file, bare(text)]);
    const module = `${imports}export const texts = [${items}${own}];\n`;
    writeFileSync(join(dist, "kernels", file.replace(/wgsl$/, "js")), module);
  }
  addToTwins(
    join(dist, "src"),
    [...texts.keys()].filter((file) => !file.startsWith("lib/")),
  );
}

/**
 * Lets the module of each twin import the text of its kernel.
 *
 * @param {string} sources
 * @param {string[]} files of the kernels
 */
function addToTwins(sources, files) {
  const missing = new Set(files.map((file) => file.replace(/\.wgsl$/, "")));
  for (const name of filesOf(sources, ".js")) {
    const path = join(sources, name);
    const code = readFileSync(path, "utf8");
    const kernel = /\btwin\(\s*"(\w+)"/.exec(code)?.[1];
    if (kernel === undefined || !missing.delete(kernel)) continue;
    const registry = `${relative(dirname(path), sources).replaceAll("\\", "/")}/gpu/kernel_texts.js`;
    const imports = `import { KERNEL_TEXTS } from "${registry}";\nimport { texts as kernelTexts } from "#kernels/${kernel}";\n`;
    const adds = "for (const [file, text] of kernelTexts) KERNEL_TEXTS.set(file, text);\n";
    writeFileSync(path, `${imports}${code}${adds}`);
  }
  if (missing.size > 0)
    throw new Error(`Cannot build dist: no module has the twin of ${[...missing].join(", ")}`);
}

/**
 * @param {string} folder
 * @param {string} ending
 */
const filesOf = (folder, ending) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending))
    .map((name) => name.replaceAll("\\", "/"))
    .sort();

/**
 * Imports of the lists of other modules, and those as items of another list.
 *
 * @param {string[]} modules
 */
const listOf = (modules) => ({
  imports: modules.map((path, i) => `import { texts as texts${i} } from "${path}";\n`).join(""),
  items: modules.map((_, i) => `...texts${i}, `).join(""),
});

/**
 * The text without comments, and without space that WGSL does not need, which is a fifth of what a page loads. The preprocessor's
 * directives stay as they are, each a line.
 *
 * @param {string} text
 */
const bare = (text) =>
  text
    .replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, "")
    .replace(/^[ \t]+|[ \t]+$|\n(?=[ \t]*\n)/gm, "")
    .replace(/^[^#\n].*$/gm, (line) => line.replace(/ *([(){}[\],;:=+*<>&|]) */g, "$1"))
    .replace(/([;{},])\n(?!#)/g, "$1");
