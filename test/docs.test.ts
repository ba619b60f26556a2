/** What docs/ quotes is what the files hold. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { check } from "../tools/check.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => readFileSync(join(root, path), "utf8");
const pages = readdirSync(join(root, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => ({ name, text: read(`docs/${name}`) }));

/** Code blocks whose first line names files: "ts src/ops/softplus.ts". A line of … stands for lines left out. */
const quotations = (text: string) =>
  [...text.matchAll(/^```(\w+) (\S.*)\n([\s\S]*?)^```$/gm)].map(([, language, about, code]) => ({
    ...{ language, about, code },
  }));

for (const { name, text } of pages) {
  test(`docs/${name} quotes files as they are`, () => {
    for (const { about, code } of quotations(text).filter(({ language }) => language !== "text")) {
      let at = 0;
      for (const part of code.split("…\n")) {
        const found = read(about).indexOf(part, at);
        assert.ok(found >= 0, `${about} does not hold:\n${part}`);
        at = found + part.length;
      }
    }
  });

  test(`docs/${name} names scripts and files that there are`, () => {
    const { scripts } = JSON.parse(read("package.json"));
    for (const [, script] of text.matchAll(/`npm run (\w+)/g)) assert.ok(script in scripts, script);
    for (const [, path] of text.matchAll(/`((?:docs|kernels|src|test|tools|bench)\/[\w./-]+)`/g))
      assert.ok(existsSync(join(root, path)), path);
  });
}

test("docs/add_an_operator.md shows what check() says of a kernel without the rest", () => {
  const page = pages.find(({ name }) => name === "add_an_operator.md");
  const [{ about, code }] = quotations(page?.text ?? "").filter(({ language }) => language === "text");
  const paths = about.split(" ").slice(1);
  const said = check(new Map(paths.map((path) => [path, read(path)])));
  assert.equal(said.map(({ path, line, rule }) => `${path}:${line}: ${rule}\n`).join(""), code);
});

test("docs/add_an_operator.md quotes each of the five files", () => {
  const page = pages.find(({ name }) => name === "add_an_operator.md")?.text ?? "";
  const table = [...page.matchAll(/^\| `([\w./]+)` \|/gm)].map(([, path]) => path);
  const quoted = new Set(
    quotations(page).flatMap(({ language, about }) => (language === "text" ? [] : about)),
  );
  assert.equal(table.length, 5);
  assert.deepEqual([...quoted].sort(), [...table].sort());
});
