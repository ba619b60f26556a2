/** What a model was trained on: written beside its weights, and held against what it is evaluated on. */
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { examine } from "../src/speech/corpora/examine.ts";
import { holdOut } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { addRecord, recordOf, runProvenance } from "../src/speech/training/run_provenance.ts";
import {
  clipDigests,
  type TrainingCorpus,
  overlapOf,
  type Provenance,
  provenance,
  provenanceText,
  readProvenance,
} from "../src/speech/training/provenance.ts";
import { refuseTrainedOn, trainingLines } from "../src/speech/training/overlap.ts";
import type { TrainConfig } from "../src/speech/recipes/config.ts";
import type { Latest } from "../src/train/state.ts";
import { verb as evaluateVerb } from "../tools/evaluate.ts";
import { verb as trainVerb } from "../tools/train.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const scratch = await mkdtemp(join(tmpdir(), "wavegate-provenance-"));
const NO_GPU = ["--adapter", "no such adapter"];
const recipe = ["--system", "acoustic", "--preset", "nano"];
/** The model of the demo, as if it had been trained on `corpus` with Session2 held out. */
const model = join(scratch, "run/model");

let corpus: TinyRelease;
/** The same ids with other samples. */
let other: TinyRelease;
before(async () => {
  const small = { turns: 2, seconds: [0.5, 0.6] } as const;
  corpus = await tinyRelease(small);
  other = await tinyRelease({ ...small, seed: 12 });
  await cp(fileURLToPath(new URL("../weights/demo", import.meta.url)), model, { recursive: true });
  const config = trainConfig({ preset: "nano", system: "acoustic", data: corpus.root, fold: "Session2" });
  const record = recordOf((await provenanceOf(config, "Session2"))!, 1);
  await writeFile(join(model, "training.json"), provenanceText(record));
});
after(async () => {
  await rm(scratch, { recursive: true });
  await corpus.remove();
  await other.remove();
});

const evaluate = (path: string, data: string, ...args: string[]) =>
  runHere(evaluateVerb, "--model", path, "--data", data, ...args);

/** What the models of a run are trained on, with a session held out. */
async function provenanceOf(config: TrainConfig, session: string, latest?: Latest) {
  const examined = await examine(host, await readIemocap(host, config.data));
  const fold = holdOut(examined.utterances, session, { dev: config.dev, seed: config.seed });
  return runProvenance(host, config, { examined, fold }, { latest, signal: new AbortController().signal });
}

test("runProvenance() lists what a run trains on, what chooses the epoch and whom it holds out, and again where it goes on", async () => {
  const ids = (session: number) =>
    ["01", "02"].flatMap((take) => ["F000", "M001"].map((turn) => `Ses0${session}F_impro${take}_${turn}`));
  const record = (await readProvenance(host, model))!;
  const [own] = record.corpora;
  assert.deepEqual([own.heldOut, own.system, own.preset, own.dev], ["Session2", "acoustic", "nano", 0.1]);
  assert.deepEqual(Object.keys({ ...own.trainedOn, ...own.selectedBy }).sort(), [...ids(1), ...ids(3)]);
  assert.equal(Object.keys(own.selectedBy).length, 2, "one dialogue of two turns");
  for (const digest of Object.values(own.trainedOn)) assert.match(digest, /^[\w+/]{8}$/);
  assert.deepEqual([record.text, record.unknown], [[], []]);
  const config = trainConfig({ preset: "nano", system: "acoustic", data: corpus.root, fold: 2 });
  // A checkpoint holds them; one of version 0.1 does not, and then they are read again.
  for (const folder of [model, join(scratch, "run")]) {
    const latest = { folder, state: { stage: 1 } } as Latest;
    assert.deepEqual((await provenanceOf(config, "Session2", latest))?.corpus, own);
  }
  const bare = join(scratch, "bare");
  await host.makeDirectory(bare);
  await addRecord(host, bare, record);
  assert.deepEqual(await readProvenance(host, bare), record, "a model that was saved without one gets one");
});

test("runProvenance() refuses to go on with recordings whose samples are others", async () => {
  const changed = join(scratch, "changed");
  await cp(corpus.root, changed, { recursive: true });
  const config = trainConfig({ preset: "nano", system: "acoustic", data: changed, fold: 2 });
  const resume = () => provenanceOf(config, "Session2", { folder: model, state: { stage: 1 } } as Latest);
  const [own] = (await readProvenance(host, model))!.corpora;
  const [id] = Object.keys(own.trainedOn);
  const wav = (await readIemocap(host, changed)).utterances.find((u) => u.id === id)!.wav;
  const bytes = await readFile(wav);
  bytes[bytes.length - 1] ^= 1;
  await writeFile(wav, bytes);
  await assert.rejects(resume(), {
    message: `Cannot resume with ${changed}: 1 of 8 recordings have other samples than when the run began (${id})`,
  });
  bytes[bytes.length - 1] ^= 1;
  await writeFile(wav, bytes);
  await resume();
});

test("evaluate takes the session that training held out, and refuses what was trained on unless told", async () => {
  const held = await evaluate(model, corpus.root, "--json");
  assert.equal(held.error, undefined);
  assert.equal(held.json.fold, "Session2");
  const none = { trainedOn: 0, selectedBy: 0, sameSamples: 0, otherSamples: 0 };
  assert.deepEqual(held.json.training, { known: true, heldOut: "Session2", unknown: [], ...none });
  assert.ok(held.printed.includes("none of it was trained on"));

  const { selectedBy } = (await readProvenance(host, model))!.corpora[0];
  const session = Object.keys(selectedBy)[0].startsWith("Ses01") ? "1" : "3";
  const refused = await evaluate(model, corpus.root, "--fold", session, ...NO_GPU);
  assert.match(
    String(refused.error),
    /^Error: Cannot evaluate .* on Session\d: of 4 utterances 2 were trained on and 2 chose the epoch; its training held out Session2; --anyway /,
  );
  const anyway = await evaluate(model, corpus.root, "--fold", session, "--anyway");
  assert.ok(anyway.printed.includes("no test: of 4 utterances 2 were trained on and 2 chose the epoch"));
  assert.deepEqual(anyway.json.training, {
    ...{ known: true, heldOut: "Session2", unknown: [], ...none },
    ...{ trainedOn: 2, selectedBy: 2 },
  });
});

test("evaluate knows a corpus by its clips: wherever it lies, and not by equal ids of another", async () => {
  const moved = join(scratch, "moved");
  await cp(corpus.root, moved, { recursive: true });
  // Renamed ids are the same recordings all the same.
  const wavs = join(moved, "Session1/sentences/wav/Ses01F_impro01");
  for (const part of ["sentences/wav", "dialog/EmoEvaluation", "dialog/transcriptions"]) {
    const suffix = part.startsWith("dialog") ? ".txt" : "";
    const folder = join(moved, "Session1", part);
    if (suffix) {
      const text = await readFile(join(folder, `Ses01F_impro01${suffix}`), "utf8");
      await writeFile(
        join(folder, `Ses01F_impro01${suffix}`),
        text.replaceAll("Ses01F_impro01", "Ses01F_impro77"),
      );
    } else {
      for (const name of await readdir(wavs))
        await rename(join(wavs, name), join(wavs, name.replace("01_", "77_")));
    }
    await rename(join(folder, `Ses01F_impro01${suffix}`), join(folder, `Ses01F_impro77${suffix}`));
  }
  const refused = await evaluate(model, moved, "--fold", "1", ...NO_GPU);
  assert.match(
    String(refused.error),
    /on Session1: of 4 utterances .*2 are copies of such clips; its training/,
  );

  const strange = await evaluate(model, other.root, "--fold", "1");
  assert.equal(strange.error, undefined);
  const { trainedOn, selectedBy, otherSamples } = strange.json.training;
  assert.deepEqual([trainedOn, selectedBy, otherSamples], [0, 0, 4]);
  assert.ok(
    strange.printed.some((line) => /^4 have ids that were trained on and other samples: /.test(line)),
  );
  const lacking = await tinyRelease({ turns: 2, sessions: [1, 3], seed: 13 });
  const { error } = await evaluate(model, lacking.root, ...NO_GPU);
  await lacking.remove();
  assert.match(
    String(error),
    /without --fold NAME: its training held out Session2, which .* lacks; sessions are Session1, Session3$/,
  );
});

/** Rewrites every recording of a copy of the corpus: `change` makes frames of float32 and their rate. */
async function converted(
  name: string,
  change: (samples: Float32Array) => { frames: number[][]; rate: number },
): Promise<string> {
  const root = join(scratch, name);
  await cp(corpus.root, root, { recursive: true });
  for (const path of (await readdir(root, { recursive: true })).filter((each) => each.endsWith(".wav"))) {
    const { frames, rate } = change((await readWav(host, join(root, path))).samples);
    const [channels, samples] = [frames[0].length, frames.flat()];
    const bytes = Buffer.alloc(44 + 4 * samples.length);
    bytes.write("RIFF    WAVEfmt ", "latin1");
    for (const [at, value] of [
      [4, bytes.length - 8],
      [16, 16],
      [24, rate],
      [28, 4 * channels * rate],
      [40, 4 * samples.length],
    ])
      bytes.writeUInt32LE(value, at);
    for (const [at, value] of [
      [20, 3],
      [22, channels],
      [32, 4 * channels],
      [34, 32],
    ])
      bytes.writeUInt16LE(value, at);
    bytes.write("data", 36, "latin1");
    for (const [i, value] of samples.entries()) bytes.writeFloatLE(value, 44 + 4 * i);
    await writeFile(join(root, path), bytes);
  }
  return root;
}

test("evaluate knows recordings in another format, and a corpus whose recordings were resampled", async () => {
  const stereo = await converted("stereo", (samples) => ({
    frames: Array.from(samples, (value) => [value, value]),
    rate: 16000,
  }));
  const double = await converted("double", (samples) => ({
    frames: Array.from(samples, (value) => [[0.9 * value], [0.9 * value]]).flat(),
    rate: 32000,
  }));
  for (const root of [stereo, double])
    assert.match(
      String((await evaluate(model, root, "--fold", "1", ...NO_GPU)).error),
      /on Session1: of 4 utterances (2 were trained on and 2 chose the epoch|4 were trained on); its training/,
    );
  const digests = async (root: string) => {
    const { utterances } = await readIemocap(host, root);
    return await clipDigests(host, utterances);
  };
  const own = await digests(corpus.root);
  assert.deepEqual(await digests(stereo), own, "the same samples, whatever holds them");
  assert.notDeepEqual(await digests(double), own);
});

test("evaluate wants a fold and says that it is unknown what a model without a record was trained on", async () => {
  const old = join(scratch, "old");
  await cp(model, old, { recursive: true });
  await rm(join(old, "training.json"));
  const { error } = await evaluate(old, corpus.root, ...NO_GPU);
  assert.match(
    String(error),
    /without --fold NAME: .* has no training\.json .*; sessions are Session1, Session2, Session3$/,
  );
  const given = await evaluate(old, corpus.root, "--fold", "1");
  assert.deepEqual(given.json.training, { known: false });
  assert.ok(given.printed.includes("what it was trained on is unknown: it has no training.json"));
  await writeFile(join(old, "training.json"), '{"format": 1}');
  assert.match(
    String((await evaluate(old, corpus.root, ...NO_GPU)).error),
    /training\.json: it lacks the key corpora, a list$/,
  );
});

test("a model that starts from another counts as trained on the same, and train says so", async () => {
  const config = {
    ...trainConfig({
      preset: "nano",
      system: "both-cmgi",
      data: other.root,
      fold: "Session3",
      hubert: model,
    }),
    from: { hubert: model, bert: join(scratch, "fold5/model/") },
  };
  const run = (await provenanceOf(config, "Session3"))!;
  const both = recordOf(run, 2);
  assert.deepEqual(both.unknown, ["fold5/model"]);
  assert.deepEqual(recordOf(run, 1).unknown, [], "stage 1 has nothing of BERT");
  assert.deepEqual(recordOf(run, 0).corpora, [], "stage 0 trains on no speech");
  assert.deepEqual(
    both.corpora.map(({ heldOut, identity }) => [heldOut, identity]),
    [
      ["Session3", run.corpus!.identity],
      ["Session2", (await readProvenance(host, model))!.corpora[0].identity],
    ],
  );
  const first = (await readIemocap(host, corpus.root)).utterances;
  const digests = await clipDigests(host, first);
  const counts = overlapOf(both, digests);
  assert.deepEqual([counts.trainedOn + counts.selectedBy, counts.otherSamples], [8, 4]);

  const args = [
    ...recipe,
    "--data",
    corpus.root,
    "--fold",
    "1",
    "--hubert",
    model,
    "--out",
    join(scratch, "next"),
  ];
  const { notes } = await runHere(trainVerb, ...args, ...NO_GPU);
  assert.ok(
    notes.some((line) =>
      /model knows Session1: of 4 utterances .*; figures on it will be no test$/.test(line),
    ),
    notes.join("\n"),
  );
});

test("provenance() lists no clip of a part twice, and overlapOf() knows an unread clip by its id", () => {
  const one: TrainingCorpus = {
    ...{
      name: "a",
      identity: "1",
      system: "acoustic",
      preset: "nano",
      heldOut: "Session1",
      dev: 0.1,
      seed: 1,
    },
    trainedOn: { x: "AAAA", y: "", twin: "AAAA" },
    selectedBy: { z: "BBBB" },
  };
  const before: Provenance = { format: 1, corpora: [one], text: ["t"], unknown: ["u"] };
  const same = provenance({ corpus: one, text: "t" }, [["m", before]]);
  assert.deepEqual(same, before);
  const swapped = {
    ...one,
    heldOut: "Session2",
    trainedOn: { z: "BBBB" },
    selectedBy: { x: "AAAA", z: "BBBB" },
  };
  const union = provenance({ corpus: swapped }, [
    ["m", before],
    ["n", undefined],
  ]);
  assert.deepEqual(union.corpora[1], { ...one, selectedBy: {} });
  assert.deepEqual(union.unknown, ["n", "u"]);
  assert.deepEqual(
    overlapOf(before, { x: "AAAA", y: "CCCC", z: "BBBB", copy: "AAAA", twin: "DDDD", new: "EEEE", bad: "" }),
    {
      ...{ trainedOn: 2, selectedBy: 1, sameSamples: 1, otherSamples: 1 },
    },
  );
});

test("refuseTrainedOn() lets a corpus hold a recording twice on both sides of the training's own split", () => {
  const known = {
    known: true,
    heldOut: "Session2",
    unknown: [],
    trainedOn: 0,
    selectedBy: 0,
    otherSamples: 0,
  } as const;
  const fold = (name: string) => ({ name, train: [], dev: [], test: [] });
  const twice = { ...known, sameSamples: 1 };
  refuseTrainedOn("m", fold("Session2"), twice);
  assert.throws(() => refuseTrainedOn("m", fold("Session1"), twice), /1 are copies of such/);
  assert.throws(
    () => refuseTrainedOn("m", fold("Session2"), { ...twice, trainedOn: 1 }),
    /1 were trained on/,
  );
  assert.deepEqual(trainingLines(twice, 5), ["of 5 utterances 1 are copies of such clips"]);
  assert.deepEqual(trainingLines(twice, 1), ["no test: of 1 utterances 1 are copies of such clips"]);
  assert.deepEqual(trainingLines({ ...twice, sameSamples: 0, otherSamples: 2 }, 5).length, 2);
  assert.deepEqual(trainingLines({ ...twice, sameSamples: 0 }, 5), ["none of it was trained on"]);
});

test("a record of IEMOCAP's size stays below 200 KB", () => {
  const ids = Array.from({ length: 4425 }, (_, i) => [
    `Ses01M_script01_1b_F${i % 1000}${i}`.slice(0, 23),
    "T53sn7Is",
  ]);
  const clips = Object.fromEntries(ids.map(([id, digest], i) => [`${id}${i}`.slice(-23), digest]));
  assert.equal(Object.keys(clips).length, 4425);
  const corpus = {
    name: "IEMOCAP_full_release",
    identity: "0".repeat(16),
    system: "both-cmgi",
    preset: "paper",
  };
  const own = { ...corpus, heldOut: "Session5", dev: 0.1, seed: 1, trainedOn: clips, selectedBy: {} };
  assert.ok(provenanceText(provenance({ corpus: own })).length < 200_000);
});

test("the bundled model says what it was trained on, and none of its clips is among that", async () => {
  const folder = fileURLToPath(new URL("../weights/default", import.meta.url));
  const record = (await readProvenance(host, folder))!;
  const [{ heldOut, trainedOn, selectedBy }] = record.corpora;
  assert.equal(heldOut, "test");
  assert.deepEqual([Object.keys(trainedOn).length, Object.keys(selectedBy).length], [5362, 224]);
  const names = (await readdir(join(folder, "clips"))).filter((name) => name.endsWith(".wav"));
  const digests = await clipDigests(
    host,
    names.map((name) => ({ id: name.slice(0, -4), wav: join(folder, "clips", name) })),
  );
  assert.deepEqual(overlapOf(record, digests), {
    trainedOn: 0,
    selectedBy: 0,
    sameSamples: 0,
    otherSamples: 0,
  });
});
