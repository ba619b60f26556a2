/** From utterances to what a step reads: normalised audio, CTC targets, token ids, labels. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import type { Host } from "../../host/host.ts";
import { normalize, readWav, SAMPLE_RATE } from "../../io/audio.ts";
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { BertInput } from "../../models/bert.ts";
import { type PaddedSpeech, padSpeech } from "../system/inference.ts";
import { tokenizeWords } from "../system/words.ts";
import { roundLength } from "./batches.ts";

/** Its speech is normalised, and padded to a length that other batches have as well. */
export interface Batch extends Required<PaddedSpeech> {
  readonly utterances: readonly Utterance[];
  /** CTC ids of each transcript. */
  readonly targets: readonly (readonly number[])[];
  /** Class numbers; −100, which no loss counts, where there is none. */
  readonly labels: readonly number[];
  /** The true words, tokenised; absent where the system reads none. */
  readonly words?: BertInput;
  /** Of speech, without padding. */
  readonly seconds: number;
}

export interface Reader {
  readonly host: Host;
  readonly vocabulary?: CtcVocabulary;
  readonly tokenizer?: BertTokenizer;
  /** Most tokens of a text, [CLS] and [SEP] included. */
  readonly maxTokens: number;
  /** Fewest samples of a clip: receptiveField() of the encoder. */
  readonly minSamples?: number;
  /** False: the audio is not brought to zero mean and unit variance. */
  readonly normalize?: boolean;
  /** Told of every file that cannot be read any more; its utterance is left out. */
  readonly onProblem?: (id: string, message: string) => void;
}

/** Reads the utterances of a batch, each changed by `change`; undefined where not one of them can be read. */
export async function readBatch(
  reader: Reader,
  wanted: readonly Utterance[],
  change?: (samples: Float32Array, id: string) => Float32Array,
): Promise<Batch | undefined> {
  const { host, vocabulary, tokenizer, minSamples, onProblem } = reader;
  const clips = await Promise.all(
    wanted.map(async (utterance) => {
      try {
        const { samples } = await readWav(host, utterance.wav, { minSamples });
        const changed = change ? change(samples, utterance.id) : samples;
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
  return {
    utterances,
    ...speech,
    targets: utterances.map((u) => vocabulary?.encode(u.words) ?? []),
    labels: utterances.map((u) => (u.label === undefined ? -100 : LABELS.indexOf(u.label))),
    words:
      tokenizer &&
      (await tokenizeWords(
        tokenizer,
        utterances.map((u) => u.words),
        reader.maxTokens,
      )),
    seconds: read.reduce((sum, clip) => sum + clip.samples.length, 0) / SAMPLE_RATE,
  };
}

/** Says how many transcripts are more than BERT can read, which has so many positions. */
export async function noteTruncation(
  tokenizer: BertTokenizer,
  utterances: readonly Utterance[],
  positions: number,
  onNote?: (line: string) => void,
): Promise<void> {
  let cut = 0;
  for (const { words } of utterances)
    if ((await tokenizer.encode(words.toLowerCase())).ids.length > positions) cut++;
  if (cut > 0)
    onNote?.(
      `${cut} of ${utterances.length} transcripts are longer than BERT's ${positions} positions: their ends are cut off`,
    );
}

/**
 * CTC targets in which one that is too long for its frames, whatever its length, is replaced by a short one that is so
 * too: it counts as no loss, and takes no room.
 */
export const boundTargets = (
  targets: readonly (readonly number[])[],
  frames: readonly number[],
): (readonly number[])[] =>
  targets.map((ids, b) =>
    // Equal labels need a blank between them: n of them take 2n − 1 frames.
    ids.length > frames[b] ? new Array<number>((frames[b] >> 1) + 2).fill(ids[0]) : ids,
  );
