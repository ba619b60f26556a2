import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openBertTokenizer } from "../src/io/tokenizer.ts";
import { readSentences } from "../src/speech/training/text_task.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "sentences-test-"));
after(() => rmSync(folder, { recursive: true }));

test("readSentences() reads any line ends and encodings, and says what it leaves out", async () => {
  const pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "don", "'", "t", "cafe", "lodz"];
  writeFileSync(join(folder, "vocab.txt"), `${pieces.join("\n")}\n`);
  const tokenizer = await openBertTokenizer(host, folder);
  const path = join(folder, "text.txt");
  const read = async (bytes: Buffer) => {
    writeFileSync(path, bytes);
    const notes: string[] = [];
    const limits = { lines: 10, tokens: 10 };
    const ids = await readSentences(host, path, tokenizer, limits, (line) => notes.push(line));
    return { ids, notes };
  };
  const ids = [
    [2, 5, 6, 7, 3],
    [2, 8, 3],
  ];
  const text = "Don\u2019t\n\nCaf\u00e9\n";
  assert.deepEqual(await read(Buffer.from(text)), { ids, notes: [] });
  assert.deepEqual(await read(Buffer.from(text.replaceAll("\n", "\r"))), { ids, notes: [] });
  assert.deepEqual(await read(Buffer.from(`\ufeff${text}`, "utf16le")), {
    ids,
    notes: [`${path}: text not UTF-8, read as UTF-16LE`],
  });
  assert.deepEqual(await read(Buffer.from("don\x92t\r\ncaf\xe9", "latin1")), {
    ids,
    notes: [`${path}: text not UTF-8, read as Windows-1252`],
  });
  assert.deepEqual(await read(Buffer.from("\u0141\u00f3d\u017a \u0416\n\u0416 \u65e5")), {
    ids: [
      [2, 9, 3],
      [2, 3],
    ],
    notes: [`${path}: dropped characters, kept without "\u0416" 2, "\u65e5"`],
  });
});
