import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { largestBytes, planBatches } from "../src/models/batches.ts";
import { hubertConfig } from "../src/models/config.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { openRecognizer, type Recognition } from "../src/speech/system/recognizer.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { testDevice } from "./device.ts";
import { normal, uniform } from "./reference.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = `${root}weights/demo`;
const host = await currentHost();
const device = await testDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-predict-"));
after(() => rmSync(folder, { recursive: true }));

const clip = async (name: string) => (await readWav(host, `${demo}/clips/${name}.wav`)).samples;
const [furious, weary] = [await clip("furious"), await clip("weary")];

const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));

/** A copy of the demo's model with another config. */
function variant(name: string, change: (config: Record<string, unknown>) => void): string {
  const path = join(folder, name);
  cpSync(demo, path, { recursive: true });
  const config = json(`${demo}/config.json`);
  change(config);
  writeFileSync(`${path}/config.json`, JSON.stringify(config));
  return path;
}

/** The BASE form as Hugging Face ships a checkpoint: group norm, no mask; letters for the CTC head. */
function baseCheckpoint(): string {
  const path = join(folder, "base");
  mkdirSync(path, { recursive: true });
  for (const file of ["config.json", "model.safetensors", "preprocessor_config.json"])
    copyFileSync(`${root}test/reference/hubert-tiny-base/${file}`, `${path}/${file}`);
  copyFileSync(`${demo}/vocab.json`, `${path}/vocab.json`);
  return path;
}

function near(got: Recognition, want: Recognition): void {
  assert.equal(got.transcript?.text, want.transcript?.text);
  assert.deepEqual(
    got.transcript?.words.map(({ start, end }) => [start, end]),
    want.transcript?.words.map(({ start, end }) => [start, end]),
  );
  for (const [label, p] of Object.entries(want.probabilities ?? {}))
    assert.ok(Math.abs((got.probabilities?.[label] ?? Number.NaN) - p) < 1e-5, `${label} differs`);
  for (const branch of ["acoustic", "text"] as const)
    if (want.gates) assert.ok(Math.abs((got.gates?.[branch] ?? Number.NaN) - want.gates[branch]) < 1e-5);
}

test("Recognizer.recognize() says what PyTorch says of the demo's recording", async () => {
  const recognizer = await openRecognizer(host, device, demo);
  const [{ transcript, probabilities, gates, seconds }] = await recognizer.recognize([furious]);
  const { decoded } = json(`${demo}/case.json`);
  assert.equal(transcript?.text, decoded[0]);
  assert.ok(Math.abs(Object.values(probabilities ?? {}).reduce((a, p) => a + p, 0) - 1) < 1e-6);
  assert.ok(gates && Number.isFinite(gates.acoustic) && Number.isFinite(gates.text));
  assert.equal(seconds, furious.length / 16000);
  recognizer.dispose();
});

test("Recognizer.recognize() finds in a padded batch what it finds in each recording alone", async () => {
  const recognizer = await openRecognizer(host, device, demo);
  const noise = uniform(7);
  const audios = [furious, weary, furious.subarray(0, 15000), weary.map((v) => v + 0.02 * (noise() - 0.5))];
  const together = await recognizer.recognize(audios, { batch: 4 });
  for (const [i, audio] of audios.entries()) {
    const [alone] = await recognizer.recognize([audio]);
    near(together[i], alone);
  }
  const { live } = device.pool.statistics;
  await recognizer.recognize(audios, { batch: 3, beam: 4 });
  assert.equal(device.pool.statistics.live, live, "recognize() leaves bytes alive");
  recognizer.dispose();
});

test("Recognizer.recognize() keeps recordings of a group-norm model apart, and gives words alone for a CTC model", async () => {
  const recognizer = await openRecognizer(host, device, baseCheckpoint());
  const audios = [furious, weary.subarray(0, 16000), weary.subarray(2000, 18000)];
  const together = await recognizer.recognize(audios);
  for (const [i, audio] of audios.entries()) {
    const [alone] = await recognizer.recognize([audio]);
    assert.ok(alone.transcript);
    assert.equal(alone.emotion, undefined);
    near(together[i], alone);
  }
  recognizer.dispose();
});

test("Recognizer.recognize() recognises the emotion of a recording in which it finds no word", async () => {
  const silent = variant("silent", () => {});
  await editCheckpoint(`${demo}/model.safetensors`, `${silent}/model.safetensors`, (tensors) => {
    floats(tensors, "lm_head.bias")[0] = 1000; // the blank wins every frame
  });
  const recognizer = await openRecognizer(host, device, silent);
  const [nothing, again] = await recognizer.recognize([furious, weary]);
  assert.equal(nothing.transcript?.text, "");
  assert.deepEqual(nothing.transcript?.words, []);
  for (const p of Object.values({ ...nothing.probabilities, ...again.probabilities }))
    assert.ok(p > 0 && p < 1);
  recognizer.dispose();
});

test("Recognizer.recognize() refuses a recording that the adapter cannot bind, and says how much fits", async () => {
  const recognizer = await openRecognizer(host, device, demo);
  const samples = Math.ceil((recognizer.longest + 1) * 16000);
  assert.throws(
    () => recognizer.check(samples),
    /^RangeError: Cannot use [\d.]+ s at once: .* takes at most [\d.]+ s with this model$/,
  );
  recognizer.check(Math.floor((recognizer.longest - 1) * 16000));
  recognizer.dispose();
});

test("openModelFolder() refuses a folder whose parts do not fit together", async () => {
  const wrong: [string, (config: Record<string, unknown>) => void, RegExp][] = [
    [
      "labels",
      (c) => Object.assign(c, { labels: ["a", "b"] }),
      /num_classes is 4 but should be the number of labels, 2/,
    ],
    [
      "type",
      (c) => {
        delete c.hubert;
        delete c.bert;
        c.model_type = "whisper";
      },
      /model_type is "whisper"/,
    ],
    [
      "vocabulary",
      (c) => Object.assign(c.hubert as object, { vocab_size: 20 }),
      /config\.json \(hubert\): vocab_size is 20 but should be at least 32, for the tokens of vocab\.json$/,
    ],
    [
      "pieces",
      (c) => Object.assign(c.bert as object, { vocab_size: 100 }),
      /config\.json \(bert\): vocab_size is 100 but should be at least 200, the tokens of BERT's tokenizer$/,
    ],
  ];
  for (const [name, change, message] of wrong)
    await assert.rejects(openModelFolder(host, variant(name, change)), message);
});

test("Recognizer.recognize() serves systems of one modality: without words, and with words alone", async () => {
  const { hubert, bert } = json(`${demo}/config.json`);
  for (const [modalities, asr, width] of [
    ["acoustic", false, 64],
    ["text", true, 48],
  ] as const) {
    const path = variant(`${modalities}-only`, (c) => {
      for (const key of Object.keys(c)) delete c[key];
      Object.assign(c, { model_type: "wavegate", modalities, asr, hubert, bert });
    });
    await assert.rejects(openRecognizer(host, device, path), /it holds no classifier\.weight$/);
    const classifier = (size: number, seed: number) => new Uint8Array(normal(size, seed, 0.3).buffer);
    await editCheckpoint(`${demo}/model.safetensors`, `${path}/model.safetensors`, (tensors) => {
      tensors.set("classifier.weight", { dtype: "F32", shape: [4, width], data: classifier(4 * width, 1) });
      tensors.set("classifier.bias", { dtype: "F32", shape: [4], data: classifier(4, 2) });
    });
    const recognizer = await openRecognizer(host, device, path);
    const audios = [furious, weary];
    const together = await recognizer.recognize(audios);
    assert.equal(together[0].transcript !== undefined, asr);
    assert.equal(together[0].gates, undefined);
    for (const [i, audio] of audios.entries()) near(together[i], (await recognizer.recognize([audio]))[0]);
    recognizer.dispose();
  }
});

test("planBatches() pads little, binds no more than allowed, and mixes no lengths under group norm", () => {
  const layer = hubertConfig(json(`${demo}/config.json`).hubert, "config.json");
  const lengths = [16000, 15000, 4000, 3900, 16000, 48000];
  const all = { batch: 8, bytes: Number.POSITIVE_INFINITY };
  assert.deepEqual(planBatches(lengths, layer, all), [[5], [0, 4, 1], [2, 3]]);
  assert.deepEqual(planBatches(lengths, layer, { ...all, batch: 2 }), [[5], [0, 4], [1], [2, 3]]);
  assert.deepEqual(planBatches(lengths, layer, { ...all, bytes: 2 * largestBytes(layer, 16000) }), [
    [5],
    [0, 4],
    [1],
    [2, 3],
  ]);
  const group = { ...layer, featExtractNorm: "group" as const };
  assert.deepEqual(planBatches(lengths, group, all), [[5], [0, 4], [1], [2], [3]]);
  assert.deepEqual(planBatches([], layer, all), []);
});

test("predict goes through folders and files, reports bad ones on a line each and ends with status 1", () => {
  const recordings = join(folder, "recordings");
  mkdirSync(`${recordings}/below`, { recursive: true });
  copyFileSync(`${demo}/clips/furious.wav`, `${recordings}/a.wav`);
  const open = readFileSync(`${demo}/clips/weary.wav`);
  open.writeUInt32LE(2_000_000_000, 40); // a length that is none: read to the end, and said
  writeFileSync(`${recordings}/below/b.WAV`, open);
  writeFileSync(`${recordings}/below/c.wav`, "no sound");
  const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
  const args = [
    ...runtime,
    "tools/predict.ts",
    recordings,
    join(folder, "absent.wav"),
    "--model",
    demo,
    "--json",
  ];
  const done = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  assert.equal(done.status, 1);
  const own = done.stderr.split("\n").filter((line) => line.startsWith("wavegate predict: "));
  assert.equal(own.length, 2);
  assert.match(
    own[0],
    /Cannot read .*c\.wav: it is not a sound file, expected RIFF\/WAVE, MP3, FLAC or Ogg \(Vorbis, Opus\)$/,
  );
  assert.match(own[1], /Cannot read .*absent\.wav: no such file or folder$/);
  assert.match(
    done.stderr,
    /^predict: \S+b\.WAV: its header leaves the length open: read to the end of the file$/m,
  );
  const { files } = JSON.parse(done.stdout);
  assert.deepEqual(
    files.map(({ file, error }: { file: string; error?: string }) => [
      file.slice(folder.length + 1),
      error !== undefined,
    ]),
    [
      ["recordings/a.wav", false],
      ["recordings/below/b.WAV", false],
      ["recordings/below/c.wav", true],
      ["absent.wav", true],
    ],
  );
  const [first] = files;
  assert.equal(first.transcript, json(`${demo}/case.json`).decoded[0]);
  assert.equal(first.words.map((w: { text: string }) => w.text).join(" "), first.transcript);
  assert.deepEqual(Object.keys(first.probabilities), ["angry", "happy", "sad", "neutral"]);
});
