/**
 * Fine-tunes the CTC head and the transformer of a Hugging Face checkpoint on recordings and their words; saves the result.
 *
 *     npx tsx examples/finetune_ctc.ts [FOLDER] [OUT]
 */
import process from "node:process";
import {
  AdamW,
  bundledModel,
  currentHost,
  decodeGreedy,
  HubertForCTC,
  normalize,
  openCtcVocabulary,
  openDevice,
  ops,
  readWav,
  saveWeights,
  scheduleFactor,
  scope,
  secondsPerFrame,
  Tensor,
  trainingStream,
  valueAndGrad,
} from "wavegate";

const [folder = "test/reference/hubert-tiny-stable", out = "finetuned.safetensors"] = process.argv.slice(2);
const host = await currentHost();
const device = await openDevice(host);

// Two recordings, brought to zero mean and unit variance and padded to one length, with their words as ids.
const source = bundledModel();
const vocabulary = await openCtcVocabulary(host, source);
const listed = await host.readText(`${source}/clips/clips.json`);
const clips: { file: string; text: string }[] = JSON.parse(listed).slice(0, 2);
const data = await Promise.all(
  clips.map(async ({ file, text }) => ({
    samples: normalize((await readWav(host, `${source}/clips/${file}`)).samples),
    labels: vocabulary.encode(text.toUpperCase()),
  })),
);
const labels = data.map((clip) => clip.labels);
const lengths = data.map(({ samples }) => samples.length);
const longest = Math.max(...lengths);
const padded = new Float32Array(data.length * longest);
for (const [b, { samples }] of data.entries()) padded.set(samples, b * longest);
const audio = Tensor.from(device, padded, [data.length, longest]);

const { model, weights } = await HubertForCTC.fromPretrained(device, folder);
for (const parameter of weights.parameters)
  parameter.trainable = !parameter.key.includes("feature_extractor");
const rates = { learningRate: 5e-3, weightDecay: 0.01, maxGradNorm: 1 };
const optimizer = new AdamW(device, weights.parameters, rates);
const total = 40;
for (let step = 1; step <= total; step++) {
  const value = scope(device, () => {
    const { value, gradients } = valueAndGrad(device, optimizer.parameters, () => {
      const training = trainingStream(1, step); // dropout and LayerDrop draw from it
      const { logits, frames } = model.forward({ audio, lengths }, { training });
      return ops.ctcLoss(logits, labels, frames, { blank: vocabulary.blank, zeroInfinity: true });
    });
    optimizer.step(gradients, { factor: scheduleFactor(step, { kind: "linear", warmup: 0.1, total }) });
    return value;
  });
  if (step === 1 || step % 10 === 0) console.log(`step ${step}  CTC loss ${(await value.item()).toFixed(3)}`);
  value.release();
}

const { logits, frames } = scope(device, () => model.forward({ audio, lengths }));
const values = await logits.read();
const [, T, V] = logits.shape;
const options = { secondsPerFrame: secondsPerFrame(model.hubert.config) };
for (const [b, n] of frames.entries()) {
  const { text } = decodeGreedy(values.subarray(b * T * V, (b * T + n) * V), vocabulary, options);
  console.log(clips[b].text, "→", text);
}
await saveWeights(host, out, weights.parameters);
for (const owned of [logits, audio, optimizer, weights]) owned[Symbol.dispose]();
device.dispose();
