/**
 * Wavegate: a WebGPU compute engine with hand-written kernels, and on it speech emotion recognition from speech alone.
 *
 * Legend of every shape in this project: B batch, T time, C channels, H heads, D head size, V vocabulary, S label
 * length; N = rows after flattening; U frames where T is subwords.
 *
 *     const device = await openDevice(await currentHost());
 */
export { boxedModel } from "./host/box.ts";
export { currentHost } from "./host/current.ts";
export type { GpuOptions, Host } from "./host/host.ts";
export { Device, type DeviceInfo, type DeviceOptions, openDevice } from "./gpu/device.ts";
export { type Bound, type Grid, type Twin, twin, type Variant } from "./gpu/kernel.ts";
export { gridFor, type Path } from "./gpu/launch.ts";
export { scope } from "./tensor/scope.ts";
export { type Gradients, grad, noGradient, record } from "./tensor/tape.ts";
export { type DType, Tensor } from "./tensor/tensor.ts";
export * as ops from "./ops/mod.ts";
export type { Mode } from "./nn/mode.ts";
export { Parameter } from "./nn/parameter.ts";
export { Weights, type WeightsOptions } from "./nn/weights.ts";
export { openSafetensors, readF32, type Safetensors } from "./io/safetensors.ts";
export { writeSafetensors } from "./io/safetensors_writer.ts";
export { normalize, readWav } from "./io/audio.ts";
export { decodeBeam, decodeGreedy, type Transcript } from "./io/decode.ts";
export { openBertTokenizer } from "./io/tokenizer.ts";
export { CtcVocabulary, openCtcVocabulary } from "./io/vocabulary.ts";
export { normalizeTranscript } from "./io/text.ts";
export { BertForSequenceClassification, type BertInput, BertModel } from "./models/bert.ts";
export { CmGI, type CmgiConfig } from "./models/cmgi.ts";
export {
  type BertConfig,
  bertConfig,
  ConfigReader,
  type HubertConfig,
  hubertConfig,
} from "./models/config.ts";
export { type EmotionConfig, EmotionRecognizer, emotionConfig } from "./models/emotion.ts";
export { frameCount, HubertForCTC, type HubertInput, HubertModel } from "./models/hubert.ts";
export { openModelFolder } from "./models/folder.ts";
export { type Label, LABELS } from "./models/labels.ts";
export { openRecognizer, type Recognizer } from "./models/recognizer.ts";
export { mayIgnore, spellings } from "./models/keys.ts";
export { AdamW, type AdamWOptions } from "./train/adamw.ts";
