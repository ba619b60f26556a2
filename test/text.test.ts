import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { droppedCharacters, normalizeTranscript, showDropped } from "../src/io/text.ts";

const CASES: [string, string][] = [
  ["[LAUGHTER] Well-known: 21 cafés, the 3rd…", "WELL KNOWN TWENTY ONE CAFES THE THIRD"],
  ["I don’t [BREATHING] know [GARBAGE].", "I DON'T KNOW"],
  ["{LG} yes {NS} <sil> no", "YES NO"],
  ["one [two] three [four] five", "ONE THREE FIVE"],
  ["I...I can't--no", "I I CAN'T NO"],
  ["the U.S. and/or Canada", "THE US AND OR CANADA"],
  ["'Tis said 'so'", "'TIS SAID 'SO'"],
  ["rock ' n ' roll", "ROCK N ROLL"],
  ["0", "ZERO"],
  ["13 30 100 101", "THIRTEEN THIRTY ONE HUNDRED ONE HUNDRED ONE"],
  ["1,250,000 people", "ONE MILLION TWO HUNDRED FIFTY THOUSAND PEOPLE"],
  ["555-0123", "FIVE HUNDRED FIFTY FIVE ZERO ONE TWO THREE"],
  ["3.14 and 10.", "THREE POINT ONE FOUR AND TEN"],
  ["1st 2nd 5th 12th 20th 22nd 100th", "FIRST SECOND FIFTH TWELFTH TWENTIETH TWENTY SECOND ONE HUNDREDTH"],
  ["50s 4x4", "FIFTY S FOUR X FOUR"],
  [
    "Łódź straße STRAẞE Ærø œuvre Đorđe Þór ıstanbul ŋ",
    "LODZ STRASSE STRASSE AERO OEUVRE DORDE THOR ISTANBUL NG",
  ],
  ["3² H₂O ①②", "THREE TWO H TWO O ONE TWO"],
  ["don´t don′t don‛t", "DON'T DON'T DON'T"],
  ["", ""],
  ["[LAUGHTER]", ""],
];

test("normalizeTranscript() gives capitals, apostrophes and single spaces", () => {
  for (const [text, expected] of CASES) assert.equal(normalizeTranscript(text), expected, text);
});

test("normalizeTranscript() is idempotent and stays in its alphabet on any text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 40 }), (text) => {
      const once = normalizeTranscript(text);
      assert.match(once, /^([A-Z']+( [A-Z']+)*)?$/);
      assert.equal(normalizeTranscript(once), once);
    }),
    { numRuns: 500, seed: 1 },
  );
});

test("normalizeTranscript() takes a tag to its next closing bracket, and brackets without end in one pass", () => {
  const old = (text: string) => normalizeTranscript(text.replace(/\[.*?\]|\{.*?\}|<.*?>/gs, " "));
  const part = fc.constantFrom("[", "]", "{", "}", "<", ">", "a", "\n", " b ");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 20 }), (parts) => {
      assert.equal(normalizeTranscript(parts.join("")), old(parts.join("")));
    }),
    { numRuns: 500, seed: 1 },
  );
  const start = performance.now();
  assert.equal(normalizeTranscript(`${"[{<".repeat(200_000)}a`), "A");
  assert.ok(performance.now() - start < 5000); // each bracket by itself to the end would take minutes
});

test("droppedCharacters() counts what a listener would hear and the normaliser leaves out", () => {
  assert.deepEqual(
    [...droppedCharacters("Привет, 5€ [Смех] R&B ٣ caf\ufffd — «yes» (no) “so” *")],
    [
      ["П", 1],
      ["Р", 1],
      ["И", 1],
      ["В", 1],
      ["Е", 1],
      ["Т", 1],
      ["€", 1],
      ["&", 1],
      ["٣", 1],
      ["\ufffd", 1],
    ],
  );
  assert.deepEqual([...droppedCharacters("2×3 − 1 = 5 ÷ 1, ±½, §5 -> a|b").keys()], [..."×−=÷±⁄§"]);
  for (const [text] of CASES) assert.equal(droppedCharacters(text).size, 0, text);
  assert.equal(showDropped(droppedCharacters("ДА да 日")), '"Д" 2, "А" 2, "日"');
  assert.match(showDropped(droppedCharacters("абвгдежзиклмн")), /^("[А-Я]", ){9}"[А-Я]" and 3 more$/);
});
