/** What a tuning is remembered by, and what a run and a model make of it: a run keeps the choices that it began with. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { identify } from "../src/gpu/adapter.ts";
import type { ChosenLaunch } from "../src/gpu/choices.ts";
import { currentHost } from "../src/host/current.ts";
import { bundled } from "../src/host/bundled_model.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { folds } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { applySettings, checkConfig } from "../src/speech/recipes/config.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { trainRun } from "../src/speech/training/run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { LAUNCH_FILE, launchText, useRecorded } from "../src/tune/pinned.ts";
import {
  improved,
  kernelDigest,
  placeOf,
  readTuning,
  type Tuned,
  useTuning,
  writeTuning,
} from "../src/tune/tuning.ts";
import { verb as evaluateVerb } from "../tools/evaluate.ts";
import { verb as predictVerb } from "../tools/predict.ts";
import { verb as trainVerb } from "../tools/train.ts";
import { verb as tuneVerb } from "../tools/tune.ts";
import { testDevice } from "./device.ts";
import { temporary } from "./temporary.ts";
import { tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const device = await testDevice();
const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "wavegate-tuning-"));
const { XDG_CACHE_HOME: before, WAVEGATE_DEBUG: debug } = process.env;
process.env.XDG_CACHE_HOME = folder;
after(() => {
  for (const [name, value] of Object.entries({ XDG_CACHE_HOME: before, WAVEGATE_DEBUG: debug }))
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  rmSync(folder, { recursive: true });
});
const place = placeOf(device);
const adapter = process.env.WAVEGATE_ADAPTER;

/** Sums of rows in so many parts, for every class of rows that a test comes to: other last bits. */
const inParts = (parts: number): Tuned[] =>
  [6, 7, 8, 9, 10, 11].map((power) => ({
    ...{ choice: "reduce.columns" as const, sizes: { rows: 2 ** power }, value: { parts } },
    ...{ kernel: kernelDigest(device, "reduce.columns"), milliseconds: { default: 2, chosen: 1 } },
  }));

const read = async () => {
  const notes: string[] = [];
  return { tuned: await readTuning(host, device, (line) => notes.push(line)), notes };
};

test("a tuning is remembered by adapter, driver and path; one of a class counts, the later", async () => {
  assert.deepEqual(await read(), { tuned: [], notes: [] });
  const [first] = inParts(4);
  const undecided: Tuned = { ...first, sizes: { rows: 4096 }, milliseconds: { default: 2, chosen: 2 } };
  delete (undecided as { value?: unknown }).value;
  const later = { ...first, sizes: { rows: 70 }, value: { parts: 1 } };
  await writeTuning(host, place, [first, undecided, later]);
  assert.deepEqual(await read(), { tuned: [later, undecided], notes: [] });
  assert.deepEqual(improved([first, undecided]), [
    { choice: first.choice, sizes: first.sizes, value: first.value },
  ]);
  for (const other of [{ driver: "another" }, { path: "another" }, { adapter: "another" }])
    await writeTuning(host, { ...place, ...other }, inParts(1));
  assert.equal(readdirSync(join(folder, "wavegate", "tuning")).length, 4);
  assert.deepEqual((await read()).tuned, [later, undecided]);
});

test("a kernel that has changed, and a value that there no longer is, are left out", async () => {
  const [a, b, c, d] = inParts(4);
  const all = [a, { ...b, kernel: "0123456789abcdef" }, { ...c, value: { parts: 3 } }, d];
  const path = await writeTuning(host, place, all);
  const { choices, ...rest } = JSON.parse(readFileSync(path, "utf8"));
  choices[3].choice = "softmax.once";
  writeFileSync(path, JSON.stringify({ ...rest, choices }));
  assert.deepEqual(await read(), { tuned: [a], notes: [] });
});

test("a file that is damaged, or of another driver, is named in one line and ignored", async () => {
  const path = await writeTuning(host, place, inParts(4));
  const whole = readFileSync(path, "utf8");
  const again = "; `wavegate tune` measures anew";
  for (const [content, said] of [
    [whole.slice(0, 60), `Cannot read ${path}: not JSON, `],
    ["[]", `Cannot use ${path}: `],
    [
      whole.replace('"parts": 4', '"parts": "many"'),
      `Cannot use ${path}: choices.0.value.parts is "many" but should be a number or a truth value`,
    ],
    [
      whole.replace(JSON.stringify(identify(device).driver), '"older"'),
      `Cannot use ${path}: driver is "older" but should be ${JSON.stringify(place.driver)}`,
    ],
  ]) {
    writeFileSync(path, content);
    const { tuned, notes } = await read();
    assert.deepEqual(tuned, []);
    assert.equal(notes.length, 1);
    assert.ok(notes[0].startsWith(said) && notes[0].endsWith(again) && !notes[0].includes("\n"), notes[0]);
    assert.equal(await useTuning(device, () => {}), 0);
  }
});

test("useTuning() and useRecorded() replace all choices of a device", async () => {
  await writeTuning(host, place, inParts(4));
  assert.equal(await useTuning(device, assert.fail), 6);
  const text = launchText(device);
  await temporary(async (out) => {
    // Nothing is recorded: all by default.
    await useRecorded(host, device, out, assert.fail);
    assert.deepEqual(device.choices.list, []);
    const path = join(out, LAUNCH_FILE);
    const recorded = JSON.parse(text);
    assert.deepEqual(Object.keys(recorded), ["adapter", "driver", "path", "choices"]);
    writeFileSync(path, text);
    await useRecorded(host, device, out, assert.fail);
    assert.deepEqual(device.choices.list, recorded.choices);
    assert.deepEqual(launchText(device), text);

    // Another driver of the same adapter: the choices stay. Another adapter: it says so.
    writeFileSync(path, JSON.stringify({ ...recorded, driver: "another" }));
    await useRecorded(host, device, out, assert.fail);
    assert.equal(device.choices.list.length, 6);
    const notes: string[] = [];
    writeFileSync(path, JSON.stringify({ ...recorded, adapter: "another" }));
    await useRecorded(host, device, out, (line) => notes.push(line));
    assert.deepEqual(device.choices.list, []);
    assert.equal(notes.length, 1);
    assert.ok(
      notes[0].startsWith(`${path} is of another (path ${place.path}): on ${place.adapter}`),
      notes[0],
    );

    const refused = async (choices: unknown, message: string) => {
      writeFileSync(path, JSON.stringify({ ...recorded, choices }));
      await assert.rejects(useRecorded(host, device, out), ({ message: said }: Error) => {
        assert.ok(said.startsWith(`Cannot use ${path}: ${message}`), said);
        return true;
      });
      assert.deepEqual(device.choices.list, []);
    };
    const [chosen] = recorded.choices as ChosenLaunch[];
    await refused(
      [{ ...chosen, value: { parts: 3 } }],
      'choices.0.value is {"parts":3} but should be what this version can take for reduce.columns',
    );
    await refused(
      [chosen, { ...chosen, choice: "rope" }],
      'choices.1.choice is "rope" but should be what this version',
    );
    await refused({}, "choices is ");
  });
});

test("a run keeps the choices that it began with, whatever was tuned since; a model's folder has them", async () => {
  const release = await tinyRelease({ turns: 4 });
  const config = checkConfig(
    applySettings(trainConfig({ preset: "nano", system: "acoustic-asr", data: release.root, fold: 3 }), [
      ...["stage1.epochs=1", "stage1.batch.items=4", "checkpoints.every=1"],
    ]),
    "the test",
  );
  const examined = await examine(host, await readIemocap(host, release.root), { maxTrainingSeconds: 20 });
  const [, , fold] = folds(examined.utterances, { dev: config.dev, seed: config.seed });
  await temporary(async (out) => {
    /** Trains until a step, or to the end, on a device as `wavegate train` leaves it. */
    const train = async (
      name: string,
      tuned: readonly Tuned[],
      { resume = false, until = Infinity } = {},
    ) => {
      await writeTuning(host, place, tuned);
      if (!resume) await useTuning(device, assert.fail);
      else device.choices.use(improved(tuned));
      const path = join(out, name);
      const run = resume ? await RunFolder.open(host, path) : await RunFolder.create(host, path, config);
      const stop = new AbortController();
      const finished = await trainRun({
        ...{ device, run, config, resume, data: { examined, fold }, signal: stop.signal },
        onStep: ({ step }) => {
          if (step >= until) stop.abort();
        },
        onNote: (line) => assert.doesNotMatch(line, /launch/),
      });
      assert.equal(finished, until === Infinity);
      return finished ? readFileSync(join(path, "model/model.safetensors")) : undefined;
    };
    const whole = await train("whole", inParts(4));
    assert.deepEqual(JSON.parse(readFileSync(join(out, "whole", LAUNCH_FILE), "utf8")).choices.length, 6);
    await train("stopped", inParts(4), { until: 2 });
    assert.deepEqual(await train("stopped", inParts(1), { resume: true }), whole);
    const recorded = readFileSync(join(out, "whole", LAUNCH_FILE), "utf8");
    assert.equal(readFileSync(join(out, "stopped/model", LAUNCH_FILE), "utf8"), recorded);

    // By default the bits are others; so they stay of a run that began before there was a tuning.
    const plain = await train("plain", []);
    assert.notDeepEqual(plain, whole);
    assert.deepEqual(JSON.parse(readFileSync(join(out, "plain", LAUNCH_FILE), "utf8")).choices, []);
    assert.ok(!readdirSync(join(out, "plain/model")).includes(LAUNCH_FILE));
    await train("older", [], { until: 2 });
    rmSync(join(out, "older", LAUNCH_FILE));
    assert.deepEqual(await train("older", inParts(4), { resume: true }), plain);

    const path = join(out, "stopped");
    const { error } = await runHere(trainVerb, "--resume", "--out", path, "--no-tune");
    assert.equal(error?.message, "Cannot change a run with --no-tune: it goes on as it began");
    // A model is scored by its own record.
    writeFileSync(join(path, "model", LAUNCH_FILE), recorded.replaceAll('"parts": 4', '"parts": 3'));
    const args = [...(adapter ? ["--adapter", adapter] : []), "--model", join(path, "model")];
    const scored = await runHere(evaluateVerb, ...args, "--data", release.root);
    assert.match(
      scored.error?.message ?? "",
      /^Cannot use .*launch\.json: choices\.0\.value is \{"parts":3\}/,
    );
  });
  device.choices.use([]);
  await release.remove();
});

test("wavegate tune remembers what it measured, and does not measure it again unless told to", async () => {
  await writeTuning(host, place, []);
  const args = [
    ...(adapter ? ["--adapter", adapter] : []),
    "weights/demo",
    "--seconds",
    "0.3",
    "--tokens",
    "4",
  ];
  const first = await runHere(tuneVerb, ...args);
  assert.equal(first.error, undefined);
  assert.equal(first.status, 0);
  const { json } = first;
  assert.ok(json.classes > 5 && json.tuned.length === json.classes);
  assert.deepEqual([json.adapter, json.driver, json.path], [place.adapter, place.driver, place.path]);
  const file = JSON.parse(readFileSync(json.file, "utf8"));
  assert.deepEqual(file.choices, json.tuned);
  assert.match(
    first.printed.join("\n"),
    /of \d+ classes of shapes measured are faster otherwise than by default/,
  );

  const second = await runHere(tuneVerb, ...args);
  assert.deepEqual(second.json.tuned, []);
  assert.match(
    second.printed.join("\n"),
    new RegExp(`${json.classes} of ${json.classes} classes of shapes were tuned before; --retune`),
  );
  assert.deepEqual(JSON.parse(readFileSync(json.file, "utf8")), file);

  const third = await runHere(tuneVerb, ...args, "--retune", "--budget", "0.001");
  assert.deepEqual(third.json.tuned, []);
  assert.match(
    third.notes.join("\n"),
    /^tune: no time for \d+ of \d+ classes of shapes: --budget allows 0\.001 s$/,
  );
  const { error } = await runHere(tuneVerb, ...args, "--budget", "0");
  assert.match(error?.message ?? "", /^Cannot read --budget 0: it is a number of seconds above 0$/);
});

test("predict launches by what was tuned, and with --no-tune by default", async () => {
  const model = bundled("demo");
  assert.ok(model);
  await writeTuning(host, place, inParts(4));
  process.env.WAVEGATE_DEBUG = "1";
  const said: string[] = [];
  const { write } = process.stderr;
  process.stderr.write = ((text: string) => said.push(text) > 0) as typeof write;
  const predict = async (...more: string[]) => {
    said.length = 0;
    const args = [...(adapter ? ["--adapter", adapter] : []), "--model", model, `${model}/clips`, ...more];
    const { status, error } = await runHere(predictVerb, ...args);
    assert.equal(status, 0, error?.message);
    return said.filter((line) => line.includes("launch choices"));
  };
  try {
    assert.deepEqual(await predict(), [`wavegate: 6 launch choices are tuned for ${device.info.name}\n`]);
    assert.deepEqual(await predict("--no-tune"), []);
  } finally {
    process.stderr.write = write;
    delete process.env.WAVEGATE_DEBUG;
  }
});
