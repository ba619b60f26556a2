/** The parts of training: schedules, masks, batches, configs, files, memory, and data that is not as it should be. */
import assert from "node:assert/strict";
import {
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { examine } from "../src/speech/corpora/examine.ts";
import { folds } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { currentHost } from "../src/host/current.ts";
import { lockFolder } from "../src/host/lock.ts";
import type { Host } from "../src/host/host.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { scale } from "../src/ops/elementwise.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { AdamW } from "../src/train/optimizer.ts";
import { augmented, shiftPitchAndFormants } from "../src/speech/training/augment.ts";
import { planEpoch, planInOrder, roundLength } from "../src/speech/training/batches.ts";
import { applySettings, checkConfig, recipeOf } from "../src/speech/recipes/config.ts";
import type { Batch } from "../src/speech/training/examples.ts";
import { readProvenance } from "../src/speech/training/provenance.ts";
import { trainStage } from "../src/train/loop.ts";
import { trainRun } from "../src/speech/training/run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { newBob, scheduleFactor } from "../src/train/schedule.ts";
import { seedOf, trainingStream, uniformStream } from "../src/train/seeds.ts";
import { maskSpans } from "../src/speech/training/spec_augment.ts";
import { identify } from "../src/speech/training/data.ts";
import { openLatest } from "../src/train/state.ts";
import type { Task } from "../src/train/task.ts";
import { crc32c, TensorBoardEvents } from "../src/train/tensorboard.ts";
import { update } from "../src/train/update.ts";
import { testDevice } from "./device.ts";
import { tinyBatch, tinySystem } from "./tiny_system.ts";
import { tinyRelease } from "./tiny_release.ts";

const device = await testDevice();
const host = await currentHost();

const nano = () => trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 });

/** A folder of its own for `body`. */
async function temporary(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "wavegate-train-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test("scheduleFactor() rises over the warm-up, then falls to the end", () => {
  const linear = (step: number) => scheduleFactor(step, { kind: "linear", warmup: 0.1, total: 100 });
  assert.equal(linear(1), 0.1);
  assert.equal(linear(10), 1);
  assert.ok(linear(55) > 0.49 && linear(55) < 0.52);
  assert.ok(linear(100) > 0 && linear(100) < 0.02);
  for (const kind of ["constant", "newbob"] as const) {
    assert.equal(scheduleFactor(77, { kind, warmup: 0.1, total: 100 }), 1);
    assert.equal(scheduleFactor(5, { kind, warmup: 0.1, total: 100 }), 0.5);
  }
  assert.equal(scheduleFactor(1, { kind: "linear", warmup: 0, total: 1 }), 1);
});

test("newBob() halves the rate where the dev loss stalls", () => {
  const first = newBob({ factor: 1 }, 2);
  const better = newBob(first, 1.5);
  const stalled = newBob(better, 1.499);
  assert.deepEqual(
    [first.factor, better.factor, stalled.factor, newBob(stalled, 3).factor],
    [1, 1, 0.5, 0.25],
  );
});

test("trainingStream() is a function of what it is for, and even", () => {
  const draw = (...parts: (string | number)[]) => {
    const stream = trainingStream(...parts);
    return Array.from({ length: 4000 }, () => stream.next());
  };
  assert.deepEqual(draw(1, "step", 2, 3), draw(1, "step", 2, 3));
  assert.notDeepEqual(draw(1, "step", 2, 3), draw(1, "step", 3, 2));
  const numbers = draw(7);
  assert.ok(numbers.every((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 32));
  assert.ok(new Set(numbers).size > 3990);
  const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length / 2 ** 32;
  assert.ok(Math.abs(mean - 0.5) < 0.02, `${mean}`);
  assert.notEqual(seedOf(0, 1), seedOf(1, 0));
});

test("maskSpans() covers about the share asked for, in whole spans, inside each row", () => {
  const [rows, width, length] = [200, 120, 10];
  const lengths = Array.from({ length: rows }, (_, b) => (b % 2 ? 120 : 60));
  const mask = maskSpans(lengths, width, { probability: 0.4, length, minimum: 2 }, uniformStream(1));
  let [masked, all] = [0, 0];
  lengths.forEach((n, b) => {
    const row = Array.from(mask.subarray(b * width, (b + 1) * width));
    assert.ok(
      row.slice(n).every((m) => m === 0),
      "padding is masked",
    );
    for (const run of row.join("").split("0").filter(Boolean)) assert.ok(run.length >= length);
    masked += row.reduce((a, m) => a + m, 0);
    all += n;
  });
  // Spans may overlap: fewer frames than the probability says.
  assert.ok(masked / all > 0.25 && masked / all < 0.4, `${masked / all}`);
});

test("maskSpans() leaves a row alone that is shorter than a span", () => {
  const options = { probability: 0.9, length: 10, minimum: 2 };
  assert.ok(!maskSpans([9], 9, options, uniformStream(1)).includes(1));
  assert.equal(
    maskSpans([10], 10, options, uniformStream(1)).reduce((a, b) => a + b),
    10,
  );
});

test("planEpoch() uses every item once, keeps lengths together and limits, and differs by epoch", () => {
  const next = uniformStream(4);
  const seconds = Array.from({ length: 300 }, () => 0.5 + 9 * next());
  const plan = planEpoch(seconds, { items: 8, seconds: 30 }, 1, 0);
  assert.deepEqual(
    plan.flat().sort((a, b) => a - b),
    seconds.map((_, i) => i),
  );
  let padded = 0;
  for (const batch of plan) {
    const longest = Math.max(...batch.map((i) => seconds[i]));
    assert.ok(batch.length <= 8 && (batch.length === 1 || batch.length * longest <= 30));
    padded += batch.length * longest;
  }
  assert.ok(seconds.reduce((a, b) => a + b) / padded > 0.85, "much padding");
  assert.deepEqual(planEpoch(seconds, { items: 8, seconds: 30 }, 1, 0), plan);
  assert.notDeepEqual(planEpoch(seconds, { items: 8, seconds: 30 }, 1, 1), plan);
  const ordered = planInOrder(seconds, { items: 8 }).flat();
  assert.ok(ordered.every((i, k) => k === 0 || seconds[ordered[k - 1]] <= seconds[i]));
});

test("roundLength() adds at most 6.25 % and has few values", () => {
  const seen = new Set<number>();
  for (let n = 400; n < 200_000; n += 97) {
    const rounded = roundLength(n);
    assert.ok(rounded >= n && rounded <= 1.0625 * n + 1, `${n} → ${rounded}`);
    seen.add(rounded);
  }
  assert.ok(seen.size <= 16 * 10, `${seen.size}`);
});

test("augmented() changes length by the speed and is the same for the same numbers", () => {
  const clip = Float32Array.from({ length: 16_000 }, (_, t) => Math.sin(t / 9));
  const change = { speed: 0.1, pitchFormantShift: 0.1, tilt: 0.2, noise: 0.05 };
  const once = augmented(clip, change, uniformStream(3));
  assert.deepEqual(augmented(clip, change, uniformStream(3)), once);
  assert.ok(Math.abs(once.length / clip.length - 1) <= 0.12 && once.length !== clip.length);
  assert.ok(once.every(Number.isFinite));
  assert.equal(
    augmented(clip, { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 }, uniformStream(3)),
    clip,
  );
});

test("shiftPitchAndFormants() moves the pitch and keeps the tempo", () => {
  // A tone of 200 Hz that is loud in the second half.
  const clip = new Float32Array(16000).map(
    (_, i) => Math.sin((2 * Math.PI * 200 * i) / 16000) * (i < 8000 ? 0.1 : 1),
  );
  for (const factor of [0.75, 1.3]) {
    const moved = shiftPitchAndFormants(clip, factor);
    assert.equal(moved.length, clip.length);
    const rises = (from: number, to: number) =>
      moved.subarray(from, to).reduce((n, x, i, all) => n + (i > 0 && all[i - 1] < 0 && x >= 0 ? 1 : 0), 0);
    assert.ok(
      Math.abs(rises(1000, 15000) / (200 * factor * 0.875) - 1) < 0.03,
      `${rises(1000, 15000)} periods`,
    );
    const level = (from: number, to: number) => Math.max(...moved.subarray(from, to).map(Math.abs));
    assert.ok(level(1000, 7500) < 0.15 && level(8500, 15500) > 0.85);
  }
});

test("checkConfig() names the key that is wrong, what it holds and what it should", () => {
  const said = (settings: string[], message: RegExp) =>
    assert.throws(() => checkConfig(applySettings(nano(), settings), "the recipe"), message);
  said(
    ["stage1.learningRate.heads=-1"],
    /^SyntaxError: Cannot use the recipe: stage1\.learningRate\.heads is -1 but should be at least 0$/,
  );
  said(["stage1.epochs=2.5"], /stage1\.epochs is 2\.5 but should be a whole number from 1 to 100000$/);
  said(["stage2.schedule.kind=cosine"], /stage2\.schedule\.kind is "cosine" but should be .*linear/);
  said(["stage2.alpha=2"], /stage2\.alpha is 2 but should be at most 1$/);
  said(["learning_rate=1"], /there is no key learning_rate$/);
  said(["stage1.nothing.here=1"], /there is no nothing in the config/);
  said(["seed"], /expected key=value/);
  said(["__proto__.x=1"], /there is no __proto__ in the config/);
  said(["stage1.learningRate=1"], /stage1\.learningRate is 1 but should be an object$/);
  said(['stage1={"epochs":1}'], /it lacks the key stage1\.batch, an object$/);
  said(["stages=[]"], /stages is \[\] but should be at least one stage$/);
  said(["stages=[1,1]"], /stages is \[1,1\] but should be each stage once$/);
  said(["stages=[2,0]"], /stage 2 without stage 1 needs the model of a stage 1, --hubert DIR$/);
  said(["system=acoustic"], /acoustic has no stage 0, its stages are 1$/);
  const applied = (...settings: string[]) => checkConfig(applySettings(nano(), settings), "the recipe");
  const set = applied("stage1.learningRate.heads=1e-3", 'stage2.freeze=["cnn","bert"]');
  assert.equal(set.stage1.learningRate.heads, 1e-3);
  assert.equal(applied("stage0.schedule.warmup=0.9").stage1.schedule.warmup, 0.1, "stages share a setting");
  assert.deepEqual(set.stage2.freeze, ["cnn", "bert"]);
});

test("TensorBoardEvents writes records with their checksums", () => {
  // RFC 3720, B.4: 32 bytes of zeros, and "123456789".
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  const bytes = new TensorBoardEvents().scalars(300, [["stage1/loss", 0.5]], true);
  const view = new DataView(bytes.buffer);
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    const data = bytes.subarray(at + 12, at + 12 + length);
    for (const [part, place] of [
      [bytes.subarray(at, at + 8), at + 8],
      [data, at + 12 + length],
    ] as const) {
      const crc = crc32c(part);
      assert.equal(view.getUint32(place, true), (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
    }
    found.push(data);
    at += length + 16;
  }
  const text = found.map((data) => new TextDecoder("latin1").decode(data));
  assert.equal(found.length, 2);
  assert.match(text[0], /brain\.Event:2$/);
  assert.match(text[1], /stage1\/loss/);
});

test("update() with micro-batches equals one of their mean, and counts no step that was not finite", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 0, maxGradNorm: 1 });
  const [a, b] = [tinyBatch(2, 0.6, 1), tinyBatch(2, 0.6, 2)];
  const mode = () => ({});
  const run = (...batches: (typeof a)[]) => update(device, task, optimizer, batches, { factor: 1, mode });
  const [one, two, both] = [await run(a), await run(b), await run(a, b)];
  assert.ok(Math.abs(both.loss - (one.loss + two.loss) / 2) < 1e-6);
  assert.ok(both.gradientNorm > 0 && both.gradientNorm <= (one.gradientNorm + two.gradientNorm) / 2 + 1e-6);
  const { steps } = optimizer;
  const bad = await run({ ...a, audio: a.audio.map((x, i) => (i === 9 ? Number.NaN : x)) });
  assert.equal(bad.finite, false);
  assert.deepEqual(optimizer.steps, steps);
  assert.equal((await run(a)).loss, one.loss);
  optimizer.dispose();
  weights.dispose();
});

test("memory stays flat over 200 updates of mixed lengths", async () => {
  // Without masks, whose number is random and now and then none.
  const { weights, task } = await tinySystem(device, "both-cmgi", 2, { apply_spec_augment: false });
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 1e-3, maxGradNorm: 1 });
  const shapes = [0.4, 1.3, 0.6, 2, 0.8, 1, 0.5, 1.6].map((seconds, i) => tinyBatch(1 + (i % 3), seconds, i));
  const step = (i: number) =>
    update(device, task, optimizer, [shapes[(5 * i) % shapes.length]], {
      factor: 1,
      mode: () => ({ training: trainingStream(i) }),
    });
  for (let i = 0; i < 16; i++) await step(i);
  const { live, allocated, buffers, created } = { ...device.pool.statistics };
  for (let i = 16; i < 216; i++) await step(i);
  assert.deepEqual(
    { ...device.pool.statistics, peak: 0 },
    { live, allocated, buffers, created, peak: 0 },
    "a warm step allocates nothing and leaves nothing",
  );
  optimizer.dispose();
  weights.dispose();
});

/** Trains one epoch of stage 1 on a release in `root`. */
async function trainOnce(root: string, out: string, on: Host = host, settings: string[] = []) {
  const config = checkConfig(
    applySettings(trainConfig({ preset: "nano", system: "acoustic-asr", data: root, fold: 3 }), [
      ...["stage1.epochs=1", "stage1.batch.items=4", ...settings],
    ]),
    "the test",
  );
  const examined = await examine(on, await readIemocap(on, root), { maxTrainingSeconds: 20 });
  const [, , fold] = folds(examined.utterances, { dev: config.dev, seed: config.seed });
  const run = await RunFolder.create(on, out, config);
  const told: string[] = [];
  const finished = await trainRun({
    ...{ device, run, config, resume: false, data: { examined, fold } },
    signal: new AbortController().signal,
    onProblem: (id, message) => told.push(`${id}: ${message}`),
  });
  return { finished, examined, told };
}

test("training goes on where data is bad, and each case is told by name", async () => {
  const release = await tinyRelease();
  await temporary(async (out) => {
    const { root } = release;
    const wavs = (s: number, take = "01") => join(root, `Session${s}/sentences/wav/Ses0${s}F_impro${take}`);
    const id = (s: number, turn: string, take = "01") => `Ses0${s}F_impro${take}_${turn}`;
    const edit = async (s: number, kind: string, change: (text: string) => string) => {
      const path = join(root, `Session${s}/dialog/${kind}/Ses0${s}F_impro01.txt`);
      await writeFile(path, change(await readFile(path, "utf8")));
    };
    const said = (turn: string, text: string) => (all: string) =>
      all.replace(new RegExp(`(Ses0.F_impro01_${turn} \\[.*\\]: ).*`), (_, head) => head + text);
    await rm(join(wavs(1), `${id(1, "F000")}.wav`));
    await edit(1, "EmoEvaluation", (text) => text.replace(/(Ses01F_impro01_M001\t)\w+/, "$1bored"));
    await edit(1, "transcriptions", said("F002", "[LAUGHTER]"));
    await edit(1, "transcriptions", said("M003", "so ".repeat(400)));
    await edit(2, "transcriptions", said("F000", "Yes."));
    await writeWav16(host, join(wavs(2), `${id(2, "F000")}.wav`), new Float32Array(4800).fill(0.1));
    await writeWav16(host, join(wavs(2), `${id(2, "M001")}.wav`), new Float32Array(16_000 * 34));
    const { finished, examined } = await trainOnce(root, join(out, "run"));
    assert.ok(finished);
    const kinds = new Map(examined.problems.map((p) => [`${p.id} ${p.kind}`, p.handled]));
    for (const [who, kind] of [
      [id(1, "F000"), "missing wav"],
      [id(1, "M001"), "unknown label"],
      [id(1, "F002"), "empty transcript"],
      [id(1, "M003"), "transcript too long"],
      [id(2, "F000"), "short clip"],
      [id(2, "M001"), "long clip"],
    ])
      assert.ok(kinds.has(`${who} ${kind}`), `${who}: ${kind} is not in ${[...kinds.keys()].join("; ")}`);
    const lines = (await readFile(join(out, "run/metrics.jsonl"), "utf8")).trim().split("\n");
    assert.ok(lines.every((line) => Number.isFinite(JSON.parse(line).loss ?? JSON.parse(line).dev_loss)));
    const dev = JSON.parse(lines.find((line) => line.includes("dev_loss"))!);
    for (const share of [dev.dev_ua, dev.dev_wa]) assert.ok(share >= 0 && share <= 1, `${share} is no share`);
    // Without a single right word it is 1, and higher where words are inserted.
    assert.ok(dev.dev_wer >= 0 && dev.dev_ctc > 0, JSON.stringify(dev));
    // A file that breaks after it was examined is left out of its batch.
    await copyFile(join(root, "text.txt"), join(wavs(1, "02"), `${id(1, "F000", "02")}.wav`));
    const broken = examined.utterances.find((u) => u.id === id(1, "F000", "02"))!;
    const run = await RunFolder.create(host, join(out, "again"), {});
    const fold = {
      name: "x",
      train: examined.utterances.filter((u) => u.session === "Session1"),
      dev: [],
      test: [broken],
    };
    const told: string[] = [];
    await trainRun({
      ...{ device, run, resume: false, data: { examined, fold } },
      config: checkConfig(
        applySettings({ ...nano(), system: "acoustic", stages: [1] }, ["stage1.epochs=1"]),
        "the test",
      ),
      signal: new AbortController().signal,
      onProblem: (who, message) => told.push(`${who}: ${message}`),
    });
    assert.ok(
      told.some((line) => line.startsWith(broken.id)),
      told.join("; "),
    );
  });
  await release.remove();
});

test("a full disk ends the run with one clear line and the last checkpoint whole", async () => {
  const release = await tinyRelease();
  await temporary(async (out) => {
    let room = Number.POSITIVE_INFINITY;
    const full: Host = {
      ...host,
      async createAtomic(path) {
        const file = await host.createAtomic(path);
        return {
          ...file,
          async write(bytes) {
            room -= bytes.length;
            if (room < 0) throw new Error(`Cannot write ${path}: no space left on the disk`);
            await file.write(bytes);
          },
        };
      },
      async remove(path) {
        await host.remove(path);
      },
      async append(path, bytes) {
        // The first lines of metrics come with the first checkpoint: from then on there is room for half of one more.
        if (path.endsWith("metrics.jsonl") && room > 1e9) room = 400_000;
        await host.append(path, bytes);
      },
    };
    const run = join(out, "run");
    await assert.rejects(
      trainOnce(release.root, run, full, ["checkpoints.every=1", "checkpoints.keep=3"]),
      /^Error: Cannot write .*: no space left on the disk$/,
    );
    const left = await readdir(join(run, "checkpoints"));
    assert.ok(left.length > 0, "no checkpoint is left");
    for (const name of left) {
      const folder = join(run, "checkpoints", name);
      const files = await readdir(folder);
      for (const file of ["config.json", "model.safetensors", "optimizer.safetensors", "state.json"])
        assert.ok(files.includes(file), `${name} lacks ${file}`);
      for (const file of ["model", "optimizer"])
        await (await openSafetensors(host, join(folder, `${file}.safetensors`))).close();
    }
  });
  await release.remove();
});

test("openLatest() goes on only from a whole checkpoint of the same run", async () => {
  const release = await tinyRelease();
  await temporary(async (out) => {
    const path = join(out, "run");
    const { examined } = await trainOnce(release.root, path, host, ["checkpoints.every=1"]);
    const config = checkConfig(JSON.parse(await readFile(join(path, "config.json"), "utf8")), "config.json");
    const of = await identify(config, examined);
    const run = await RunFolder.open(host, path);
    const latest = await openLatest(run, of);
    assert.ok(latest && latest.state.step > 1);
    const [newest, before] = await run.finished();
    assert.equal(latest.folder, newest);
    const record = await readProvenance(host, newest);
    assert.deepEqual([record?.corpora.length, record?.corpora[0].heldOut], [1, "Session3"]);
    assert.deepEqual(await readProvenance(host, join(path, "model")), record, "every model folder says it");
    assert.deepEqual(
      of,
      await identify({ ...config, data: "elsewhere" }, examined),
      "where a corpus lies is nothing",
    );

    const refused = (message: RegExp, other = of) => assert.rejects(openLatest(run, other), { message });
    await refused(
      /: the recipe \(of\.recipe\) is not the one that the run began with$/,
      await identify({ ...config, seed: 9 }, examined),
    );
    const fewer = { ...examined, utterances: examined.utterances.slice(1) };
    await refused(
      /: the data \(of\.data\) is not the one that the run began with$/,
      await identify(config, fewer),
    );
    const changed = async (file: string, change: (text: string) => string, message: RegExp) => {
      const text = await readFile(join(newest, file), "latin1");
      await writeFile(join(newest, file), change(text), "latin1");
      await refused(message);
      await writeFile(join(newest, file), text, "latin1");
    };
    await changed(
      "state.json",
      () => "{}",
      /state\.json: it lacks the key of, an object; without .* the run goes on from .*$/,
    );
    await changed(
      "state.json",
      (t) => t.replace(/"step": \d+/, '"step": "x"'),
      /step is "x" but should be a whole number from 0 to 2\^53 - 1/,
    );
    await changed("optimizer.safetensors", (t) => t.slice(0, 4000), /optimizer\.safetensors: .* without .*$/);

    await mkdir(join(path, "checkpoints", "notes"));
    await rm(newest, { recursive: true });
    assert.equal((await openLatest(run, of))?.folder, before);
    await rm(before, { recursive: true });
    await refused(
      /it holds models in best\/, but no checkpoint to go on from; a run in another folder starts anew$/,
    );
    assert.deepEqual(await readdir(join(path, "checkpoints")), ["notes"], "what is not the run's stays");
  });
  await release.remove();
});

test("lockFolder() lets one living process write to a folder", async () => {
  await temporary(async (run) => {
    const lock = join(run, "lock");
    const owner = (pid: number, name = hostname()) => writeFile(lock, JSON.stringify({ pid, host: name }));
    lockFolder(run, "train in").release();
    assert.deepEqual(await readdir(run), []);
    await owner(process.ppid);
    assert.throws(
      () => lockFolder(run, "train in"),
      /^Error: Cannot train in .*: process \d+ of .* is at it; if it is not, remove .*lock$/,
    );
    await owner(1, "another machine");
    assert.throws(() => lockFolder(run, "train in"), /process 1 of another machine is at it/);
    // One that cannot be removed or read any more keeps no message of what went wrong from being seen.
    await rm(lock);
    const held = lockFolder(run, "train in");
    await rm(lock);
    await mkdir(lock);
    held.release();
    await rm(lock, { recursive: true });
    // What a full disk, or a process that died, left behind names nobody, however new it is.
    const dead = { pid: 2 ** 22 + 1, host: hostname() };
    for (const left of [JSON.stringify(dead), '{"pid":', "", "null", "7", '{"pid":"x","host":1}']) {
      await writeFile(lock, left);
      await writeFile(join(run, "lock.77.tmp"), left);
      await utimes(join(run, "lock.77.tmp"), 1, 1);
      const { release } = lockFolder(run, "train in");
      assert.equal(JSON.parse(await readFile(lock, "utf8")).pid, process.pid);
      release();
      assert.deepEqual(await readdir(run), []);
    }
    // The number of a process that died is another's by now, where the system tells when that one began.
    lockFolder(run, "train in");
    const { began } = JSON.parse(await readFile(lock, "utf8"));
    if (process.platform === "linux") {
      const reused = { pid: process.ppid, host: hostname(), began };
      await writeFile(lock, JSON.stringify(reused));
      lockFolder(run, "train in").release();
    }
    await rm(lock, { force: true });
    await mkdir(lock);
    assert.throws(() => lockFolder(run, "train in"), /^Error: Cannot read .*lock: it is a folder$/);
    await rm(lock, { recursive: true });
    await symlink("nowhere", lock);
    assert.throws(() => lockFolder(run, "train in"), /^Error: Cannot read .*lock: it is a link to nothing$/);
    await rm(lock);
    assert.throws(
      () => lockFolder(join(run, "nowhere"), "train in"),
      /^Error: Cannot write .*nowhere.lock: /,
    );
    assert.deepEqual(await readdir(run), []);
  });
});

test("in f16 a step that overflows is skipped and halves the loss scale, and the stage goes on", {
  skip: !device.info.f16 && "no shader-f16",
}, async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  for (const parameter of weights.parameters) parameter.matmulDType = "f16";
  const last = weights.parameters.at(-1)!;
  const before = await last.value.read();
  // A loss so steep that the squares of its gradient go beyond f32 at the first scales.
  const steep: Task<Batch> = {
    parameters: task.parameters,
    plan: () => Array.from({ length: 16 }, (_, i) => [i]),
    load: async ([i]) => tinyBatch(2, 0.6, i),
    amount: () => 1,
    losses: (batch, mode) => ({ loss: scale(task.losses(batch, mode).loss, 1e15), parts: {} }),
    evaluate: async () => undefined,
    save: (folder) => task.save(folder),
  };
  await temporary(async (folder) => {
    const run = await RunFolder.create(host, join(folder, "run"), {});
    const config = { ...recipeOf(nano().stage1), epochs: 1, precision: "f16" as const };
    await trainStage({
      ...{ device, run, task: steep, stage: 1 as const, config, seed: 1, bests: {} },
      of: { recipe: "", data: "" },
      checkpoints: { keep: 1, every: 0 },
      group: () => "heads",
      signal: new AbortController().signal,
    });
    await run.flush();
    const lines = (await readFile(join(run.path, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
    const steps = lines.map((line) => JSON.parse(line) as { loss_scale: number; skipped: boolean });
    const skipped = steps.filter((step) => step.skipped).length;
    assert.ok(skipped > 1 && skipped < 12, `${skipped} of ${steps.length} steps were skipped`);
    let expected = 2 ** 16;
    for (const { loss_scale, skipped } of steps) {
      assert.equal(loss_scale, expected);
      if (skipped) expected /= 2;
    }
    const [name] = await readdir(join(run.path, "checkpoints"));
    const state = JSON.parse(await readFile(join(run.path, "checkpoints", name, "state.json"), "utf8"));
    assert.equal(state.lossScale, expected);
    assert.equal(state.updates[last.key], 16 - skipped, "skipped steps count as no update");
  });
  assert.notDeepEqual(await last.value.read(), before, "no step changed a weight");
  weights.dispose();
});

test("trainStage() saves by the clock within an epoch, and by its own clock where an old recipe names none", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  const eight: Task<Batch> = {
    parameters: task.parameters,
    plan: () => Array.from({ length: 8 }, (_, i) => [i]),
    load: async ([i]) => tinyBatch(1, 0.4, i),
    amount: () => 1,
    losses: (batch, mode) => task.losses(batch, mode),
    evaluate: async () => undefined,
    save: (folder) => task.save(folder),
  };
  const saved = async (minutes?: number) => {
    const names = new Set<string>();
    await temporary(async (folder) => {
      const run = await RunFolder.create(host, join(folder, "run"), {});
      await trainStage({
        ...{ device, run, task: eight, stage: 1 as const, seed: 1, bests: {} },
        config: { ...recipeOf(nano().stage1), epochs: 1 },
        of: { recipe: "", data: "" },
        checkpoints: { keep: 9, every: 0, ...(minutes === undefined ? {} : { minutes }) },
        group: () => "heads",
        signal: new AbortController().signal,
      });
      for (const name of await readdir(join(run.path, "checkpoints"))) names.add(name);
    });
    return names.size;
  };
  assert.equal(await saved(1e-9), 8, "after every update");
  assert.equal(await saved(), 1, "at the end of the epoch");
  assert.equal(await saved(10), 1);
  weights.dispose();
});

test("trainStage() names in the log the parameters that no gradient reached", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  await temporary(async (folder) => {
    const run = await RunFolder.create(host, join(folder, "run"), {});
    const plain: Task<Batch> = {
      parameters: task.parameters,
      plan: () => [[0]],
      load: async ([i]) => tinyBatch(2, 0.6, i),
      amount: () => 1,
      losses: (batch) => task.losses(batch, {}), // no frame is masked
      evaluate: async () => undefined,
      save: (to) => task.save(to),
    };
    await trainStage({
      ...{ device, run, task: plain, stage: 1 as const, seed: 1, bests: {}, of: { recipe: "", data: "" } },
      config: { ...recipeOf(nano().stage1), epochs: 2 },
      checkpoints: { keep: 1, every: 0 },
      group: () => "heads",
      signal: new AbortController().signal,
    });
    await run.flush();
    const notes = (await readFile(join(run.path, "log.txt"), "utf8")).match(/note: .*/g);
    assert.deepEqual(notes, [
      "note: no gradient reached hubert.masked_spec_embed in the first epoch of stage 1; not trained so far",
    ]);
  });
  weights.dispose();
});

test("trainRun() names the first tensor that is not finite", async () => {
  const release = await tinyRelease();
  await temporary(async (out) => {
    await assert.rejects(
      trainOnce(release.root, join(out, "run"), host, [
        "stage1.learningRate.encoder=1e30",
        "stage1.learningRate.heads=1e30",
        "stage1.weightDecay=0",
      ]),
      /^Error: Stopped at step \d+ of stage 1: .+ is not finite$/,
    );
  });
  await release.remove();
});
