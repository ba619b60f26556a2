/** Keys of a recipe: what --set may change, what the system sets itself, and what is stored. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { nearest } from "../src/io/nearest.ts";
import { type PresetName, PRESETS, trainConfig } from "../src/speech/recipes/presets.ts";
import type { Utterance } from "../src/speech/corpora/corpus.ts";
import type { Device } from "../src/gpu/device.ts";
import { openBertTokenizer } from "../src/io/tokenizer.ts";
import { checkStages, effectiveModel } from "../src/speech/training/stage_inputs.ts";
import { noteTruncation } from "../src/speech/training/examples.ts";
import { trainRun } from "../src/speech/training/run.ts";
import type { RunFolder } from "../src/train/run_folder.ts";
import { readSentences } from "../src/speech/training/text_task.ts";
import { applySettings, checkConfig, type StageNumber } from "../src/speech/recipes/config.ts";
import { knownKeys } from "../src/speech/recipes/model_keys.ts";
import { settingNotes } from "../src/speech/recipes/systems.ts";
import { parse } from "../tools/cli.ts";
import { verb } from "../tools/train.ts";
import { tinyRelease } from "./tiny_release.ts";

const host = await currentHost();
const corpus = await tinyRelease({ turns: 1 });
const folder = mkdtempSync(join(tmpdir(), "wavegate-recipe-"));
after(async () => {
  await corpus.remove();
  rmSync(folder, { recursive: true });
});

const recipe = (system = "both-cmgi", stage?: StageNumber, preset: PresetName = "nano") =>
  trainConfig({ preset, system, data: corpus.root, fold: 1, stage });
const set = (system: string, ...settings: string[]) => applySettings(recipe(system), settings);

test("applySettings() refuses what the system sets itself, and says where it is chosen", () => {
  const refused = (system: string, setting: string, rest: string) => {
    const key = setting.slice(0, setting.indexOf("="));
    assert.throws(() => set(system, setting), {
      message: `Cannot use the recipe with --set: the system ${system} sets ${key} itself; ${rest}`,
    });
  };
  refused("both-cmgi", "model.cmgi.gate=pooled", "--system both-cmgi-pooled has that one");
  refused("both-cmgi", "model.cmgi.gate=temporal", 'it is "temporal" already');
  refused("both-cmgi", "model.cmgi.gate=none", "--system both-cmgi-nogate has that one");
  refused("both-cmgi", "model.cmgi.gate=wide", "no system has that one");
  refused("both-cmgi", "model.cmgi.interaction=self", "--system both-self or both-self-gated has that one");
  refused("both-self", "model.cmgi.gate=modal", "--system both-self-gated has that one");
  refused("wav2vec2-both", "model.hubert.model_type=hubert", "no other is its");
  refused("wav2vec2-both", "model.hubert.model_type=wav2vec2", 'it is "wav2vec2" already');
  refused("both-none", "model.asr=false", "--system both-none-noasr has that one");
  refused("acoustic", "model.asr=true", "--system acoustic-asr has that one");
  refused("acoustic", "model.modalities=text", "--system text or text-noasr or text-mlm has that one");
  refused("both-cmgi", "model.labels=[]", "they are the corpora's emotions");
  refused("both-cmgi", "model.cmgi.d_s=9", "it is HuBERT's hidden_size, model.hubert.hidden_size");
  refused("both-cmgi", "model.cmgi.num_classes=5", "it is the number of emotions");
  refused("acoustic-asr", "model.hubert.ctc_loss_reduction=sum", "ctcReduction of stage1 and stage2 has it");
  refused("text", "model.bert.num_labels=5", "no classifier of BERT's own is trained");
  const inside = /the system both-cmgi sets model\.cmgi\.gate itself/;
  assert.throws(() => set("both-cmgi", 'model.cmgi={"d":32,"gate":"pooled"}'), inside);
  assert.throws(() => set("both-cmgi", 'model={"cmgi":{"d":32,"gate":"pooled"}}'), inside);
  for (const [setting, option] of [
    ["preset=paper", "--preset NAME"],
    ["data=elsewhere", "--data DIR"],
    ["from.bert=dir", "--hubert DIR, --bert DIR or --stage-model N=DIR"],
  ])
    assert.throws(() => set("both-cmgi", setting), new RegExp(`is for ${option} to set$`));
});

test("applySettings() refuses a key that nothing reads and names the nearest", () => {
  const refused = (system: string, setting: string, message: string) =>
    assert.throws(() => set(system, setting), { message: `Cannot use the recipe with --set: ${message}` });
  const nothing = (key: string, near: string) => `nothing reads ${key}; did you mean ${near}?`;
  refused(
    "both-cmgi",
    "model.hubert.layer_drop=0",
    nothing("model.hubert.layer_drop", "model.hubert.layerdrop"),
  );
  refused(
    "both-cmgi",
    "model.bert.hidden_dropout_probe=0",
    nothing("model.bert.hidden_dropout_probe", "model.bert.hidden_dropout_prob"),
  );
  refused("both-cmgi", "model.cmgi.head=2", nothing("model.cmgi.head", "model.cmgi.heads"));
  refused("both-cmgi", "model.cmgi.heads.x=2", nothing("model.cmgi.heads.x", "model.cmgi.heads"));
  refused("both-cmgi", "model.huber.layerdrop=0", nothing("model.huber.layerdrop", "model.hubert"));
  refused("both-cmgi", "model.hubert.torch_dtype=f32", "nothing reads model.hubert.torch_dtype");
  refused(
    "both-cmgi",
    "model.hubert.num_feat_extract_layers=2",
    "nothing reads model.hubert.num_feat_extract_layers",
  );
  refused("both-cmgi", "model.hubert.__proto__=1", "nothing reads model.hubert.__proto__");
  refused("acoustic", "model.cmgi.d=8", "the system acoustic has no model.cmgi");
  refused("acoustic", "model.bert.hidden_size=8", "the system acoustic has no model.bert");
  refused("text-mlm", "model.hubert.hidden_size=8", "the system text-mlm has no model.hubert");
  refused("both-cmgi", "stage1.epoch=3", "there is no key stage1.epoch; did you mean stage1.epochs?");
  refused("both-cmgi", "stage3.epochs=3", "there is no stage3 in the config; did you mean stage0?");
  refused(
    "both-cmgi",
    "learningRate.heads=3",
    "there is no learningRate in the config; did you mean stage0.learningRate.heads or stage1.learningRate.heads or stage2.learningRate.heads?",
  );
  refused(
    "both-cmgi",
    "stage1.learningRate.head=3",
    "there is no key stage1.learningRate.head; did you mean stage1.learningRate.heads?",
  );
  refused(
    "both-cmgi",
    "stage1.rate.heads=3",
    "there is no rate in the config; did you mean stage1.learningRate?",
  );
  refused("both-cmgi", "stage1.decay=3", "there is no key stage1.decay; did you mean stage1.weightDecay?");
  refused("both-cmgi", '__proto__={"x":1}', "there is no key __proto__");
  refused(
    "both-cmgi",
    "stage0.alpha=0.5",
    "nothing reads stage0.alpha: stage 0 learns from text, by the masked words alone",
  );
  refused(
    "both-cmgi",
    "stage0.select=ua",
    "nothing reads stage0.select: stage 0 is selected by loss or by last",
  );
  refused(
    "acoustic",
    "stage1.alpha=0.5",
    "nothing reads stage1.alpha: the system acoustic recognises no words",
  );
  refused(
    "acoustic",
    "stage1.select=wer",
    "nothing reads stage1.select: the system acoustic recognises no words",
  );
  assert.throws(
    () => set("both-cmgi", 'model.cmgi={"d":1,"d":2}'),
    /Cannot read --set .*: not JSON, .* stands twice/,
  );
  set("both-cmgi", "model.hubert.mask_time_length=5", "model.cmgi.bounded=false", "stage1.batch.seconds=9");
  assert.equal(nearest("gate", ["rate", "great"]), "rate");
  assert.equal(nearest("gate", []), undefined);
  // Whatever a preset says of a model is read, but for a key of Hugging Face's own.
  for (const { model } of Object.values(PRESETS))
    for (const part of ["hubert", "bert", "cmgi"] as const)
      for (const key of Object.keys(model[part] ?? {}))
        assert.ok(knownKeys(part).has(key) || key === "num_feat_extract_layers", `${part}.${key}`);
});

test("applySettings() refuses what the system's model has no use for", () => {
  const refused = (system: string, setting: string, why: string) => {
    const key = setting.slice(0, setting.indexOf("="));
    assert.throws(() => set(system, setting), {
      message: `Cannot use the recipe with --set: nothing reads ${key}: ${why}`,
    });
  };
  const without = (stage: number, system: string, part: string) =>
    `the model of stage ${stage} of the system ${system} has no ${part}`;
  refused("both-cmgi", 'stage1.freeze=["bert"]', without(1, "both-cmgi", "bert"));
  const wordless = (stage: number, system: string) =>
    `the model of stage ${stage} of the system ${system} reads no words`;
  refused("both-cmgi", "stage1.augment.wordErrors=0.2", wordless(1, "both-cmgi"));
  refused("acoustic-asr", "stage1.augment.wordErrors=0.2", wordless(1, "acoustic-asr"));
  refused("lstm-las", "stage1.augment.wordErrors=0.2", wordless(1, "lstm-las"));
  refused(
    "wav2vec2-both",
    "stage2.augment.wordErrors=0.2",
    "the system wav2vec2-both learns from the words that it recognises",
  );
  for (const [system, setting] of [
    ["both-cmgi", "stage2.augment.wordErrors=0.2"],
    ["text", "stage2.augment.wordErrors=0.2"],
    ["lstm-both", "stage1.augment.wordErrors=0.2"],
  ])
    set(system, setting);
  refused("both-cmgi", 'stage0.freeze=["bert","cnn"]', without(0, "both-cmgi", "cnn"));
  refused("acoustic", 'stage1.freeze=["ctc"]', without(1, "acoustic", "ctc"));
  refused("both-none", "model.cmgi.heads=4", "the system both-none has no attention there");
  refused("both-none", "model.cmgi.d=4", "the system both-none has no attention there");
  refused("both-self", "model.cmgi.bounded=true", "the system both-self has no gate");
  refused("both-cmgi-nogate", "model.cmgi.bounded=true", "the system both-cmgi-nogate has no gate");
  refused("acoustic", "model.hubert.vocab_size=40", "the system acoustic recognises no words");
  refused("text-noasr", 'stage2.freeze=["cnn"]', without(2, "text-noasr", "cnn"));
  refused("text-noasr", "stage2.augment.speed=0.1", "the system text-noasr takes no speech");
  refused("text-noasr", "stage2.batch.seconds=9", "the system text-noasr takes no speech");
  refused("both-none-noasr", "stage2.alpha=0.5", "the system both-none-noasr recognises no words");
  refused("both-cmgi", "stage0.classWeights=balanced", "stage 0 learns from text, by the masked words alone");
  set("both-self-gated", "model.cmgi.bounded=false");
  set("both-cmgi", 'stage2.freeze=["cnn","hubert","bert","ctc"]', 'stage0.freeze=["bert"]');
  set("both-self", "model.cmgi.heads=4", "model.hubert.vocab_size=40");
});

test("applySettings() and checkConfig() refuse numbers that cannot be meant and names of JavaScript's own", () => {
  const refused = (setting: string, message: string) =>
    assert.throws(() => checkConfig(set("both-cmgi", setting), "the recipe with --set"), {
      message: `Cannot use the recipe with --set: ${message}`,
    });
  refused(
    "seed=9007199254740993",
    "seed is 9007199254740992 but should be a whole number from 0 to 2^53 - 1",
  );
  refused(
    "stage1.batch.items=1e300",
    "stage1.batch.items is 1e+300 but should be a whole number from 1 to 2^53 - 1",
  );
  refused("stage1.epochs=1e9", "stage1.epochs is 1000000000 but should be a whole number from 1 to 100000");
  refused("stage1.maxGradNorm=1e400", "stage1.maxGradNorm is Infinity but should be a finite number");
  refused(
    "stage1.learningRate.heads=1e400",
    "stage1.learningRate.heads is Infinity but should be a finite number",
  );
  refused("maxSeconds=1e400", "maxSeconds is Infinity but should be a finite number");
  refused("checkpoints.minutes=1e400", "checkpoints.minutes is Infinity but should be a finite number");
  refused("stage1..epochs=2", "there is no key stage1..epochs");
  refused(".stage1.epochs=2", "there is no key .stage1.epochs");
  refused("model.constructor=1", "nothing reads model.constructor");
  refused("model.__proto__.x=1", "nothing reads model.__proto__.x");
});

test("checkConfig() names the key that is wrong, what it holds and what it should", () => {
  const said = (settings: string[], message: RegExp) =>
    assert.throws(() => checkConfig(applySettings(recipe(), settings), "the recipe"), message);
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
  said(
    ["stages=[2,0]"],
    /stage 2 without stage 1 needs the model of a stage 1, --stage-model 1=DIR or --hubert DIR$/,
  );
  said(["system=acoustic"], /acoustic has no stage 0, its stages are 1$/);
  const applied = (...settings: string[]) => checkConfig(applySettings(recipe(), settings), "the recipe");
  const set = applied("stage1.learningRate.heads=1e-3", 'stage2.freeze=["cnn","bert"]');
  assert.equal(set.stage1.learningRate.heads, 1e-3);
  assert.equal(applied("stage0.schedule.warmup=0.9").stage1.schedule.warmup, 0.1, "stages share a setting");
  assert.deepEqual(set.stage2.freeze, ["cnn", "bert"]);
});

test("checkStages() refuses another padding of BERT's than its tokenizer's", async () => {
  const config = checkConfig(set("text-mlm", "model.bert.pad_token_id=3"), "the test");
  await assert.rejects(checkStages(host, config, undefined), {
    message:
      "Cannot use the recipe (model.bert): pad_token_id is 3 but should be 0, the id of the padding in BERT's tokenizer",
  });
});

test("noteTruncation() and readSentences() say how many texts lose their ends", async () => {
  const tokenizer = await openBertTokenizer(host, corpus.root);
  const notes: string[] = [];
  const tell = (line: string) => notes.push(line);
  const path = `${corpus.root}/text.txt`;
  const words = (await host.readText(path)).trim().split("\n");
  const utterances = words.map((line) => ({ words: line }) as Utterance);
  await noteTruncation(tokenizer, utterances, 3, tell);
  await readSentences(host, path, tokenizer, { lines: 99, tokens: 3 }, tell);
  await noteTruncation(tokenizer, utterances, 64, tell);
  await readSentences(host, path, tokenizer, { lines: 99, tokens: 64 }, tell);
  const cut = `${words.filter((line) => line.trim().split(" ").length > 1).length} of ${words.length}`;
  assert.deepEqual(notes, [
    `${cut} transcripts are longer than BERT's 3 positions: their ends are cut off`,
    `${path}: ${cut} lines are longer than BERT's 3 positions: their ends are cut off`,
  ]);
});

test("trainRun() refuses f16 that the device has not before any stage", async () => {
  const config = checkConfig(set("both-cmgi", "stage2.precision=f16"), "the test");
  const device = { info: { name: "Plain", f16: false } } as Device;
  const [run, signal] = [{ refuseGone: async () => {} } as RunFolder, new AbortController().signal];
  await assert.rejects(trainRun({ device, run, config, resume: false, signal }), {
    message: "Cannot train with f16: Plain has no shader-f16; use stage2.precision f32",
  });
});

test("preset small misspells the words of systems that recognise theirs, and no others", () => {
  const errors = (system: string) =>
    trainConfig({ preset: "small", system, data: "d", fold: "1" }).stage2.augment.wordErrors;
  for (const system of ["both-cmgi", "both-none", "text"]) assert.equal(errors(system), 0.2);
  for (const system of ["both-none-noasr", "text-noasr"]) assert.equal(errors(system), undefined);
});

test("settingNotes() says what changes nothing and what is overruled", () => {
  const notes = (stage: StageNumber | undefined, ...settings: string[]) =>
    settingNotes(recipe("both-cmgi", stage), settings);
  assert.deepEqual(notes(undefined, "stage1.epochs=3", "sentences=9", "model.bert.hidden_size=8"), []);
  assert.deepEqual(notes(1, "stage2.epochs=3", "sentences=9", "wordVectors=1", "model.bert.hidden_size=8"), [
    "--set stage2.epochs=3 changes nothing: only stage 1 is trained",
    "--set sentences=9 changes nothing: only stage 1 is trained",
    "--set wordVectors=1 changes nothing: only stage 1 is trained",
    "--set model.bert.hidden_size=8 changes nothing: only stage 1 is trained",
  ]);
  const given = { ...recipe("text-mlm", undefined), from: { bert: "b" } };
  assert.deepEqual(settingNotes(given, ["sentences=9", "wordVectors=1"]), [
    "--set wordVectors=1 changes nothing: BERT begins with the weights of --bert",
  ]);
  assert.deepEqual(
    notes(
      undefined,
      "seed=1",
      "stage1.learningRate.heads=1",
      'stage1.learningRate={"encoder":0,"heads":0}',
      "seed=2",
    ),
    [
      "--set seed=1 is overruled by --set seed=2, which comes later",
      '--set stage1.learningRate.heads=1 is overruled by --set stage1.learningRate={"encoder":0,"heads":0}, which comes later',
    ],
  );
});

test("effectiveModel() is what the stages run, with what a checkpoint's folder says, and resumes as the same recipe", async () => {
  const own = { ...PRESETS.nano.model.hubert, layerdrop: 0.3, hidden_dropout: 0.2, torch_dtype: "float32" };
  writeFileSync(join(folder, "config.json"), JSON.stringify(own));
  const base = trainConfig({
    preset: "nano",
    system: "both-self",
    data: corpus.root,
    fold: 1,
    hubert: folder,
  });
  const config = checkConfig(applySettings(base, ["model.hubert.layerdrop=0.1"]), "the test");
  const model = await effectiveModel(host, config);
  assert.deepEqual(model.hubert, { ...own, layerdrop: 0.1 });
  assert.equal(model.bert?.vocab_size, 11);
  const { interaction, d_s, d_t, num_classes } = model.cmgi ?? {};
  assert.deepEqual([interaction, d_s, d_t, num_classes], ["self", 32, 32, 4]);
  const stored = checkConfig(JSON.parse(JSON.stringify({ ...config, model })), "config.json");
  assert.deepEqual(await effectiveModel(host, stored), model);
  const heard = await effectiveModel(host, recipe("acoustic"));
  assert.deepEqual(Object.keys(heard), ["hubert"]);
});

test("train refuses a folder for a part that the system lacks, and says which is of no use", async () => {
  const notes: string[] = [];
  const start = (...args: string[]) => {
    const parsed = parse(verb, [...args, "--data", corpus.root, "--out", folder]);
    assert.ok(parsed !== "help");
    const [silent, bar] = [() => {}, () => ({ update: silent, stop: silent })];
    return verb.main({
      ...{ ...parsed, print: silent, printJson: silent, progress: bar, signal: new AbortController().signal },
      note: (line) => notes.push(line),
    });
  };
  const refused = (args: string[], message: string) => assert.rejects(start(...args), { message });
  await refused(
    ["--system", "acoustic", "--bert", "b"],
    "Cannot use --bert: the system acoustic reads no text",
  );
  await refused(
    ["--system", "text-mlm", "--hubert", "b"],
    "Cannot use --hubert: the system text-mlm takes no speech",
  );
  await refused(
    ["--system", "acoustic", "--set", "system=text"],
    "Cannot use --set system: --system NAME chooses it, and the stages with it",
  );
  // The folder is none for a run either: it holds a config.json that is no run's.
  await assert.rejects(
    start("--system", "both-cmgi", "--stage", "1", "--bert", "b", "--set", "stage2.epochs=1"),
    /^Error: Cannot start a run in .*: it is no run and holds config\.json, expected a new or an empty folder$/,
  );
  assert.deepEqual(notes, [
    "--set stage2.epochs=1 changes nothing: only stage 1 is trained",
    "--bert changes nothing: only stage 1 is trained",
  ]);
});
