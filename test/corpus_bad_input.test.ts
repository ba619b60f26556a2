/** manifest.json, truth.jsonl and baselines.json that are not as `corpus make` writes them: one line each, and no guess. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { after, test } from "node:test";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { readManifest } from "../src/speech/corpora/manifest.ts";
import { measureBaselines, readBaselines, writeBaselines } from "../src/speech/baselines/baselines.ts";
import { currentHost } from "../src/host/current.ts";
import { tinyRelease } from "./tiny_release.ts";

type Json = Record<string, unknown>;

const host = await currentHost();
const corpus = await tinyRelease({ turns: 6 });
after(() => corpus.remove());
const read = await readIemocap(host, corpus.root);

const write = (name: string, content: unknown) =>
  writeFileSync(
    `${corpus.root}/${name}`,
    typeof content === "string" ? content : JSON.stringify(content, null, 2),
  );

/** Writes each content and expects the error that it leads to, after "Cannot use …NAME" or "Cannot read …NAME". */
async function refused(
  name: string,
  work: () => Promise<unknown>,
  wrong: [unknown, string][],
): Promise<void> {
  for (const [content, message] of wrong) {
    write(name, content);
    await assert.rejects(work, (error: Error) => {
      assert.equal(error.message.replace(/^Cannot (use|read) .*\.(json|jsonl)(?=[:,])/, ""), message);
      return true;
    });
  }
  rmSync(`${corpus.root}/${name}`);
}

const without = (json: Json, key: string): Json =>
  Object.fromEntries(Object.entries(json).filter(([name]) => name !== key));

const manifest = {
  ...{ synthetic: true, format: 1, preset: "nano", seed: 1, clips: 36, utterances: 36, seconds: 36.5 },
  ...{ files: 50, bytes: 1_000_000, sha256: "0123456789abcdef".repeat(4) },
};
const truth = read.utterances.map(({ id }, i) => ({ id, state: ["tense", "bright", "low", "flat"][i % 4] }));
const lines = (rows: readonly unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

test("readManifest() refuses what is no manifest of a generated corpus", async () => {
  const count = "a whole number from 0 to 2^53 - 1";
  assert.equal(await readManifest(host, corpus.root), undefined);
  await refused("manifest.json", () => readManifest(host, corpus.root), [
    [[manifest], `: it is ${JSON.stringify([manifest]).slice(0, 77)}... but should be an object`],
    ["[]", ": it is [] but should be an object"],
    ['{"synthetic": true,\n "form', ": not JSON, line 2, column 7: expected '\"' but found the end"],
    ["", ": not JSON, line 1, column 1: expected a value but found the end"],
    [{ ...manifest, synthetic: "true" }, ': synthetic is "true" but should be true'],
    [{ ...manifest, format: 2 }, ": format is 2 but should be 1"],
    [{ ...manifest, preset: 7 }, ": preset is 7 but should be a string"],
    [without(manifest, "preset"), ": it lacks the key preset, a string"],
    [{ ...manifest, clips: "36" }, `: clips is "36" but should be ${count}`],
    [{ ...manifest, bytes: -1 }, `: bytes is -1 but should be ${count}`],
    [without(manifest, "sha256"), ": it lacks the key sha256, a SHA-256 in hexadecimal"],
    [{ ...manifest, sha256: "0123" }, ': sha256 is "0123" but should be a SHA-256 in hexadecimal'],
  ]);
  write("manifest.json", { ...manifest, more: 1 });
  assert.deepEqual(await readManifest(host, corpus.root), manifest);
});

test("measureBaselines() refuses a truth.jsonl that does not give every clip its state", async () => {
  write("manifest.json", manifest);
  const [first] = truth;
  const states = "one of tense, bright, low, flat";
  await refused("truth.jsonl", () => measureBaselines(host, read), [
    [lines([{ ...first, state: "calm" }]), `, line 1: state is "calm" but should be ${states}`],
    [lines([first, { ...first, id: 3 }]), ", line 2: id is 3 but should be a string"],
    [lines([first, without(first, "state")]), `, line 2: it lacks the key state, ${states}`],
    [lines([[first]]), `, line 1: it is ${JSON.stringify([first])} but should be an object`],
    [lines(truth.slice(1)), `: it lacks the clip ${first.id}`],
    [
      lines(truth).slice(0, -3),
      `, line ${truth.length}: not JSON, column ${last()}: expected '"' but found the end`,
    ],
    ["", `: it lacks the clip ${first.id}`],
  ]);
  write("truth.jsonl", lines(truth.map((row) => ({ ...row, label: "sad" }))));
  const { synthetic } = await measureBaselines(host, read);
  assert.ok(synthetic && synthetic.states > 0 && synthetic.states <= 1);
  for (const name of ["manifest.json", "truth.jsonl"]) rmSync(`${corpus.root}/${name}`);
});

/** The column in which the last line of the truth ends without its last three characters, the break among them. */
const last = () => JSON.stringify(truth.at(-1)).length - 1;

test("readBaselines() refuses figures that are absent, no number or out of range", async () => {
  assert.equal(await readBaselines(host, corpus.root), undefined);
  const measured = await measureBaselines(host, read);
  const share = "a share from 0 to 1";
  const { lda } = measured;
  await refused("baselines.json", () => readBaselines(host, corpus.root), [
    [[measured], `: it is ${JSON.stringify([measured]).slice(0, 77)}... but should be an object`],
    ["{}", ": it lacks the key utterances, a whole number from 1 to 2^53 - 1"],
    ['{"utterances": 3', ": not JSON, line 1, column 17: expected ',' or '}' but found the end"],
    [without({ ...measured }, "bigrams"), ": it lacks the key bigrams, an object"],
    [{ ...measured, lda: [] }, ": lda is [] but should be an object"],
    [{ ...measured, lda: { ...lda, folds: [0.5] } }, ": lda.folds is [0.5] but should be an object"],
    [
      { ...measured, lda: { ...lda, folds: { Session1: "0.5" } } },
      `: lda.folds.Session1 is "0.5" but should be ${share}`,
    ],
    [{ ...measured, lda: { ...lda, ua: null } }, `: lda.ua is null but should be ${share}`],
    [{ ...measured, lda: { ...lda, wa: 50 } }, `: lda.wa is 50 but should be ${share}`],
    [{ ...measured, synthetic: { states: 0.5 } }, ": it lacks the key synthetic.statesFound, an object"],
  ]);
  write("baselines.json", measured);
  assert.deepEqual(await readBaselines(host, corpus.root), JSON.parse(JSON.stringify(measured)));
});

test("readBaselines() takes the figures of version 0.1 from oracle.json, unless baselines.json is there", async () => {
  const measured = await measureBaselines(host, read);
  const files = ["baselines.json", "oracle.json"].map((name) => `${corpus.root}/${name}`);
  for (const file of files) rmSync(file, { force: true });
  write("oracle.json", { ...measured, majority: 0.25 });
  assert.equal((await readBaselines(host, corpus.root))?.majority, 0.25);
  await writeBaselines(host, corpus.root, { ...measured, majority: 0.5 });
  assert.equal((await readBaselines(host, corpus.root))?.majority, 0.5);
  write("baselines.json", "{}");
  await assert.rejects(readBaselines(host, corpus.root), /baselines\.json: it lacks the key utterances/);
  for (const file of files) rmSync(file);
});
