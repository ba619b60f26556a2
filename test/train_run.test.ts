/** Runs on a small corpus: data that is not as it should be, a full disk, another run's checkpoint, weights that diverge. */
import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { folds } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { applySettings, checkConfig } from "../src/speech/recipes/config.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { identify } from "../src/speech/training/data.ts";
import { readProvenance } from "../src/speech/training/provenance.ts";
import { trainRun } from "../src/speech/training/run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { openLatest } from "../src/train/state.ts";
import { testDevice } from "./device.ts";
import { temporary } from "./temporary.ts";
import { tinyRelease } from "./tiny_release.ts";

const device = await testDevice();
const host = await currentHost();

const nano = () => trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 });

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
    const card = await readFile(join(path, "model/README.md"), "utf8");
    assert.match(card, /\| held out for the test \| Session3 \|/);
    assert.match(card, /^model-index:$/m, "the best of an epoch has figures of the dev set");
    assert.match(await readFile(join(newest, "README.md"), "utf8"), /a checkpoint within the training/);
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
