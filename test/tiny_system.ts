/** A system of a few thousand weights and a batch for it, for tests of training. */
import type { Device } from "../src/gpu/device.ts";
import type { EmotionSystem } from "../src/speech/system/emotion.ts";
import { emotionConfig, emotionSystem } from "../src/speech/system/emotion_system.ts";
import { Weights } from "../src/nn/weights.ts";
import { PRESETS } from "../src/speech/recipes/presets.ts";
import type { StageNumber } from "../src/speech/recipes/config.ts";
import { EmotionTask } from "../src/speech/training/emotion_task.ts";
import type { Batch } from "../src/speech/training/examples.ts";
import { systemConfig, systemOf } from "../src/speech/recipes/systems.ts";
import { normal, uniform } from "./reference.ts";

export interface TinySystem {
  readonly weights: Weights;
  readonly task: EmotionTask;
  readonly system: EmotionSystem;
}

const { hubert, bert, cmgi, lstm } = PRESETS.nano.model;
const VOCABULARY = 20;

/** `more` changes HuBERT's config, `fusion` CmGI's. */
export async function tinySystem(
  device: Device,
  name: string,
  stage: StageNumber,
  more: Record<string, unknown> = {},
  fusion: Record<string, unknown> = {},
): Promise<TinySystem> {
  const json = systemConfig(systemOf(name), stage, {
    hubert: { ...hubert, ...more },
    bert: { ...bert, vocab_size: VOCABULARY },
    cmgi: { ...cmgi, ...fusion },
    lstm: { ...lstm, vocab_size: 32, word_vocab_size: VOCABULARY },
    alpha: 0.3,
  });
  const weights = new Weights(device, { seed: 3 });
  const system = emotionSystem(weights.root, emotionConfig(json, name));
  await weights.initialize();
  const task = new EmotionTask({
    ...{ system, parameters: weights.parameters, train: [], dev: [], seed: 1, alpha: 0.3 },
    ...{
      batch: { items: 4 },
      ctcReduction: "mean",
      labelSmoothing: 0,
      augment: { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 },
    },
    reader: { host: device.host, maxTokens: 16 },
    save: async () => {},
  });
  return { weights, task, system };
}

/** Noise of about `seconds` with random characters, words and labels; equal seeds give equal batches. */
export function tinyBatch(B: number, seconds: number, seed = 1): Batch {
  const next = uniform(seed);
  const samples = Math.round(16000 * seconds);
  const lengths = Array.from({ length: B }, (_, b) =>
    b === 0 ? samples : Math.round(samples * (0.6 + 0.4 * next())),
  );
  const audio = normal(B * samples, seed);
  lengths.forEach((n, b) => {
    audio.fill(0, b * samples + n, (b + 1) * samples);
  });
  const some = (n: number, from: number, to: number) =>
    Array.from({ length: n }, () => from + Math.floor((to - from) * next()));
  const tokens = 7;
  return {
    ...{ utterances: [], audio, samples, lengths, seconds: (B * samples) / 16000 },
    targets: lengths.map(() => some(5, 4, 31)),
    labels: some(B, 0, 4),
    words: {
      ids: lengths.map(() => some(tokens, 1, VOCABULARY)),
      mask: lengths.map((_, b) => Array.from({ length: tokens }, (_, t) => (t < tokens - b ? 1 : 0))),
    },
  };
}
