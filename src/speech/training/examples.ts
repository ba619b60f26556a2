/** Reads utterances into batches: normalised audio, CTC targets, token ids and labels. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import type { Host } from "../../host/host.ts";
import { readWav } from "../../io/audio.ts";
import { normalize, SAMPLE_RATE } from "../../io/samples.ts";
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { BertInput } from "../../models/bert.ts";
import { type PaddedSpeech, padSpeech } from "../system/inference.ts";
import { tokenizeWords } from "../system/words.ts";
import { roundLength } from "./batches.ts";

/** A batch. Its audio is normalised, and padded to a length of roundLength(). */
export interface Batch extends Required<PaddedSpeech> {
  readonly utterances: readonly Utterance[];
  /** CTC labels of each transcript. */
  readonly targets: readonly (readonly number[])[];
  /** Class numbers; −100, which losses ignore, for utterances without a label. */
  readonly labels: readonly number[];
  /** The reference transcripts as input of BERT; absent where no words are read. */
  readonly words?: BertInput;
  /** Of speech, without padding. */
  readonly seconds: number;
}

/** How utterances are read. */
export interface Reader {
  readonly host: Host;
  readonly vocabulary?: CtcVocabulary;
  readonly tokenizer?: BertTokenizer;
  /** Most tokens of a text, [CLS] and [SEP] included. */
  readonly maxTokens: number;
  /** False: no recording is read, only transcripts and labels. Default true. */
  readonly audio?: boolean;
  /** Fewest samples of a clip: receptiveField() of the encoder. */
  readonly minSamples?: number;
  /** Whether the audio is brought to zero mean and unit variance. Default true. */
  readonly normalize?: boolean;
  /** Told of every recording that cannot be read, whose utterance is left out. Without it such a recording is an error. */
  readonly onProblem?: (id: string, message: string) => void;
}

/** How the utterances of a batch are augmented. */
export interface Changes {
  readonly samples?: (samples: Float32Array, id: string) => Float32Array;
  /** Of what BERT reads; a recogniser learns from the transcript as it is. */
  readonly words?: (words: string, id: string) => string;
}

/** Reads the utterances of a batch, augmented by `change`; undefined where none can be read. */
export async function readBatch(
  reader: Reader,
  wanted: readonly Utterance[],
  change: Changes = {},
): Promise<Batch | undefined> {
  const { host, minSamples, onProblem } = reader;
  if (reader.audio === false) {
    const lengths = wanted.map(() => 0);
    const seconds = wanted.reduce((sum, u) => sum + (u.seconds ?? 0), 0);
    return {
      ...(await answersOf(reader, wanted, change)),
      audio: new Float32Array(0),
      samples: 0,
      lengths,
      seconds,
    };
  }
  const clips = await Promise.all(
    wanted.map(async (utterance) => {
      try {
        const { samples } = await readWav(host, utterance.wav, { minSamples });
        const changed = change.samples?.(samples, utterance.id) ?? samples;
        return { utterance, samples: reader.normalize === false ? changed : normalize(changed) };
      } catch (error) {
        if (!onProblem) throw error;
        onProblem(utterance.id, (error as Error).message);
        return undefined;
      }
    }),
  );
  const read = clips.filter((clip) => clip !== undefined);
  if (read.length === 0) return undefined;
  const longest = Math.max(...read.map((clip) => clip.samples.length));
  const speech = padSpeech(
    read.map((clip) => clip.samples),
    roundLength(longest),
  );
  const utterances = read.map((clip) => clip.utterance);
  const seconds = read.reduce((sum, clip) => sum + clip.samples.length, 0) / SAMPLE_RATE;
  return { ...(await answersOf(reader, utterances, change)), ...speech, seconds };
}

/** What the recordings of utterances say, and with which emotion. */
async function answersOf(
  { vocabulary, tokenizer, maxTokens }: Reader,
  utterances: readonly Utterance[],
  change: Changes,
): Promise<Pick<Batch, "utterances" | "targets" | "labels" | "words">> {
  return {
    utterances,
    targets: utterances.map((u) => vocabulary?.encode(u.words) ?? []),
    labels: utterances.map((u) => (u.label === undefined ? -100 : LABELS.indexOf(u.label))),
    words:
      tokenizer &&
      (await tokenizeWords(
        tokenizer,
        utterances.map((u) => change.words?.(u.words, u.id) ?? u.words),
        maxTokens,
      )),
  };
}

/** Notes how many transcripts are longer than the `positions` of what reads them. */
export async function noteTruncation(
  tokenizer: BertTokenizer,
  utterances: readonly Utterance[],
  positions: number,
  onNote?: (line: string) => void,
  limit = `BERT's ${positions} positions`,
): Promise<void> {
  let truncated = 0;
  for (const { words } of utterances)
    if ((await tokenizer.encode(words.toLowerCase())).ids.length > positions) truncated++;
  if (truncated > 0)
    onNote?.(
      `${truncated} of ${utterances.length} transcripts are longer than ${limit}: their ends are cut off`,
    );
}

/**
 * CTC targets in which each that is too long for its frames is replaced by a shorter one that is too long as well: neither has
 * a loss, and the loss takes memory for the longest target of the batch.
 */
export const boundTargets = (
  targets: readonly (readonly number[])[],
  frames: readonly number[],
): (readonly number[])[] =>
  targets.map((ids, b) =>
    // Equal labels need a blank between them: n of them take 2n − 1 frames.
    ids.length > frames[b] ? new Array<number>((frames[b] >> 1) + 2).fill(ids[0]) : ids,
  );
