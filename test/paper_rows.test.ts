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
  "text-noasr": undefined,
  "wav2vec2-both": "wav2vec2",
};

// Those that others begin with first.
const RUNS = [...new Set(["acoustic-asr", ...PAPER_ROWS.flatMap(({ system }) => system ?? [])])];
for (const system of RUNS) {
  test(`${system} trains, resumes with the same bits and is evaluated on the words of its rows`, async () => {
    const whole = join(scratch, system);
    await train(system, whole, {});
    await train(system, `${whole}-broken`, { updates: 1 });
    assert.ok((await weightsOf(whole)).equals(await weightsOf(`${whole}-broken`)), "the weights differ");
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
