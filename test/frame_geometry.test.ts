/** Where frames lie in the audio comes from a config's convolutions: word times, shortest audio, what CTC can spell. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { decodeBeam, decodeGreedy, type Transcript } from "../src/io/decode.ts";
import { CtcVocabulary } from "../src/io/vocabulary.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { frameCount, frameStride, receptiveField, secondsPerFrame } from "../src/models/hubert.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { logSoftmax } from "../src/ops/softmax.ts";
import { verb as evaluateVerb } from "../tools/evaluate.ts";
import { verb as predictVerb } from "../tools/predict.ts";
import { verb as trainVerb } from "../tools/train.ts";
import { testDevice } from "./device.ts";
import { tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const demo = fileURLToPath(new URL("../weights/demo", import.meta.url));
const host = await currentHost();
const device = await testDevice();
const scratch = mkdtempSync(join(tmpdir(), "wavegate-geometry-"));
after(() => rmSync(scratch, { recursive: true }));

const published = { convKernel: [10, 3, 3, 3, 3, 2, 2], convStride: [5, 2, 2, 2, 2, 2, 2] };
/** Twice the frames: one every 10 ms, of 20 ms each. */
const dense = { ...published, convStride: [5, 2, 2, 2, 2, 1, 2] };

/** The demo's model with those strides, which its weights leave open. */
const denseModel = join(scratch, "dense");
cpSync(demo, denseModel, { recursive: true });
const config = JSON.parse(readFileSync(`${demo}/config.json`, "utf8"));
config.hubert.conv_stride = dense.convStride;
writeFileSync(`${denseModel}/config.json`, JSON.stringify(config));

const timesOf = ({ words }: Transcript) => words.map(({ text, start, end }) => ({ text, start, end }));

test("frameStride(), receptiveField() and secondsPerFrame() follow from kernels and strides", () => {
  assert.deepEqual([frameStride(published), receptiveField(published)], [320, 400]);
  assert.deepEqual([frameStride(dense), receptiveField(dense)], [160, 320]);
  assert.deepEqual([secondsPerFrame(published), secondsPerFrame(dense)], [0.02, 0.01]);
  for (const geometry of [published, dense, { convKernel: [160, 5, 3], convStride: [10, 4, 4] }]) {
    const [field, stride] = [receptiveField(geometry), frameStride(geometry)];
    assert.deepEqual(
      [field - 1, field, field + stride - 1, field + stride].map((n) => frameCount(geometry, n)),
      [0, 1, 1, 2],
    );
  }
});

test("words of a model with other strides stand at its own times", async () => {
  const recognizer = await openRecognizer(host, device, denseModel);
  const { samples, seconds } = await readWav(host, `${demo}/clips/furious.wav`);
  for (const beam of [undefined, 4]) {
    let logits: Tensor | undefined;
    const [{ transcript }] = await recognizer.recognize([samples], {
      beam,
      observe: (name, tensor) => {
        if (name === "ctc_logits") logits = tensor.keep();
      },
    });
    assert.ok(logits && transcript && transcript.words.length > 0);
    assert.equal(logits.shape[1], frameCount(dense, samples.length));
    const ctc = logits;
    const logProbs = scope(device, () => logSoftmax(ctc));
    const values = await logProbs.read();
    const { vocabulary } = recognizer.model;
    assert.ok(vocabulary);
    const times = { secondsPerFrame: 0.01 };
    const wanted = beam
      ? decodeBeam(values, vocabulary, { ...times, beamWidth: beam })
      : decodeGreedy(values, vocabulary, times);
    assert.deepEqual(timesOf(transcript), timesOf(wanted));
    const last = transcript.words[transcript.words.length - 1];
    assert.ok(last.end <= seconds && last.end > 0.55 * seconds, `${last.end} of ${seconds} s`);
    for (const tensor of [logits, logProbs]) tensor.release();
  }
  recognizer.dispose();
});

test("decodeGreedy() and decodeBeam() refuse a frame that lasts no time", () => {
  const vocabulary = new CtcVocabulary({ "<pad>": 0, "<unk>": 1, "|": 2, A: 3 });
  const frame = new Float32Array(4).fill(-Math.log(4));
  for (const decode of [decodeGreedy, decodeBeam])
    for (const secondsPerFrame of [0, Number.NaN, undefined as unknown as number])
      assert.throws(() => decode(frame, vocabulary, { secondsPerFrame }), {
        name: "RangeError",
        message: `Cannot decode: secondsPerFrame is ${secondsPerFrame}, expected a number above 0`,
      });
});

test("predict takes what its model makes a frame of, and names the shortest that it takes", async () => {
  const wav = async (samples: number) => {
    const path = join(scratch, `${samples}.wav`);
    await writeWav16(host, path, new Float32Array(samples).fill(0.1));
    return path;
  };
  const predict = async (model: string, samples: number) => {
    const { status, notes } = await runHere(predictVerb, await wav(samples), "--model", model);
    return [status, ...notes.filter((line) => line.startsWith("wavegate predict"))];
  };
  const short = (samples: number, text: string) => [
    1,
    `wavegate predict: Cannot read ${join(scratch, `${samples}.wav`)}: it is too short: ${text} ms needed`,
  ];
  assert.deepEqual(await predict(denseModel, 320), [0]);
  assert.deepEqual(await predict(denseModel, 319), short(319, "19.9 ms, at least 20"));
  assert.deepEqual(await predict(demo, 320), short(320, "20.0 ms, at least 25"));
});

test("examine() measures clips by the frames of the encoder: the recipe's, the model's, else the published", async () => {
  const { root, remove } = await tinyRelease({ turns: 2, sessions: [1, 2, 3] });
  const id = "Ses01F_impro01_F000";
  await writeWav16(
    host,
    `${root}/Session1/sentences/wav/Ses01F_impro01/${id}.wav`,
    new Float32Array(340).fill(0.1),
  );
  const corpus = await readIemocap(host, root);
  const about = async (encoder?: typeof published) =>
    (await examine(host, corpus, { encoder })).problems.map(({ handled }) => handled);
  assert.deepEqual(await about(), ["left out: 0.021 s gives no frame"]);
  assert.deepEqual(await about(published), await about());
  const [kept, spelled] = await about(dense);
  assert.equal(kept, "kept: 0.02 s, without masking where a mask does not fit");
  assert.match(spelled, /^kept without CTC loss: it needs \d+ frames and has 1$/);

  const noGpu = ["--adapter", "no such adapter"];
  const train = (...args: string[]) =>
    runHere(
      trainVerb,
      ...["--system", "acoustic", "--preset", "nano", "--data", root, "--fold", "3"],
      ...[...["--out", join(scratch, "run"), ...noGpu, ...args]],
    );
  const told = ({ notes }: { notes: readonly string[] }) => notes.filter((line) => line.includes(id));
  assert.deepEqual(told(await train()), [`  ${id}: short clip, left out: 0.021 s gives no frame`]);
  // A field of 280 samples, a frame every 160.
  assert.equal(
    told(await train("--set", "model.hubert.conv_stride=[10,4,4]"))[0],
    `  ${id}: short clip, ${kept}`,
  );

  const evaluate = async (model: string) => {
    const said = await runHere(evaluateVerb, ...["--model", model, "--data", root, "--fold", "1", "--json"]);
    assert.equal(said.error, undefined);
    return said.json.report.utterances;
  };
  assert.deepEqual([await evaluate(demo), await evaluate(denseModel)], [3, 4]);
  await remove();
});
