import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { brief, parseJson } from "../src/io/json.ts";

test("parseJson() reads what JSON.parse reads, however it is spaced", () => {
  fc.assert(
    fc.property(fc.json(), fc.nat(4), (text, indent) => {
      const value = JSON.parse(text);
      assert.deepEqual(parseJson(JSON.stringify(value, null, indent)), value);
    }),
    { numRuns: 500, seed: 1 },
  );
  for (const text of ["0", "-0", "1e3", "-1.5E-2", "123456789012345678901234567890", "999999999999999"])
    assert.equal(parseJson(text), JSON.parse(text), text);
  assert.deepEqual(Object.entries(parseJson('{"__proto__":1,"a":2}') as object), [
    ["__proto__", 1],
    ["a", 2],
  ]);
});

test("parseJson() refuses what JSON.parse refuses", () => {
  const texts = [
    "01",
    "-",
    "1.",
    ".5",
    "+1",
    "1e",
    "0x1",
    "1a",
    "tru",
    "nul",
    "[1,]",
    "[1 2]",
    '{"a"}',
    "",
    " ",
    '"\t"',
  ];
  for (const text of [...texts, '"\\x"', '"a', '"a\\', "[", '{"a":', "1 1", "NaN", "-Infinity", "\u00a01"]) {
    assert.throws(() => JSON.parse(text), SyntaxError, text);
    assert.throws(() => parseJson(text), /^SyntaxError: line 1, column \d+: /, text);
  }
});

test("parseJson() counts lines and columns", () => {
  assert.throws(() => parseJson('{\n"a": 1,\n  "b" 2}'), {
    message: `line 3, column 7: expected ':' but found '2'`,
  });
  assert.throws(() => parseJson("[\n\n"), {
    message: "line 3, column 1: expected a value but found the end",
  });
  assert.throws(() => parseJson('"\\'), { message: `line 1, column 3: expected '"' but found the end` });
  const far = `[${"1,\n".repeat(1e6)}`;
  assert.throws(() => parseJson(far), {
    message: "line 1000001, column 1: expected a value but found the end",
  });
});

test("brief() shows the beginning of a long string", () => {
  assert.equal(brief("x".repeat(1e6)), `"${"x".repeat(76)}...`);
});
