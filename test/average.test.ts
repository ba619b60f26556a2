/** `wavegate average`: the mean of the weights of models. */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { verb } from "../tools/average.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { normal } from "./reference.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const demo = fileURLToPath(new URL("../weights/demo", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "wavegate-average-"));
after(() => rmSync(scratch, { recursive: true }));

const KEY = "cmgi.classifier.bias";
const corpus = (id: string) => ({
  ...{
    name: "mini",
    identity: "0",
    system: "both-cmgi",
    preset: "nano",
    heldOut: "Session5",
    dev: 0.1,
    seed: 1,
  },
  ...{ trainedOn: { [id]: `digest of ${id}` }, selectedBy: {} },
});

/** The demo's model with other weights, and what it was trained on. */
async function model(name: string, change: (values: Float32Array) => void, trained: string): Promise<string> {
  const path = join(scratch, name);
  cpSync(demo, path, { recursive: true });
  await editCheckpoint(`${demo}/model.safetensors`, `${path}/model.safetensors`, (tensors) => {
    for (const key of tensors.keys()) change(floats(tensors, key));
  });
  const record = { format: 1, corpora: [corpus(trained)], text: ["mini"], unknown: [] };
  writeFileSync(`${path}/training.json`, JSON.stringify(record));
  writeFileSync(
    `${path}/README.md`,
    `---\nlanguage: en\n---\n\n# model ${name}\n\nIt listens.\n\n## Figures\n\nUA 99 %\n`,
  );
  return path;
}

const add = (n: number) => (values: Float32Array) => {
  for (const [i, x] of values.entries()) values[i] = x + n;
};
const first = await model("first", add(0), "a");
const second = await model("second", add(0.03), "b");
const out = join(scratch, "mean");

test("average writes the mean of the weights, what any of the models was trained on, and no figures", async () => {
  const { printed, error } = await runHere(verb, first, second, first, "--out", out);
  assert.equal(error, undefined);
  assert.match(printed[0], /mean: the mean of 3 models, \d+ tensors$/);
  const [a, mean] = [await openSafetensors(host, first), await openSafetensors(host, out)];
  assert.deepEqual([...mean.tensors.keys()].sort(), [...a.tensors.keys()].sort());
  for (const key of a.tensors.keys()) {
    const [own, found] = [await readF32(a, key), await readF32(mean, key)];
    for (const [i, x] of own.entries()) assert.ok(Math.abs(found[i] - x - 0.01) < 1e-6, key);
  }
  await a.close();
  await mean.close();
  const { corpora } = JSON.parse(readFileSync(`${out}/training.json`, "utf8"));
  assert.deepEqual(Object.assign({}, ...corpora.map(({ trainedOn }: { trainedOn: object }) => trainedOn)), {
    a: "digest of a",
    b: "digest of b",
  });
  const card = readFileSync(`${out}/README.md`, "utf8");
  assert.match(card, /^# Mean of 3 models: model first\n/);
  assert.match(card, /\nIt listens\.\n$/);
  const opened = await openModelFolder(host, out);
  await opened.weights.close();
});

test("average refuses models that do not go together, and leaves nothing", async () => {
  const to = join(scratch, "none");
  const refused = async (models: string[], message: RegExp | string, target = to) => {
    const { error } = await runHere(verb, ...models, "--out", target);
    if (typeof message === "string") assert.equal(error?.message, message);
    else assert.match(error?.message ?? "", message);
    assert.ok(target !== to || !existsSync(to));
    assert.ok(!existsSync(`${to}.partial`));
  };
  const words = await model("words", add(0), "a");
  writeFileSync(`${words}/vocab.json`, "{}");
  await refused([first, words], `Cannot average ${first} and ${words}: their vocab.json differ`);
  const more = await model("more", add(0), "a");
  writeFileSync(`${more}/added_tokens.json`, "{}");
  await refused([first, more], `Cannot average ${first} and ${more}: only one of them has added_tokens.json`);
  const other = await model("other", add(0), "a");
  await editCheckpoint(`${demo}/model.safetensors`, `${other}/model.safetensors`, (tensors) => {
    tensors.delete(KEY);
  });
  await refused(
    [first, other],
    `Cannot average ${first} and ${other}: ${KEY} is (4) in the first and not in the second`,
  );
  const strange = await model("strange", (values) => values.set(normal(values.length, 7, 1)), "a");
  await refused(
    [first, strange],
    /^Cannot average .* began with other weights, as of another seed: the cosine of their .* is -?0\.\d\d$/,
  );
  await refused([first, second], `Cannot write ${out}: it is there already`, out);
  await refused([first, join(scratch, "nowhere")], /nowhere/);
  await refused([first], "Cannot run without MODEL");
  const kept = join(scratch, "kept");
  mkdirSync(`${kept}.partial`);
  writeFileSync(`${kept}.partial/mine.txt`, "mine");
  const there = `Cannot write ${kept}: ${kept}.partial of another writing is there; remove it`;
  for (const models of [
    [first, second],
    [first, words],
  ])
    await refused(models, there, kept);
  assert.ok(existsSync(`${kept}.partial/mine.txt`));
});
