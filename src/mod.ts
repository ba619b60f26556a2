/**
 * Wavegate: a WebGPU compute engine with hand-written kernels, and on it speech emotion recognition from speech alone.
 *
 * Legend of every shape in this project: B batch, T time, C channels, H heads, D head size, V vocabulary, S label
 * length; N = rows after flattening; U frames where T is subwords.
 *
 *     const device = await openDevice(await currentHost());
 */
export { bundledModel } from "./host/bundled_model.ts";
export { currentHost } from "./host/current.ts";
export type { GpuOptions, Host } from "./host/host.ts";
export { Device, type DeviceInfo, type DeviceOptions, openDevice } from "./gpu/device.ts";
export { twin } from "./gpu/kernel.ts";
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
export { decodeBeam, type DecodeOptions, decodeGreedy, type Transcript } from "./io/decode.ts";
export { openBertTokenizer } from "./io/tokenizer.ts";
export { CtcVocabulary, openCtcVocabulary } from "./io/vocabulary.ts";
export { normalizeTranscript } from "./io/text.ts";
export { BertForSequenceClassification, type BertInput, BertModel } from "./models/bert.ts";
export { CmGI, type CmgiConfig } from "./speech/system/cmgi.ts";
export {
  type BertConfig,
  bertConfig,
  ConfigReader,
  type HubertConfig,
  hubertConfig,
} from "./models/config.ts";
export { type EmotionConfig, EmotionRecognizer, emotionConfig } from "./speech/system/emotion.ts";
export {
  frameCount,
  frameStride,
  HubertForCTC,
  type HubertInput,
  HubertModel,
  receptiveField,
  secondsPerFrame,
} from "./models/hubert.ts";
export { openModelFolder } from "./speech/system/folder.ts";
export { type Label, LABELS } from "./speech/system/labels.ts";
export { openRecognizer, type Recognizer } from "./speech/system/recognizer.ts";
export { mayIgnore, spellings } from "./models/keys.ts";
export { AdamW, type AdamWOptions } from "./train/adamw.ts";
