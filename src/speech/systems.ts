/** The systems that recognise emotions. */
export { CmGI, type CmgiConfig, type CmgiInput, type CmgiOutput } from "./system/cmgi.ts";
export {
  type EmotionConfig,
  EmotionRecognizer,
  type EmotionSystem,
  type EncodedSpeech,
} from "./system/emotion.ts";
export { emotionConfig, emotionSystem } from "./system/emotion_system.ts";
export { type Label, LABELS } from "./system/labels.ts";
export { LstmEmotionRecognizer } from "./system/lstm.ts";
export {
  type LstmKind,
  type LstmSystemConfig,
  lstmSystemConfig,
  type WordEncoderConfig,
} from "./system/lstm_config.ts";
