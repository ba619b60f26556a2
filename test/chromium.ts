/** Pages in headless Chromium, where that is on the PATH. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Why tests that need Chromium are skipped; false where they are not. */
export const withoutChromium =
  spawnSync("chromium", ["--version"], { encoding: "utf8" }).status !== 0 &&
  "no chromium on the PATH: node tools/setup.mjs --chromium installs it";

/**
 * Opens `page` with `visitor` at its end, a script that leaves what it found in the attribute data-found of the document as JSON;
 * `window.errors` has the messages of the page's errors. Returns what was found.
 */
export function visit(folder: string, page: string, visitor: string, width: number) {
  const path = join(folder, "page.html");
  const first = `<head><script>window.errors = []; addEventListener("error", (e) => errors.push(e.message));</script>`;
  const last = `<script>(() => {${visitor}})();</script></body>`;
  writeFileSync(
    path,
    page.replace("<head>", () => first).replace("</body>", () => last),
  );
  const flags = [
    ...["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"],
    ...[`--user-data-dir=${join(folder, "chromium")}`, `--window-size=${width},1000`],
  ];
  const { stdout } = spawnSync("chromium", [...flags, "--dump-dom", pathToFileURL(path).href], {
    encoding: "utf8",
    timeout: 120_000,
    maxBuffer: 2 ** 26,
  });
  const found = JSON.parse(
    (/data-found="([^"]*)"/.exec(stdout)?.[1] ?? "null").replaceAll("&quot;", '"').replaceAll("&amp;", "&"),
  );
  assert.ok(found, stdout.slice(0, 500));
  return found;
}
