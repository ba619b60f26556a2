/** The task of stage 0: masked language modelling (Devlin et al. 2019, section 3.1) on plain text, one sentence per line. */
import type { Host } from "../../host/host.ts";
import { readAnyText } from "../../io/encoding.ts";
import { droppedCharacters, normalizeTranscript, showDropped } from "../../io/text.ts";
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { BertForMaskedLM, BertInput } from "../../models/bert.ts";
import { truncateTokens, padRows } from "../system/words.ts";
import type { Mode } from "../../nn/mode.ts";
import type { Parameter } from "../../nn/parameter.ts";
import { crossEntropy } from "../../ops/cross_entropy.ts";
import { reshape } from "../../ops/elementwise.ts";
import { scope } from "../../tensor/scope.ts";
import { planEpoch } from "./batches.ts";
import { seedOf, uniformStream } from "../../train/seeds.ts";
import type { DevResult, Losses, SavePoint, Task } from "../../train/task.ts";
import { wordVectors } from "./word_vectors.ts";

/** Token ids. */
type Sentence = readonly number[];

/**
 * Reads the first `lines` sentences of a file, normalised as transcripts are, in lower case, tokenised and cut to `tokens`.
 * `onNote` is told where the file is not UTF-8, which characters were dropped and how many sentences were cut.
 */
export async function readSentences(
  host: Host,
  path: string,
  tokenizer: BertTokenizer,
  { lines: maxLines, tokens }: { readonly lines: number; readonly tokens: number },
  onNote?: (line: string) => void,
): Promise<Sentence[]> {
  const { text, encoding } = await readAnyText(host, path);
  if (encoding !== "UTF-8") onNote?.(`${path}: text not UTF-8, read as ${encoding}`);
  const lines = text.split(/\r\n|\r|\n/).filter((line) => line.trim() !== "");
  const sentences: Sentence[] = [];
  const dropped = new Map<string, number>();
  let cut = 0;
  for (const line of lines.slice(0, maxLines)) {
    for (const [sign, n] of droppedCharacters(line)) dropped.set(sign, (dropped.get(sign) ?? 0) + n);
    const { ids } = await tokenizer.encode(normalizeTranscript(line).toLowerCase());
    if (ids.length > tokens) cut++;
    sentences.push(truncateTokens(ids, tokens));
  }
  if (dropped.size > 0) onNote?.(`${path}: dropped characters, kept without ${showDropped(dropped)}`);
  if (cut > 0)
    onNote?.(
      `${path}: ${cut} of ${sentences.length} lines are longer than BERT's ${tokens} positions: their ends are cut off`,
    );
  return sentences;
}

/** A batch of sentences. */
export interface TextBatch {
  readonly input: BertInput;
  /** Ids of the tokens to be predicted, −100 elsewhere. */
  readonly targets: readonly number[];
  readonly seed: number;
}

/** Options of TextTask. */
export interface TextTaskOptions {
  readonly model: BertForMaskedLM;
  readonly parameters: readonly Parameter[];
  readonly train: readonly Sentence[];
  readonly dev: readonly Sentence[];
  /** Sentences of a batch. */
  readonly items: number;
  readonly seed: number;
  /** Id of [PAD]. */
  readonly pad: number;
  /** Id of [MASK]. */
  readonly mask: number;
  /** Ids of all special tokens, which are never predicted. */
  readonly special: ReadonlySet<number>;
  readonly save: Task<unknown>["save"];
}

/** Probability that a token is to be predicted. */
const MLM_PROBABILITY = 0.15;

/** Trains a BertForMaskedLM. */
export class TextTask implements Task<TextBatch> {
  readonly items = "sentences";
  readonly #o: TextTaskOptions;

  constructor(options: TextTaskOptions) {
    this.#o = options;
  }

  get parameters(): readonly Parameter[] {
    return this.#o.parameters;
  }

  /**
   * Makes the word embeddings word vectors of the training text, of that standard deviation; those of words that do not occur
   * stay. From random embeddings a small BERT learns which words go together late, if at all.
   */
  async useWordVectors(deviation: number): Promise<void> {
    const { train, special, seed, parameters } = this.#o;
    const key = "bert.embeddings.word_embeddings.weight";
    const words = parameters.find((p) => p.key === key);
    if (!words) throw new Error(`Cannot use word vectors: the model has no ${key}`);
    const [, size] = words.shape;
    const values = await words.value.read();
    const { ids, vectors } = wordVectors(train, special, { size, deviation, seed });
    for (const [i, id] of ids.entries()) values.set(vectors[i], id * size);
    words.write(values);
  }

  plan(epoch: number): readonly (readonly number[])[] {
    const { train, items, seed } = this.#o;
    return planEpoch(
      train.map((s) => s.length),
      { items },
      seed,
      epoch,
    );
  }

  async load(indices: readonly number[], epoch: number): Promise<TextBatch> {
    return this.#batch(
      indices.map((i) => this.#o.train[i]),
      seedOf("mask", this.#o.seed, epoch, indices[0]),
    );
  }

  amount(batch: TextBatch): number {
    return batch.input.ids.length;
  }

  /** Of the tokens to be predicted 80 % are replaced by [MASK], 10 % by a random token, 10 % are kept. */
  #batch(sentences: readonly Sentence[], seed: number): TextBatch {
    const { pad, mask, special, model } = this.#o;
    const next = uniformStream(seed);
    const targets: number[][] = [];
    const rows = sentences.map((sentence) => {
      const wanted = sentence.map((id) => !special.has(id) && next() < MLM_PROBABILITY);
      targets.push(sentence.map((id, i) => (wanted[i] ? id : -100)));
      return sentence.map((id, i) => {
        if (!wanted[i]) return id;
        const u = next();
        return u < 0.8 ? mask : u < 0.9 ? Math.floor(next() * model.bert.config.vocabSize) : id;
      });
    });
    const input = padRows(rows, pad);
    const T = input.ids[0].length;
    return { input, targets: targets.flatMap((t) => [...t, ...new Array(T - t.length).fill(-100)]), seed };
  }

  losses({ input, targets }: TextBatch, mode: Mode): Losses {
    const logits = this.#o.model.forward(input, mode);
    const [B, T, V] = logits.shape;
    // Without a token to be predicted the mean loss is not defined: then the first token is.
    const some = targets.some((t) => t >= 0) ? targets : [input.ids[0][0], ...targets.slice(1)];
    const loss = crossEntropy(reshape(logits, [B * T, V]), some);
    return { loss, parts: {} };
  }

  async evaluate(signal?: AbortSignal): Promise<DevResult | undefined> {
    const { dev, items, model } = this.#o;
    if (dev.length === 0) return undefined;
    let [loss, batches] = [0, 0];
    for (let i = 0; i < dev.length; i += items) {
      signal?.throwIfAborted();
      const batch = this.#batch(dev.slice(i, i + items), seedOf("dev", i));
      const value = scope(model.bert.device, () => this.losses(batch, {}).loss);
      loss += (await value.read())[0];
      value.release();
      batches++;
    }
    loss /= batches;
    return { loss, perplexity: Math.exp(loss) };
  }

  save(folder: string, at?: SavePoint): Promise<void> {
    return this.#o.save(folder, at);
  }
}
