/** `wavegate evaluate` on a tiny corpus with the model of the demo. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { measureBaselines } from "../src/speech/baselines/baselines.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { currentHost } from "../src/host/current.ts";
import { editCheckpoint } from "./checkpoint.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = `${root}weights/demo`;
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
const folder = mkdtempSync(join(tmpdir(), "wavegate-evaluate-"));
const broken = "Ses01F_impro01_M003";
const silent = "Ses01F_impro02_F002";
let corpus: TinyRelease;
before(async () => {
  corpus = await tinyRelease({ turns: 6 });
  writeFileSync(`${corpus.root}/Session1/sentences/wav/Ses01F_impro01/${broken}.wav`, notFinite());
  const path = `${corpus.root}/Session1/sentences/wav/Ses01F_impro02/${silent}.wav`;
  await writeWav16(await currentHost(), path, new Float32Array(16_000));
});
after(async () => {
  rmSync(folder, { recursive: true });
  await corpus.remove();
});

/** A second of 32-bit floats, one of which is NaN: its header tells nothing of it. */
function notFinite(): Uint8Array {
  const bytes = Buffer.alloc(44 + 4 * 16_000);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  for (const [value, at] of [
    [3, 20],
    [1, 22],
    [4, 32],
    [32, 34],
  ])
    bytes.writeUInt16LE(value, at);
  bytes.writeUInt32LE(16_000, 24);
  bytes.writeUInt32LE(64_000, 28);
  bytes.write("data", 36);
  bytes.writeUInt32LE(64_000, 40);
  bytes.writeFloatLE(Number.NaN, 4000);
  return bytes;
}

function evaluate(model: string, ...args: string[]) {
  return spawnSync(
    process.execPath,
    [...runtime, "tools/evaluate.ts", "--model", model, "--data", corpus.root, "--fold", "1", ...args],
    { cwd: root, encoding: "utf8" },
  );
}

/** The demo's model with other labels, its last layer's rows moved to the places in `order`. */
async function relabelled(name: string, labels: string[], order: number[]): Promise<string> {
  const path = join(folder, name);
  cpSync(demo, path, { recursive: true });
  const config = JSON.parse(readFileSync(`${demo}/config.json`, "utf8"));
  writeFileSync(`${path}/config.json`, JSON.stringify({ ...config, labels }));
  await editCheckpoint(`${demo}/model.safetensors`, `${path}/model.safetensors`, (tensors) => {
    for (const [key, tensor] of tensors) {
      if (!key.startsWith("cmgi.classifier.")) continue;
      const row = tensor.data.length / order.length;
      const rows = order.map((k) => tensor.data.slice(k * row, (k + 1) * row));
      rows.forEach((bytes, k) => {
        tensor.data.set(bytes, k * row);
      });
    }
  });
  return path;
}

test("evaluate puts the probabilities of any model into one order, and names what it left out", async () => {
  const model = await relabelled("moved", ["neutral", "angry", "sad", "happy"], [3, 0, 2, 1]);
  const [a, b] = [join(folder, "a.csv"), join(folder, "b.csv")];
  const first = evaluate(demo, "--json", "--out", a);
  assert.equal(first.status, 0, first.stderr);
  assert.equal(evaluate(model, "--json", "--batch", "3", "--out", b).status, 0);
  const rows = (path: string) =>
    readFileSync(path, "utf8")
      .trimEnd()
      .split("\n")
      .map((row) => row.split(","));
  const [own, moved] = [rows(a), rows(b)];
  assert.equal(own.length, 12, "a header and 11 of 12 utterances");
  for (const [i, row] of own.entries()) {
    assert.deepEqual(row.slice(0, 3), moved[i].slice(0, 3));
    for (let k = 3; k < 7 && i > 0; k++) assert.ok(Math.abs(Number(row[k]) - Number(moved[i][k])) < 2e-4);
  }
  const { report, problems } = JSON.parse(first.stdout);
  const by = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  assert.equal(report.utterances, 11);
  assert.deepEqual(
    problems.sort(by).map(({ id, kind }: { id: string; kind: string }) => [id, kind]),
    [
      [broken, "unreadable wav"],
      [silent, "silent clip"],
    ],
  );
  assert.match(problems[0].handled, /^left out: Cannot read .*M003\.wav: /);
  assert.equal(problems[1].handled, "kept: scored by what the model says, where predict says nothing");
  assert.ok(own.some(([id]) => id === silent));
  assert.match(first.stderr, new RegExp(`^${silent}: kept: scored by what the model says`, "m"));
});

test("evaluate refuses strange labels, a path that it cannot write and a batch of none before it opens a GPU", async () => {
  const model = await relabelled("strange", ["calm", "happy", "sad", "neutral"], [0, 1, 2, 3]);
  const refused = (expected: number, message: RegExp, path: string, ...args: string[]) => {
    const { status, stderr } = evaluate(path, "--adapter", "no such adapter", ...args);
    assert.equal(status, expected);
    assert.match(stderr, message);
  };
  const labels = "its labels are calm, happy, sad, neutral, expected angry, happy, sad, neutral in any order";
  refused(1, new RegExp(`^wavegate evaluate: Cannot evaluate .*strange: ${labels}\n$`), model);
  const absent = join(folder, "absent", "a.csv");
  refused(1, /^wavegate evaluate: Cannot write .*a\.csv: no such file or folder\n$/, demo, "--out", absent);
  refused(1, /^wavegate evaluate: Cannot write .*: it is a folder\n$/, demo, "--out", folder);
  refused(2, /Cannot read --batch 0: it is a whole number of at least 1\n$/, demo, "--batch", "0");
  for (const name of ["oracle", "baselines"]) {
    writeFileSync(`${corpus.root}/${name}.json`, '{"lda": {}}');
    const line = new RegExp(
      `^wavegate evaluate: Cannot use .*${name}\\.json: it lacks the key utterances, .*\\n$`,
    );
    refused(1, line, demo);
    rmSync(`${corpus.root}/${name}.json`);
  }
  const out = join(folder, "never.csv");
  refused(1, /Cannot find adapter/, demo, "--out", out);
  assert.ok(!existsSync(out));
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

test("measureBaselines() leaves out what it cannot read where somebody is told, and throws elsewhere", async () => {
  const host = await currentHost();
  const read = await readIemocap(host, corpus.root);
  const told: string[] = [];
  const baselines = await measureBaselines(host, read, { onProblem: (id) => void told.push(id) });
  assert.deepEqual(told, [broken]);
  assert.equal(baselines.utterances, read.utterances.length - 1);
  await assert.rejects(measureBaselines(host, read), /M003\.wav: /);
});
