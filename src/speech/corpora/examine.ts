/**
 * Checks every recording of a corpus before training. What a model cannot use at all is left out, what it can use in part
 * is kept for that part, and each case is listed as a problem.
 */
import type { Host } from "../../host/host.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { readWavFormat } from "../../io/wav.ts";
import { type FrameGeometry, frameCount, receptiveField } from "../../models/hubert.ts";
import type { Corpus, Problem, ProblemKind, Utterance } from "./corpus.ts";

/** Options of examine(). */
export interface ExamineOptions {
  /** Longer clips are left out of training and kept in the test. Default 20 s, which 0.3 % of IEMOCAP exceed. */
  maxTrainingSeconds?: number;
  /** Shorter clips are reported. Default 0.5 s; IEMOCAP's shortest is 0.58 s. */
  shortSeconds?: number;
  /** Config of the speech encoder, from which the frames of a clip follow. Default: that of the published models. */
  encoder?: FrameGeometry;
  /** Whether these frames spell the words by CTC; true by default. An attention decoder needs no frame for each character. */
  ctc?: boolean;
  /** Where aborted, examine() throws its reason. */
  signal?: AbortSignal;
}

/** The convolutions of every published HuBERT and wav2vec 2.0: a receptive field of 400 samples, a stride of 320. */
const PUBLISHED_ENCODER: FrameGeometry = {
  convKernel: [10, 3, 3, 3, 3, 2, 2],
  convStride: [5, 2, 2, 2, 2, 2, 2],
};

/** The result of examine(). */
export interface Examined {
  /** The usable utterances, with their `seconds`. */
  readonly utterances: readonly Utterance[];
  /** Ids of utterances that are too long for training. */
  readonly notForTraining: ReadonlySet<string>;
  /** Ids of utterances with fewer frames than CTC needs for their text: they have no CTC loss, but an emotion. */
  readonly notForCtc: ReadonlySet<string>;
  /** Those of the corpus, then those found here. */
  readonly problems: readonly Problem[];
}

/** Checks every utterance of a corpus; reads the headers of the wav files alone. */
export async function examine(host: Host, corpus: Corpus, options: ExamineOptions = {}): Promise<Examined> {
  const {
    maxTrainingSeconds = 20,
    shortSeconds = 0.5,
    encoder = PUBLISHED_ENCODER,
    ctc = true,
    signal,
  } = options;
  const shortest = receptiveField(encoder);
  const utterances: Utterance[] = [];
  const notForTraining = new Set<string>();
  const notForCtc = new Set<string>();
  const problems: Problem[] = [...corpus.problems];
  const reported = new Set(problems.filter((p) => p.kind === "missing transcript").map((p) => p.id));

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
    if (words === "" && corpus.transcribed && !reported.has(id)) {
      problem("empty transcript", "kept: no words are its words");
    }
    const [needed, frames] = [ctcFrames(words), frameCount(encoder, samples)];
    if (ctc && needed > frames) {
      notForCtc.add(id);
      problem("transcript too long", `kept without CTC loss: it needs ${needed} frames and has ${frames}`);
    }
  }
  return { utterances, notForTraining, notForCtc, problems };
}

/** Fewest frames in which CTC can spell the text: one per character, and a blank between equal neighbours. */
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
