/**
 * A folder of Hugging Face's (config.json, model.safetensors) to logits, beside those that PyTorch stored for the same audio.
 *
 *     npx tsx examples/read_checkpoint.ts [FOLDER]
 */
import process from "node:process";
import { currentHost, HubertForCTC, openDevice, openSafetensors, readF32, scope, Tensor } from "wavegate";

const folder = process.argv[2] ?? "test/reference/hubert-tiny-stable";
const host = await currentHost();
const device = await openDevice(host);
const { model, weights } = await HubertForCTC.fromPretrained(device, folder);

// What PyTorch was given: two utterances of different lengths, padded with zeros.
const inputs = await openSafetensors(host, `${folder}/inputs.safetensors`);
const audio = await readF32(inputs, "input_values");
const [B, samples] = inputs.tensors.get("input_values")?.shape ?? [0, 0];
const bytes = new Uint8Array(8 * B * samples);
await inputs.read("attention_mask", bytes);
await inputs.close();
const mask = new BigInt64Array(bytes.buffer);
const lengths = Array.from({ length: B }, (_, b) =>
  Number(mask.subarray(b * samples, (b + 1) * samples).reduce((sum, one) => sum + one, 0n)),
);

const { logits, frames } = scope(device, () =>
  model.forward({ audio: Tensor.from(device, audio, [B, samples]), lengths }),
);
const found = await logits.read();
logits.release();

// PyTorch's in float64. Frames of padding are nobody's.
const outputs = await openSafetensors(host, `${folder}/outputs_f64.safetensors`);
const truth = await readF32(outputs, "logits");
await outputs.close();
const [, T, V] = logits.shape;
let [error, size] = [0, 0];
for (const [i, value] of truth.entries()) {
  if (Math.floor(i / V) % T >= frames[Math.floor(i / (T * V))]) continue;
  error += (found[i] - value) ** 2;
  size += value ** 2;
}
console.log(`logits (${logits.shape.join(", ")}), real frames ${frames.join(" and ")}`);
console.log(`relative L2 distance from PyTorch's in float64: ${Math.sqrt(error / size).toExponential(1)}`);
weights.dispose();
device.dispose();
