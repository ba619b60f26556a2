import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { joined } from "../src/io/audio_stream.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { wav16Bytes } from "../src/io/wav.ts";
import { verb } from "../tools/predict.ts";
import { runHere } from "./verb.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = `${root}weights/demo`;
const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "wavegate-recordings-"));
after(() => rmSync(folder, { recursive: true }));

const [furious, weary] = await Promise.all(
  ["furious", "weary"].map(async (name) => (await readWav(host, `${demo}/clips/${name}.wav`)).samples),
);
const pause = new Float32Array(16_000);
const dialogue = join(folder, "dialogue.wav");
writeFileSync(dialogue, wav16Bytes(joined([pause, furious, pause, weary, pause])));

const predict = (...args: string[]) => runHere(verb, ...args, "--model", demo);

test("predict --segments always divides a recording, and --window makes that the default of long ones", async () => {
  const always = await predict(dialogue, "--segments", "always");
  const long = await predict(dialogue, "--window", "2");
  assert.equal(always.status, 0);
  assert.deepEqual(long.json.files, always.json.files);
  const [{ segments, transcript, seconds }] = always.json.files;
  assert.equal(segments.length, 2);
  assert.equal(seconds, 5.49325);
  assert.equal(
    segments
      .map((each: { transcript: string }) => each.transcript)
      .join(" ")
      .trim(),
    transcript,
  );
  assert.match(always.printed[0], /dialogue\.wav {2}\(5\.49 s, 2 segments of speech\)$/);
  assert.match(always.printed[1], /^ {2}0:0[01]\.\d to 0:02\.\d {2,}\w+ 0\.\d{3} {2}/);
  const whole = await predict(dialogue);
  assert.equal(whole.json.files[0].segments, undefined, "a short recording is recognised as a whole");
});

test("predict reads FLAC, MP3, Vorbis and Opus, in folders too, and raw samples", async () => {
  const sounds = join(folder, "sounds");
  mkdirSync(sounds);
  for (const name of ["furious.flac", "furious.mp3", "furious-vorbis.ogg", "furious.opus"])
    copyFileSync(`${root}test/recordings/${name}`, join(sounds, name));
  writeFileSync(join(sounds, "words.txt"), "no sound");
  const { json, status } = await predict(sounds, `${demo}/clips/furious.wav`);
  assert.equal(status, 0);
  assert.equal(json.files.length, 5);
  const flac = json.files.find(({ file }: { file: string }) => file.endsWith(".flac"));
  const wav = json.files.at(-1);
  assert.equal(flac.transcript, wav.transcript);
  for (const [label, p] of Object.entries<number>(wav.probabilities))
    assert.ok(Math.abs(flac.probabilities[label] - p) < 1e-5);
  const raw = join(folder, "furious.pcm");
  const bytes = readFileSync(`${demo}/clips/furious.wav`);
  writeFileSync(raw, bytes.subarray(bytes.length - 2 * furious.length));
  const named = await predict(raw, "--raw", "s16le", "--rate", "16000", "--channels", "1");
  assert.equal(named.json.files[0].transcript, wav.transcript);
  const piped = spawnSync(
    process.execPath,
    [
      ...("Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"]),
      ...["tools/predict.ts", "-", "--model", demo, "--format", "csv"],
    ],
    { cwd: root, input: readFileSync(`${root}test/recordings/furious.flac`) },
  );
  const [, row] = piped.stdout.toString().split("\n");
  assert.ok(row?.startsWith(`/dev/stdin,0,0.000,1.193,${wav.transcript},`), `${piped.stdout}${piped.stderr}`);
});

test("predict --out writes a file, or a folder of files, in the format of its name or of --format", async () => {
  const srt = join(folder, "out.srt");
  const { printed } = await predict(dialogue, "--segments", "always", "--out", srt);
  assert.match(readFileSync(srt, "utf8"), /^1\n00:00:0\d,\d{3} --> .*\n\[\w+\]/);
  assert.ok(printed.length > 2, "the results are printed as well");
  const out = join(folder, "pages");
  await predict(dialogue, `${demo}/clips/furious.wav`, "--format", "html", "--out", out);
  assert.deepEqual(readdirSync(out).sort(), ["dialogue.html", "furious.html"]);
  assert.match(
    readFileSync(join(out, "furious.html"), "utf8"),
    /<audio controls preload="metadata" src="data:audio\/wav;/,
  );
  const rttm = join(folder, "all.rttm");
  await predict(dialogue, `${demo}/clips/furious.wav`, "--out", rttm);
  assert.deepEqual(readFileSync(rttm, "utf8").match(/^SPEAKER \S+/gm), [
    "SPEAKER dialogue",
    "SPEAKER furious",
  ]);
  const json = await predict(dialogue, "--format", "json");
  assert.equal(JSON.parse(json.printed[0]).files[0].file, dialogue);
  assert.equal(json.printed.length, 1);
});

test("predict --embeddings writes a row for each segment or frame, with its time", async () => {
  for (const [level, rows] of [
    ["utterance", 2],
    ["frame", 123],
  ] as const) {
    const path = join(folder, `${level}.safetensors`);
    await predict(dialogue, "--segments", "always", "--embeddings", path, "--level", level);
    const file = await openSafetensors(host, path);
    const { shape } = file.tensors.get(dialogue) ?? { shape: [] };
    const times = await readF32(file, `${dialogue}.times`);
    await file.close();
    assert.deepEqual([...shape], [rows, 64], level);
    assert.equal(times.length, shape[0]);
    assert.ok(
      times.every((time, i) => i === 0 || time > times[i - 1]),
      "times are not in order",
    );
  }
});

test("predict refuses in one line what it cannot write or understand", async () => {
  const furious = `${demo}/clips/furious.wav`;
  const twin = join(folder, "twin");
  mkdirSync(twin);
  copyFileSync(furious, join(twin, "furious.wav"));
  const refused: [string[], RegExp][] = [
    [
      [dialogue, furious, "--format", "srt"],
      /^Cannot write 2 recordings as srt to stdout: --out DIR takes a file of each$/,
    ],
    [[dialogue, furious, "--out", dialogue, "--format", "vtt"], /a folder is needed, and it is a file$/],
    [
      [dialogue, "--out", join(folder, "x.docx")],
      /^Cannot tell the format of --out .*x\.docx: --format is one of json, csv/,
    ],
    [
      [twin, furious, "--format", "vtt", "--out", join(folder, "v")],
      /furious\.vtt: it would be both of .* and of /,
    ],
    [[dialogue, "--rate", "8000"], /^Cannot use --rate without --raw/],
    [[dialogue, "--window", "0.2"], /^Cannot divide recordings: --window is 0\.2 s, expected at least 1$/],
    [
      [dialogue, "--min-silence=-1"],
      /^Cannot divide recordings: --min-silence is -1, expected a number of at least 0$/,
    ],
    [[dialogue, "--json", "--format", "srt"], /^Cannot write both --json and --format srt to stdout/],
    [[dialogue, "--out", join(folder, "absent/x.srt")], /^Cannot write .*absent/],
  ];
  for (const [args, wanted] of refused) {
    const { error, printed } = await predict(...args);
    assert.match(error?.message ?? "nothing was refused", wanted);
    assert.deepEqual(printed, []);
  }
  assert.ok(!existsSync(join(folder, "x.docx")));
});

test("predict reports a recording that is cut off behind its first window, and goes on with the others", async () => {
  const flac = readFileSync(`${root}test/recordings/furious.flac`);
  const cut = join(folder, "cut.flac");
  writeFileSync(cut, flac.subarray(0, 24_000));
  const { status, notes, json } = await predict(cut, dialogue, "--segments", "always");
  assert.equal(status, 1);
  assert.match(json.files[0].error, /^Cannot read .*cut\.flac: it is cut off or damaged: 1\.2 s announced/);
  assert.equal(json.files[1].segments.length, 2);
  assert.equal(notes.filter((line) => line.startsWith("wavegate predict: ")).length, 1);
});

test("predict --segments never refuses what is too long, and names a recording without speech silent", async () => {
  const long = join(folder, "long.pcm");
  writeFileSync(long, new Uint8Array(2 * 1000 * 301));
  const { json } = await predict(long, "--raw", "s16le", "--rate", "1000", "--segments", "never");
  assert.match(json.files[0].error, /it is too long: 301\.0 s, at most 300 s accepted$/);
  const silence = join(folder, "silence.pcm");
  writeFileSync(silence, new Uint8Array(2 * 8000 * 3));
  const divided = await predict(silence, "--raw", "s16le", "--rate", "8000", "--segments", "always");
  assert.deepEqual(divided.json.files[0], { file: silence, seconds: 3, silent: true, segments: [] });
  assert.match(divided.printed[1], /no speech was found/);
});
