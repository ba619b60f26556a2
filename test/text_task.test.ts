import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openBertTokenizer } from "../src/io/tokenizer.ts";
import { bertConfig } from "../src/models/config.ts";
import { BertForMaskedLM } from "../src/models/bert.ts";
import { Weights } from "../src/nn/weights.ts";
import { BERT_BASE } from "../src/speech/recipes/presets.ts";
import { readSentences, TextTask } from "../src/speech/training/text_task.ts";
import { wordVectors } from "../src/speech/training/word_vectors.ts";
import { uniformStream } from "../src/train/seeds.ts";
import { testDevice } from "./device.ts";

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

/** Words 5 to 14 stand beside each other, and 15 to 24; 25 stands everywhere, and 26 nowhere. 2 and 3 are no words. */
function twoTopics(): number[][] {
  const next = uniformStream("topics", 1);
  return Array.from({ length: 400 }, (_, i) => {
    const word = () => (i % 2 === 0 ? 5 : 15) + Math.floor(10 * next());
    return [2, word(), 25, word(), 3];
  });
}
const special = new Set([0, 1, 2, 3, 4]);
const topicOf = (id: number) => (id < 15 ? 0 : 1);

/** Whether each word's nearest neighbour by cosine, of ids 5 to 24, is of its topic. */
function nearestAgree(vectorOf: (id: number) => ArrayLike<number>): boolean {
  const ids = Array.from({ length: 20 }, (_, i) => 5 + i);
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((n, x, i) => n + x * b[i], 0);
  const cosine = (a: ArrayLike<number>, b: ArrayLike<number>) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  return ids.every((id) => {
    const near = ids
      .filter((other) => other !== id)
      .map((other) => ({ other, cos: cosine(vectorOf(id), vectorOf(other)) }));
    return topicOf(near.sort((a, b) => b.cos - a.cos)[0].other) === topicOf(id);
  });
}

test("wordVectors() puts words that stand together side by side", () => {
  const options = { size: 4, deviation: 0.2, seed: 1 };
  const found = wordVectors(twoTopics(), special, options);
  assert.deepEqual(found.ids, [...Array.from({ length: 21 }, (_, i) => 5 + i)]);
  assert.ok(nearestAgree((id) => found.vectors[id - 5]));
  const all = found.vectors.flatMap((vector) => [...vector]);
  assert.equal(all.length, 84);
  const deviation = Math.sqrt(all.reduce((sum, x) => sum + x * x, 0) / all.length);
  assert.ok(Math.abs(deviation - 0.2) < 1e-12, `${deviation}`);
  assert.deepEqual(wordVectors(twoTopics(), special, options), found);
  // Fewer words than numbers, and a text without neighbours.
  assert.equal(wordVectors([[5, 6]], special, options).vectors[0].length, 2);
  assert.deepEqual(wordVectors([[2, 5, 3]], special, options).vectors, [Float64Array.of(0)]);
  assert.deepEqual(wordVectors([], special, options), { ids: [], vectors: [] });
});

test("TextTask begins with word vectors where it is told to, and leaves words that do not occur", async () => {
  const device = await testDevice();
  const weights = new Weights(device, { seed: 1 });
  const sizes = { hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8 };
  const model = new BertForMaskedLM(
    weights.root,
    bertConfig({ ...BERT_BASE, ...sizes, vocab_size: 27 }, "the test"),
  );
  await weights.initialize();
  const { parameters } = weights;
  const task = new TextTask({
    ...{ model, parameters, train: twoTopics(), dev: [], items: 4, seed: 1, pad: 0, mask: 4, special },
    save: async () => {},
  });
  const words = parameters.find(({ key }) => key === "bert.embeddings.word_embeddings.weight")!;
  const rowOf = (values: Float32Array) => (id: number) => values.subarray(8 * id, 8 * id + 8);
  const before = rowOf(await words.value.read());
  assert.ok(!nearestAgree(before));
  await task.useWordVectors(0.2);
  const after = rowOf(await words.value.read());
  assert.ok(nearestAgree(after));
  for (const id of [...special, 26]) assert.deepEqual(after(id), before(id));
  weights.dispose();
});
