/** Configs and layers of any system, those with LSTMs among them. */
import type { WeightScope } from "../../nn/weights.ts";
import { type EmotionConfig, EmotionRecognizer, type EmotionSystem, readEmotionConfig } from "./emotion.ts";
import { LstmEmotionRecognizer } from "./lstm.ts";
import { lstmSystemConfig } from "./lstm_config.ts";

/** Reads the config of a system with those of its parts. Throws a SyntaxError that names the key; `source` names the file. */
export const emotionConfig = (json: unknown, source: string): EmotionConfig =>
  readEmotionConfig(json, source, lstmSystemConfig);

/** The layers of the system of a config. */
export const emotionSystem = (weights: WeightScope, config: EmotionConfig): EmotionSystem =>
  config.lstm ? new LstmEmotionRecognizer(weights, config) : new EmotionRecognizer(weights, config);
