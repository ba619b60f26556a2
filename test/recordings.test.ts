/** Silent recordings, and paths that lead to none: an error in one does not affect the others. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { readPipe } from "../src/host/pipes.ts";
import { readWav } from "../src/io/audio.ts";
import { isSilent } from "../src/io/samples.ts";
import { openRecognizer, type Recognition } from "../src/speech/system/recognizer.ts";
import { HubertForCTC } from "../src/models/hubert.ts";
import { hubertConfig } from "../src/models/config.ts";
import { Weights } from "../src/nn/weights.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import {
  type RecognizerSource,
  type WindowRecognizer,
  recogniseWindow,
} from "../src/speech/predict/window.ts";
import { findRecordings, type Recording } from "../src/speech/predict/recordings.ts";
import { testDevice } from "./device.ts";
import { uniform } from "./reference.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = `${root}weights/demo`;
const clip = `${demo}/clips/furious.wav`;
const host = await currentHost();
const device = await testDevice();
const scratch = mkdtempSync(join(tmpdir(), "wavegate-recordings-"));
after(() => rmSync(scratch, { recursive: true }));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

/** A WAV file of float32 samples, frame after frame. */
function wav(name: string, channels: number, samples: Float32Array): string {
  const path = join(scratch, name);
  const bytes = Buffer.alloc(44 + 4 * samples.length);
  bytes.write("RIFF    WAVEfmt ", 0, "latin1");
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(3, 20);
  bytes.writeUInt16LE(channels, 22);
  bytes.writeUInt32LE(16000, 24);
  bytes.writeUInt32LE(64000 * channels, 28);
  bytes.writeUInt16LE(4 * channels, 32);
  bytes.writeUInt16LE(32, 34);
  bytes.write("data", 36, "latin1");
  bytes.writeUInt32LE(4 * samples.length, 40);
  samples.forEach((value, i) => {
    bytes.writeFloatLE(value, 44 + 4 * i);
  });
  writeFileSync(path, bytes);
  return path;
}

test("isSilent() is false for speech of -60 dB, and true for dither, an offset, a click or the steps of A-law", () => {
  const next = uniform(3);
  const noise = (size: number, offset = 0) =>
    Float32Array.from({ length: 4000 }, () => offset + size * (2 * next() - 1));
  for (const nothing of [noise(0), noise(0, 0.3), noise(1 / 32768), noise(3 / 32768, -0.1), noise(8 / 32768)])
    assert.ok(isSilent(nothing));
  for (const something of [noise(1e-3), noise(1e-3, 0.5), noise(0.2)]) assert.ok(!isSilent(something));
  const hum = (size: number, length = 32000) =>
    Float32Array.from({ length }, (_, t) => size * Math.sin((2 * Math.PI * 50 * t) / 16000));
  const hiss = (size: number) =>
    Float32Array.from(
      { length: 32000 },
      () => size * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(6.283 * next()),
    );
  const clicks = noise(1 / 32768);
  clicks.set([0.6, -0.5, 0.3], 1000);
  clicks[3999] = 1;
  const drift = Float32Array.from(
    { length: 32000 },
    (_, t) => 0.1 * Math.exp(-t / 100000) + (t > 16000 ? 0.1 : 0),
  );
  for (const nothing of [hum(8 / 32768), hiss(2 / 32768), clicks, drift]) assert.ok(isSilent(nothing));
  for (const something of [hum(16 / 32768), hiss(8 / 32768), hum(0.01, 400)]) assert.ok(!isSilent(something));
  // A word of 100 ms in a minute of nothing, and one that fills a short recording.
  const word = new Float32Array(960_000);
  word.set(hum(0.01, 1600), 500_000);
  assert.ok(!isSilent(word) && !isSilent(word.subarray(500_000, 501_000)));
});

test("readWav() refuses channels that cancel each other, and keeps those that do not", async () => {
  const next = uniform(4);
  const sound = Float32Array.from({ length: 1600 }, (_, t) => 0.3 * Math.sin(t / 7));
  const both = (change: (value: number) => number, channels = 2) =>
    Float32Array.from({ length: channels * 1600 }, (_, i) => {
      const value = sound[Math.floor(i / channels)];
      return i % channels === 0 ? value : change(value);
    });
  for (const [name, change, left] of [
    ["exact", (x: number) => -x, "silent"],
    ["noisy", (x: number) => -x + 0.001 * (next() - 0.5), "\\d+ dB below the loudest"],
    ["offset", (x: number) => 0.2 - x, "silent"],
  ] as const)
    await assert.rejects(
      readWav(host, wav(`${name}.wav`, 2, both(change))),
      new RegExp(
        `^RangeError: Cannot read .*${name}\\.wav: its 2 channels cancel each other: their mean is ${left}; save one`,
      ),
    );
  for (const change of [(x: number) => x, () => 0, (x: number) => -0.8 * x, () => 0.3 * (next() - 0.5)])
    await readWav(host, wav("kept.wav", 2, both(change)));
  const { samples } = await readWav(host, wav("nothing.wav", 2, new Float32Array(3200)));
  assert.ok(isSilent(samples));
});

test("Recognizer.recognize() gives no words and no emotion for a silent recording", async () => {
  const recognizer = await openRecognizer(host, device, demo);
  const { samples } = await readWav(host, clip);
  const quiet = samples.map((value) => value * 0.003); // -60 dB at the peaks
  const seen: number[] = [];
  const [first, silence, offset, last] = await recognizer.recognize(
    [quiet, new Float32Array(16000), new Float32Array(8000).fill(0.5), samples],
    { onProgress: (done) => seen.push(done) },
  );
  assert.deepEqual(silence, { seconds: 1, silent: true });
  assert.deepEqual(offset, { seconds: 0.5, silent: true });
  for (const speech of [first, last]) assert.ok(speech.emotion && speech.transcript && !speech.silent);
  assert.equal(seen.at(-1), 4);
  assert.deepEqual(await recognizer.recognize([new Float32Array(400)]), [{ seconds: 0.025, silent: true }]);
  recognizer.dispose();
});

test("Recognizer.recognize() names a recording that is not finite, or too short for one frame", async () => {
  const recognizer = await openRecognizer(host, device, demo);
  const good = new Float32Array(800).fill(0.1);
  const bad = Float32Array.from(good, (value, i) => (i === 7 ? Number.NaN : value));
  const endless = Float32Array.from(good, (value, i) => (i === 9 ? Number.NEGATIVE_INFINITY : value));
  const range = (message: RegExp) => (error: Error) =>
    error instanceof RangeError && message.test(error.message);
  for (const [audios, message] of [
    [[good, bad], /^Cannot use recording 1: sample 7 is NaN, expected a finite number$/],
    [[endless], /^Cannot use the recording: sample 9 is -Infinity, expected a finite number$/],
    [
      [good, good, good.subarray(0, 399)],
      /^Cannot use recording 2: it has 399 samples, at least 400 needed \(25\.0 ms\)$/,
    ],
    [[new Float32Array(0)], /^Cannot use a recording: it has 0 samples, at least 400 needed/],
    [[good.subarray(0, 100)], /it has 100 samples, at least 400/],
  ] as const)
    await assert.rejects(recognizer.recognize(audios), range(message));
  recognizer.dispose();

  const shape = { conv_dim: [8, 8], conv_kernel: [10, 3], conv_stride: [5, 2], feat_extract_norm: "layer" };
  const size = { hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16 };
  const weights = new Weights(device, { seed: 1 });
  const model = new HubertForCTC(weights.root, hubertConfig({ ...shape, ...size }, "tiny"));
  await weights.initialize();
  const audio = (n: number) => Tensor.from(device, new Float32Array(2 * n).fill(0.1), [2, n]);
  assert.throws(
    () => model.forward({ audio: audio(19) }),
    range(/^Cannot use audio: it has 19 samples, at least 20 /),
  );
  assert.throws(
    () => model.forward({ audio: audio(40), lengths: [40, 12] }),
    range(/^Cannot use audio 1 of the batch: it has 12 samples, at least 20 /),
  );
  weights.dispose();
});

/** A folder with a loop, a link to nowhere, a pipe, notes of macOS and a folder that may not be listed. */
function tangle(): string {
  const top = join(scratch, "tangle");
  mkdirSync(`${top}/below`, { recursive: true });
  mkdirSync(`${top}/closed`);
  for (const name of ["a.wav", "below/b.WAV", "closed/c.wav"]) copyFileSync(clip, `${top}/${name}`);
  for (const name of ["._a.wav", "notes.txt"]) writeFileSync(`${top}/${name}`, "no sound");
  symlinkSync("..", `${top}/below/up`);
  symlinkSync("../below", `${top}/below/again`);
  symlinkSync("../a.wav", `${top}/below/same.wav`);
  symlinkSync("nowhere", `${top}/gone.wav`);
  symlinkSync("self.wav", `${top}/self.wav`);
  if (process.platform !== "win32") spawnSync("mkfifo", [`${top}/pipe.wav`]);
  return top;
}

test("findRecordings() finds each recording once, in order, whatever stands beside it", async () => {
  const top = tangle();
  // Root may list everything: here one folder is closed to all.
  const closed: Host = {
    ...host,
    async list(path) {
      if (path.endsWith("closed")) throw new Error(`Cannot list ${path}: permission denied`);
      return await host.list(path);
    },
  };
  const short = (path: string) => path.slice(top.length + 1);
  const found = await findRecordings(closed, [
    `${top}/below/b.WAV`,
    top,
    `${top}/a.wav`,
    `${top}/absent.wav`,
  ]);
  assert.deepEqual(
    found.map(({ path, error }) => [short(path), error?.message.replace(/^.*: /, "")]),
    [
      ["below/b.WAV", undefined],
      ["a.wav", undefined],
      ["closed", "permission denied"],
      ["gone.wav", undefined],
      ["pipe.wav", "it is a pipe, which is read only where it is named itself"],
      ["self.wav", "its links lead in a circle"],
      ["absent.wav", undefined],
    ],
  );
  assert.deepEqual(await findRecordings(host, ["-"]), [{ path: "/dev/stdin" }]);
  const [nothing] = await findRecordings(host, [
    `${top}/below/up/below/absent`,
    join(scratch, "tangle", "below"),
  ]);
  assert.equal(nothing.error, undefined);
  // A link to a folder that is not there, and names that are not text, might be recordings.
  const odd = join(scratch, "odd");
  mkdirSync(odd);
  symlinkSync("/nowhere", join(odd, "disk"));
  symlinkSync("/nowhere", join(odd, "notes.txt"));
  const unnamed: Host = { ...host, list: async (path) => [...(await host.list(path)), "caf\ufffd.wav"] };
  assert.deepEqual(
    (await findRecordings(unnamed, [odd])).map(({ path, error }) => [path.slice(odd.length), error?.message]),
    [
      ["/disk", undefined],
      ["/caf\ufffd.wav", `Cannot read ${odd}/caf\ufffd.wav: its name is not UTF-8`],
    ],
  );
  mkdirSync(join(scratch, "void"));
  const [empty] = await findRecordings(host, [join(scratch, "void")]);
  assert.match(empty.error?.message ?? "", /no \*\.wav, \*\.mp3, \*\.flac, \*\.ogg or \*\.opus is below it$/);
});

test("readPipe() reads what comes late and in pieces, and does not wait for ever", async () => {
  if (process.platform === "win32") return;
  const path = join(scratch, "pipe");
  spawnSync("mkfifo", [path]);
  await assert.rejects(
    readPipe(path, 100),
    /^Error: Cannot read .*pipe: it is a pipe that nobody wrote to within 0\.1 s$/,
  );
  const writer = spawn("sh", ["-c", `sleep 0.2; (cat "${clip}"; sleep 0.2; printf end) > "${path}"`]);
  const bytes = await readPipe(path, 5000);
  const whole = await host.readBytes(clip);
  assert.deepEqual(bytes.subarray(0, whole.length), whole);
  assert.equal(new TextDecoder().decode(bytes.subarray(whole.length)), "end");
  while (writer.exitCode === null) await sleep(5);
  const endless = spawn("sh", ["-c", `cat /dev/zero > "${path}"`]);
  await assert.rejects(readPipe(path, 5000, 1 << 20), /pipe: more than 1048576 bytes came through the pipe$/);
  while (endless.exitCode === null && endless.signalCode === null) await sleep(5);
});

/** A recogniser that fails as told: "batch" for more than one recording, "gpu" for good. */
function engine(fails: Readonly<Record<string, "alone" | "gpu">>, log: string[]): RecognizerSource {
  const make = (): WindowRecognizer => {
    let down = false;
    const check = () => {
      if (down) throw new Error("Ran out of GPU memory (test): no more");
    };
    return {
      device: { check, idle: async () => check(), pool: { trim: () => log.push("trim") } },
      check(samples) {
        if (samples > 100) throw new RangeError("Cannot use 9 s at once");
      },
      async recognize(audios): Promise<Recognition[]> {
        check();
        const kinds = audios.map(({ length }) => fails[length]);
        log.push(`${audios.length}`);
        down = kinds.includes("gpu");
        if (down || kinds.some(Boolean)) throw new Error("Cannot allocate 1 MiB on the GPU\nmore");
        return audios.map(({ length }) => ({ seconds: length }));
      },
    };
  };
  let open: WindowRecognizer | undefined;
  return {
    async open() {
      if (!open) log.push("open");
      open ??= make();
      return open;
    },
    close() {
      log.push("close");
      open = undefined;
    },
  };
}

test("recogniseWindow() costs only the recordings that do not fit their results", async () => {
  const window = (...lengths: number[]) =>
    lengths.map(
      (length, index) =>
        ({ index, path: `${length}.wav`, audio: { samples: new Float32Array(length) } }) as Recording,
    );
  const run = async (fails: Record<string, "alone" | "gpu">, ...lengths: number[]) => {
    const log: string[] = [];
    const told: string[] = [];
    const ended = recogniseWindow(
      engine(fails, log),
      window(...lengths),
      {
        onResult: ({ path }, { seconds }) => told.push(`${path} ${seconds}`),
        onError: ({ path }, error) => told.push(`${path} failed: ${error.message}`),
      },
      {},
    );
    return {
      log,
      told,
      error: await ended.then(
        () => undefined,
        (error: Error) => error.message,
      ),
    };
  };
  const message = (n: number) => `${n}.wav failed: ${n}.wav: Cannot allocate 1 MiB on the GPU\nmore`;
  assert.deepEqual((await run({}, 1, 2, 3)).log, ["open", "3"]);
  const one = await run({ 2: "alone" }, 1, 2, 999, 3);
  assert.deepEqual(one.told, [
    "999.wav failed: 999.wav: Cannot use 9 s at once",
    "1.wav 1",
    message(2),
    "3.wav 3",
  ]);
  assert.deepEqual(one.log, ["open", "3", "trim", "1", "trim", "1", "trim", "1"]);
  const memory = await run({ 2: "gpu" }, 1, 2, 3);
  assert.deepEqual(memory.told, ["1.wav 1", message(2), "3.wav 3"]);
  assert.equal(memory.log.filter((line) => line === "open").length, 3);
  const lost = await run({ 1: "gpu", 2: "gpu", 3: "gpu" }, 1, 2, 3);
  assert.deepEqual(lost.told, [message(1)]);
  assert.match(lost.error ?? "", /^Cannot allocate/);
});

test("predict reads standard input, marks silence, and lists what failed beside what did not", () => {
  const silence = wav("silence.wav", 1, new Float32Array(16000));
  const opposed = wav(
    "opposed.wav",
    2,
    Float32Array.from({ length: 3200 }, (_, i) => (i % 2 ? -0.2 : 0.2) * Math.sin(i >> 1)),
  );
  const args = [...runtime, "tools/predict.ts", silence, opposed, "-", silence, "--model", demo, "--json"];
  const done = spawnSync(process.execPath, args, { cwd: root, input: spawnSync("cat", [clip]).stdout });
  const { files } = JSON.parse(String(done.stdout));
  assert.deepEqual(files[0], { file: silence, seconds: 1, silent: true });
  assert.match(files[1].error, /its 2 channels cancel each other/);
  assert.equal(files[2].file, "/dev/stdin");
  assert.equal(typeof files[2].emotion, "string");
  assert.equal(files.length, 3);
  assert.equal(done.status, 1);
});
