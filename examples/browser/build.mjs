/**
 * Builds the page into a folder that any server of static files can serve: esbuild bundles it, a model lies beside it.
 *
 *     npm run build && node examples/browser/build.mjs --serve
 *
 * `--metafile FILE` writes what esbuild says of the sizes. In a project where the package is installed: npm install esbuild, then node node_modules/wavegate/examples/browser/build.mjs.
 */
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { context } from "esbuild";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "site" },
    model: { type: "string" },
    serve: { type: "boolean" },
    metafile: { type: "string" },
  },
});
const here = fileURLToPath(new URL(".", import.meta.url));
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
for (const name of ["index.html", "style.css"]) cpSync(join(here, name), join(out, name));
cpSync(values.model ?? join(here, "../../weights/default"), join(out, "model"), { recursive: true });

// The package's own conditions do the rest; in a checkout its tsconfig.json would lead to the sources instead.
const build = await context({
  entryPoints: [join(here, "page.ts")],
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  splitting: true,
  tsconfigRaw: {},
  metafile: true,
  logLevel: "warning",
});
const { metafile } = await build.rebuild();
if (values.metafile !== undefined) writeFileSync(values.metafile, JSON.stringify(metafile));
console.log(`built: ${out}`);
if (values.serve) {
  const { port } = await build.serve({ servedir: out, host: "127.0.0.1" });
  console.log(`http://localhost:${port}/ (Ctrl-C ends it)`);
} else {
  await build.dispose();
  process.exit(0);
}
