/** Every row of the paper's tables: its system trains, goes on after an interruption with the same bits, and is evaluated. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { ArgumentError } from "../src/io/argument_error.ts";
import { readWav } from "../src/io/audio.ts";
import { evaluateModel, openEmotionModel, wordsRead } from "../src/speech/evaluate/evaluate.ts";
import { openTest } from "../src/speech/evaluate/open_test.ts";
import { type SystemName, SYSTEMS, systemOf } from "../src/speech/recipes/systems.ts";
import { PAPER_ROWS, rowsOf } from "../src/speech/recipes/tables.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { newRun, prepareRun, resumedRun } from "../src/speech/training/prepare_run.ts";
import { readProvenance } from "../src/speech/training/provenance.ts";
import { trainRun } from "../src/speech/training/run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { verb as evaluateVerb } from "../tools/evaluate.ts";
import { verb as predictVerb } from "../tools/predict.ts";
import { testDevice } from "./device.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const device = await testDevice();
const host = await currentHost();

let corpus: TinyRelease;
let scratch: string;
/** Models that the others begin with: BERT of stage 0, HuBERT of stage 1. */
const begin = () => ({ bert: join(scratch, "text-mlm/model"), hubert: join(scratch, "acoustic-asr/model") });

before(async () => {
  corpus = await tinyRelease({ turns: 3, seconds: [0.4, 0.5] });
  scratch = await mkdtemp(join(tmpdir(), "wavegate-rows-"));
  await train("text-mlm", join(scratch, "text-mlm"), { set: ["sentences=24", "stage0.batch.items=24"] });
});
after(async () => {
  await corpus.remove();
  await rm(scratch, { recursive: true });
});

interface Choice {
  /** Interrupts the run after so many updates, and goes on with it. */
  readonly updates?: number;
  readonly set?: readonly string[];
  readonly fold?: string;
}

/** Trains the last stage of a system. */
async function train(system: string, path: string, { updates, set = [], fold = "3" }: Choice) {
  const stage = SYSTEMS[system as SystemName].stages.at(-1)!;
  const { hubert, bert } = begin();
  const lines: string[] = [];
  const onNote = (line: string) => void lines.push(line);
  const choice = {
    ...{ preset: "nano" as const, system, stage, data: corpus.root, fold },
    ...(stage === 2 && systemOf(system).stages.includes(1) ? { hubert } : {}),
    ...(stage === 2 ? { bert } : {}),
    set: [`stage${stage}.epochs=1`, ...(stage > 0 ? [`stage${stage}.batch.items=4`] : []), ...set],
  };
  const { config, data } = await prepareRun(host, path, newRun(choice, onNote), { onNote });
  const interrupt = new AbortController();
  const run = await RunFolder.create(host, path, config);
  const finished = await trainRun({
    ...{ device, run, config, data, resume: false, signal: interrupt.signal, onNote },
    onStep: ({ step }) => {
      if (step === updates) interrupt.abort();
    },
  });
  assert.equal(finished, updates === undefined, "it was interrupted where it should be");
  if (finished) return lines;
  const again = await prepareRun(host, path, await resumedRun(host, path), { onNote });
  const { signal } = new AbortController();
  const on = await RunFolder.open(host, path);
  assert.ok(await trainRun({ ...{ device, run: on, ...again, resume: true, signal, onNote } }));
  return lines;
}

const weightsOf = (run: string) => readFile(join(run, "model/model.safetensors"));
const FAMILY: Readonly<Record<string, string | undefined>> = {
  ...{ "text-noasr": undefined, "wav2vec2-both": "wav2vec2" },
  ...{ "lstm-las": undefined, "lstm-las-hidden": undefined, "lstm-both": undefined },
};

/** wgpu compiles every kernel anew in each process: there those have to do whose training is of a kind of its own. */
const OF_A_KIND = [
  "acoustic-asr",
  "wav2vec2-both",
  "both-none",
  "text-noasr",
  "both-none-noasr",
  "both-cross-gated",
];
// Those that others begin with first.
const ALL = [...new Set(["acoustic-asr", ...PAPER_ROWS.flatMap(({ system }) => system ?? [])])];
const RUNS = "Deno" in globalThis ? OF_A_KIND : ALL;
for (const system of RUNS) {
  test(`${system} trains, resumes with the same bits and is evaluated on the words of its rows`, async () => {
    const whole = join(scratch, system);
    await train(system, whole, {});
    await train(system, `${whole}-broken`, { updates: 1 });
    const bytes = await weightsOf(whole);
    assert.ok(bytes.equals(await weightsOf(`${whole}-broken`)), "the weights differ");
    // What follows the header is f32.
    const millions = (bytes.length - 8 - bytes.readUInt32LE()) / 4e6;
    assert.ok(millions >= 0.01, `${millions} M parameters`);
    const card = await readFile(join(whole, "model/README.md"), "utf8");
    assert.ok(card.includes(`${millions.toFixed(2)} M parameters`));
    for (const { words } of rowsOf([system])) {
      const model = await openEmotionModel(host, `${whole}/model`);
      assert.equal(model.emotion.hubert?.prefix, system in FAMILY ? FAMILY[system] : "hubert");
      const { fold, training } = await openTest(host, model, { data: corpus.root, onNote: () => {} });
      assert.equal(fold.name, "Session3");
      assert.ok(training.known && training.trainedOn + training.selectedBy === 0);
      const answers = await evaluateModel(host, device, model, fold.test, { words });
      assert.equal(answers.length, 6);
      for (const { probabilities } of answers)
        assert.ok(Math.abs(probabilities.reduce((a, b) => a + b, 0) - 1) < 1e-5);
      assert.equal(answers[0].hypothesis !== undefined, model.emotion.asr);
    }
  });
}

test("rowsOf() names the rows of a table, of a system, and of one that is in neither table", () => {
  assert.deepEqual(
    rowsOf(["table1", "both-none", "table2"]).map(({ table, row }) => `${table}.${row}`),
    [
      ...Array.from({ length: 10 }, (_, i) => `1.${i + 1}`),
      ...Array.from({ length: 6 }, (_, i) => `2.${i + 1}`),
    ],
  );
  assert.deepEqual(
    rowsOf(["both-none"]).map(({ row, words, published }) => [row, words, published.ua]),
    [
      [7, "recognised", 77.25],
      [10, "true", 77.64],
    ],
  );
  const others = rowsOf(["text", "both-cmgi-nogate", "text"]);
  assert.deepEqual(
    others.map(({ table, system, words, published }) => [table, system, words, published]),
    [
      [0, "text", "recognised", {}],
      [0, "both-cmgi-nogate", "recognised", {}],
    ],
  );
  assert.throws(() => rowsOf(["table3"]), /figures are known of table1 and table2$/);
  assert.throws(() => rowsOf(["both-cgmi"]), /expected table1, table2 or a system, acoustic, /);
  // What a row reads in the test, its system can read.
  for (const { system, words } of PAPER_ROWS)
    if (system) assert.ok(words === undefined || words === "true" || systemOf(system).asr, system);
});

test("a system reads the true words where it is told to, and its word error rate is of those that it recognises", async () => {
  const path = `${join(scratch, "both-none")}/model`;
  const out = join(scratch, "answers.csv");
  const say = (...more: string[]) =>
    runHere(evaluateVerb, "--model", path, "--data", corpus.root, "--out", out, ...more);
  const [own, told, given] = [await say(), await say("--words", "recognised"), await say("--words", "true")];
  assert.deepEqual([own.error, told.error, given.error], [undefined, undefined, undefined]);
  assert.deepEqual([own.json.words, told.json.words, given.json.words], ["recognised", "recognised", "true"]);
  assert.deepEqual(own.json.report, told.json.report);
  assert.deepEqual(own.json.report.wer, given.json.report.wer);
  assert.ok(given.printed.includes("it reads the true words"));
  const { emotion, ...folder } = await openEmotionModel(host, path);
  await folder.weights.close();
  const { test: utterances } = (
    await openTest(host, { path, speech: folder.speech }, { data: corpus.root, onNote() {} })
  ).fold;
  const texts = utterances.map((u) => u.words);
  const recognizer = await openRecognizer(host, device, path);
  const audios = await Promise.all(utterances.map(async (u) => (await readWav(host, u.wav)).samples));
  const read = (words?: string[]) => recognizer.recognize(audios, { words, skipSilence: false });
  const [plain, truth, again] = [await read(), await read(texts), await read()];
  assert.deepEqual(plain, again);
  // The rows of the CSV are the answers on the true words.
  const rows = (await readFile(out, "utf8")).trimEnd().split("\n").slice(1);
  for (const [i, { probabilities, transcript }] of truth.entries()) {
    assert.equal(transcript?.text, plain[i].transcript?.text);
    const row = rows.find((line) => line.startsWith(utterances[i].id))?.split(",") ?? [];
    const shown = ["angry", "happy", "sad", "neutral"].map((label) => probabilities?.[label].toFixed(4));
    for (const [k, p] of shown.entries()) assert.ok(Math.abs(Number(p) - Number(row[3 + k])) < 2e-4);
  }
  assert.notDeepEqual(truth[0].probabilities, plain[0].probabilities);
  await assert.rejects(read(texts.slice(1)), /there are words of 5 recordings, expected 6$/);
  recognizer.dispose();
  assert.equal(emotion.asr, true);
});

test("evaluate refuses words that a system does not read, and predict a system whose words nobody knows", async () => {
  const say = async (system: string, words: string) => {
    const model = `${join(scratch, system)}/model`;
    const { error } = await runHere(evaluateVerb, "--model", model, "--data", corpus.root, "--words", words);
    assert.ok(error instanceof ArgumentError);
    return error.message.replace(model, "M");
  };
  assert.equal(await say("acoustic-asr", "true"), "Cannot evaluate M on true words: it reads none");
  assert.equal(
    await say("text-noasr", "recognised"),
    "Cannot evaluate M on recognised words: it recognises none",
  );
  assert.equal(
    await say("both-none-noasr", "recognised"),
    "Cannot evaluate M on recognised words: it recognises none",
  );
  const model = `${join(scratch, "both-none-noasr")}/model`;
  const opened = await openEmotionModel(host, model);
  assert.equal(wordsRead(opened), "true");
  await opened.weights.close();
  const wav = join(corpus.root, "Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01_F000.wav");
  const { error } = await runHere(predictVerb, wav, "--model", model);
  assert.match(
    String(error),
    /^Error: Cannot recognise with .*: it reads the true words and recognises none; evaluate tests it on a corpus/,
  );
  const recognizer = await openRecognizer(host, device, model);
  const { samples } = await readWav(host, wav);
  await assert.rejects(recognizer.recognize([samples]), /it reads the true words and recognises none/);
  const [{ emotion, transcript }] = await recognizer.recognize([samples], { words: ["WE GO"] });
  assert.ok(emotion !== undefined && transcript === undefined);
  recognizer.dispose();
});

test("a run that holds a speaker out learns from the other sessions, and its partner chooses the epoch", async () => {
  const path = join(scratch, "speaker");
  const lines = await train("text-noasr", path, { fold: "3m" });
  assert.ok(
    lines.some((line) =>
      /^03M held out: 2 utterances of speaker 03M; 12 to learn from, 4 to choose/.test(line),
    ),
  );
  assert.ok(
    lines.some((line) => line.startsWith("the dev set is the other side of the dialogues of 03M, 03F;")),
  );
  const [own] = (await readProvenance(host, `${path}/model`))?.corpora ?? [];
  assert.deepEqual([own.heldOut, Object.keys(own.selectedBy).length], ["03M", 4]);
  assert.match(own.split ?? "", /^[0-9a-f]{16}$/);
  const say = (...more: string[]) =>
    runHere(evaluateVerb, "--model", `${path}/model`, "--data", corpus.root, ...more);
  const held = await say();
  assert.deepEqual([held.json.fold, held.json.words, held.json.report.utterances], ["03M", "true", 2]);
  assert.match(
    String((await say("--fold", "3")).error),
    /of 6 utterances 4 chose the epoch; its training held out 03M;/,
  );
  assert.match(String((await say("--fold", "02F")).error), /of 4 utterances 4 were trained on/);
  const known = await say("--fold", "02F", "--anyway");
  assert.equal(known.json.training.trainedOn, 4);
});

test("wav2vec2-both takes a checkpoint of wav2vec 2.0 alone", async () => {
  const plan = (hubert: string) =>
    newRun(
      { preset: "nano", system: "wav2vec2-both", data: corpus.root, fold: "3", ...begin(), hubert, set: [] },
      () => {},
    );
  const refused = prepareRun(host, join(scratch, "never"), plan(begin().hubert), { onNote() {} });
  await assert.rejects(refused, /it is a HuBERT model .*, wav2vec 2\.0 expected$/);
  const { config } = await prepareRun(
    host,
    join(scratch, "never"),
    plan(`${join(scratch, "wav2vec2-both")}/model`),
    { onNote() {} },
  );
  assert.equal(config.model.hubert?.model_type, "wav2vec2");
});
