import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { currentHost } from "../src/host/current.ts";
import { readJson } from "../src/io/config.ts";
import { parseJson } from "../src/io/json.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "config-test-"));
after(() => rmSync(folder, { recursive: true }));

test("readJson() reads an object and says in one line what is wrong with anything else", async () => {
  const path = join(folder, "config.json");
  await assert.rejects(readJson(host, path), { message: `Cannot read ${path}: no such file or folder` });
  const cases: [string, string][] = [
    ["", "not JSON, line 1, column 1: expected a value but found the end"],
    ['{\n  "a": 1\n  "b": 2\n}', "not JSON, line 3, column 3: expected ',' or '}' but found '\"'"],
    ['{"a": tru}', "not JSON, line 1, column 7: expected a value but found 't'"],
    ['{"a": 01}', "not JSON, line 1, column 7: expected a value but found '0'"],
    ['{"a": "\t"}', "not JSON, line 1, column 7: the string holds a bad escape or a control character"],
    ['{"a": 1, "a": 2}', 'not JSON, line 1, column 10: key "a" stands twice in one object'],
  ];
  for (const [text, message] of cases) {
    writeFileSync(path, text);
    await assert.rejects(readJson(host, path), { message: `Cannot read ${path}: ${message}` });
  }
  for (const text of ["[1]", "null", '"text"']) {
    writeFileSync(path, text);
    const message = `Cannot use ${path}: it is ${text} but should be an object`;
    await assert.rejects(readJson(host, path), { message });
  }
  writeFileSync(path, '\uFEFF{"hidden_size": 768, "x": [true, null, -1.5e-3, {}]}');
  assert.deepEqual(await readJson(host, path), { hidden_size: 768, x: [true, null, -1.5e-3, {}] });
});

test("parseJson() agrees with JSON.parse on any value and on any damaged text", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), fc.nat(), fc.string({ maxLength: 2 }), (text, at, patch) => {
      assert.deepEqual(parseJson(text), JSON.parse(text));
      const place = at % (text.length + 1);
      const damaged = text.slice(0, place) + patch + text.slice(place + 1);
      let expected: unknown;
      try {
        expected = JSON.parse(damaged);
      } catch {
        assert.throws(() => parseJson(damaged), SyntaxError);
        return;
      }
      try {
        assert.deepEqual(parseJson(damaged), expected);
      } catch (error) {
        assert.match((error as Error).message, /stands twice/);
      }
    }),
    { numRuns: 1000, seed: 1 },
  );
});
