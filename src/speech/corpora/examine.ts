/**
 * Looks at every wav before training begins. What a model cannot use is left out, what it can use in part is
 * kept for that part, and each case is listed by name.
 */
import type { Host } from "../../host/host.ts";
import { SAMPLE_RATE } from "../../io/audio.ts";
import { readWavFormat } from "../../io/wav.ts";
import { type FrameGeometry, frameCount, receptiveField } from "../../models/hubert.ts";
import type { Corpus, Problem, ProblemKind, Utterance } from "./corpus.ts";

export interface ExamineOptions {
  /** Longer clips are kept for the test and left out of training. Default 20 s: 0.3 % of IEMOCAP. */
  maxTrainingSeconds?: number;
  /** Shorter clips are reported. Default 0.5 s; IEMOCAP's shortest is 0.58 s. */
  shortSeconds?: number;
  /** The encoder that is to hear the clips. Default: the published one. */
  encoder?: FrameGeometry;
  /** Ends the reading, which throws the signal's reason. */
  signal?: AbortSignal;
}

/**
 * The convolutions of every published HuBERT and wav2vec 2.0: a frame is made of 400 samples, the next begins 320 later.
 * They stand for the encoder where a corpus is looked at and no model or recipe says what will hear it.
 */
const PUBLISHED_ENCODER: FrameGeometry = {
  convKernel: [10, 3, 3, 3, 3, 2, 2],
  convStride: [5, 2, 2, 2, 2, 2, 2],
};

export interface Examined {
  /** All that a model can answer to, with `seconds` filled in. */
  readonly utterances: readonly Utterance[];
  /** Ids that are too long for training. */
  readonly notForTraining: ReadonlySet<string>;
  /** Ids whose text does not fit their frames: no CTC loss, but an emotion all the same. */
  readonly notForCtc: ReadonlySet<string>;
  /** The reader's own and those found here. */
  readonly problems: readonly Problem[];
}

/** Reads the header of every wav. */
export async function examine(host: Host, corpus: Corpus, options: ExamineOptions = {}): Promise<Examined> {
  const { maxTrainingSeconds = 20, shortSeconds = 0.5, encoder = PUBLISHED_ENCODER, signal } = options;
  const shortest = receptiveField(encoder);
  const utterances: Utterance[] = [];
  const notForTraining = new Set<string>();
  const notForCtc = new Set<string>();
  const problems: Problem[] = [...corpus.problems];
  const told = new Set(problems.filter((p) => p.kind === "missing transcript").map((p) => p.id));

  for (const utterance of corpus.utterances) {
    signal?.throwIfAborted();
    const { id, words } = utterance;
    const problem = (kind: ProblemKind, handled: string) => problems.push({ id, kind, handled });
    const header = await lengthOf(host, utterance.wav).catch((error: Error) => error);
    if (header instanceof Error) {
      problem("unreadable wav", `left out: ${header.message}`);
      continue;
    }
    const { seconds, note } = header;
    const samples = Math.round(seconds * SAMPLE_RATE);
    if (samples < shortest) {
      problem("short clip", `left out: ${seconds.toFixed(3)} s gives no frame`);
      continue;
    }
    utterances.push({ ...utterance, seconds });
    if (note) problem("wrong wav length", `kept: ${note}`);
    if (seconds < shortSeconds) {
      problem("short clip", `kept: ${seconds.toFixed(2)} s, without masking where a mask does not fit`);
    }
    if (seconds > maxTrainingSeconds) {
      notForTraining.add(id);
      problem("long clip", `left out of training, kept in the test: ${seconds.toFixed(1)} s`);
    }
    if (words === "" && !told.has(id)) {
      problem("empty transcript", "kept: no words are its words");
    }
    const [needed, frames] = [ctcFrames(words), frameCount(encoder, samples)];
    if (needed > frames) {
      notForCtc.add(id);
      problem("transcript too long", `kept without CTC loss: it needs ${needed} frames and has ${frames}`);
    }
  }
  return { utterances, notForTraining, notForCtc, problems };
}

/** Fewest frames in which CTC can say the text: one a character, and a blank between equal neighbours. */
export function ctcFrames(words: string): number {
  let frames = words.length;
  for (let i = 1; i < words.length; i++) if (words[i] === words[i - 1]) frames++;
  return frames;
}

async function lengthOf(host: Host, path: string): Promise<{ seconds: number; note?: string }> {
  const file = await host.open(path);
  try {
    const { frames, sampleRate, note } = await readWavFormat(file);
    return { seconds: frames / sampleRate, note };
  } finally {
    await file.close();
  }
}
