/** Word n-gram models with backoff, in the ARPA format, as KenLM's lmplz, SRILM and IRSTLM write it. */

import type { Host } from "../host/host.ts";
import { KENLM } from "./language_model_files.ts";

/** A word after a context, both numbers base 10. */
interface Gram {
  readonly logProbability: number;
  readonly backoff: number;
}

/** KenLM's probability of an unknown word where a model has none. */
const UNKNOWN: Gram = { logProbability: -100, backoff: 0 };

/** P(word | words before) of a word n-gram model. */
export class NgramModel {
  /** The longest n. */
  readonly order: number;
  /** Its words, sorted by code units, without `<s>`, `</s>` and `<unk>`. */
  readonly words: readonly string[];
  readonly #grams: ReadonlyMap<string, Gram>;

  /** `grams` by their words, joined by single spaces. */
  constructor(order: number, grams: ReadonlyMap<string, Gram>) {
    this.order = order;
    this.#grams = grams;
    const words: string[] = [];
    for (const key of grams.keys()) if (!key.includes(" ") && !MARKS.has(key)) words.push(key);
    this.words = words.sort();
  }

  /** Whether the model has the word; otherwise it is as likely as `<unk>`. */
  has(word: string): boolean {
    return this.#grams.has(word) && !MARKS.has(word);
  }

  /** Whether a word begins so. */
  hasPrefix(prefix: string): boolean {
    let [from, to] = [0, this.words.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.words[middle] < prefix) from = middle + 1;
      else to = middle;
    }
    return this.words[from]?.startsWith(prefix) ?? false;
  }

  /** log₁₀ of the probability of a word, or of `</s>`, after others: of as many as the model looks at. */
  logProbability(context: readonly string[], word: string): number {
    const known = (text: string) => (this.#grams.has(text) ? text : "<unk>");
    const [before, own] = [
      context.slice(Math.max(0, context.length - this.order + 1)).map(known),
      known(word),
    ];
    let sum = 0;
    for (let from = 0; from < before.length; from++) {
      const given = before.slice(from).join(" ");
      const gram = this.#grams.get(`${given} ${own}`);
      if (gram) return sum + gram.logProbability;
      sum += this.#grams.get(given)?.backoff ?? 0;
    }
    return sum + (this.#grams.get(own) ?? UNKNOWN).logProbability;
  }
}

const MARKS: ReadonlySet<string> = new Set(["<s>", "</s>", "<unk>"]);

/** Bytes of the largest file that is read: it becomes one string, of which V8 holds no longer. */
const MOST_BYTES = 2 ** 29 - 24;

/**
 * Reads an ARPA file, also a gzipped one. Throws one line that names it and, where one is at fault, the line.
 */
export async function readArpa(host: Host, path: string): Promise<NgramModel> {
  const refused = (why: string, cause?: unknown) => new Error(`Cannot read ${path}: ${why}`, { cause });
  const tooLarge = (bytes: number) =>
    refused(`it holds ${Math.ceil(bytes / 2 ** 20)} MiB of text, and at most 512 are read: prune the model`);
  const { size = 0 } = (await host.entry(path)) ?? {};
  if (size > MOST_BYTES) throw tooLarge(size);
  let bytes = await host.readBytes(path);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b)
    bytes = await gunzip(bytes).catch((cause) => {
      throw refused("it is gzipped, and damaged", cause);
    });
  if (bytes.length > MOST_BYTES) throw tooLarge(bytes.length);
  if (new TextDecoder("latin1").decode(bytes.subarray(0, 12)) === "mmap lm http")
    throw refused(`it is ${KENLM}`);
  try {
    return parseArpa(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw refused(cause instanceof TypeError ? "it is no UTF-8 text" : (cause as Error).message, cause);
  }
}

async function gunzip(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream();
  return new Uint8Array(
    await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer(),
  );
}

/** A log₁₀ probability or weight; some tools write -inf, and -99 stands for it in files of others. */
const numberOf = (text: string): number => (text === "-inf" ? -99 : Number(text));

/** The model of an ARPA text. Throws an Error that says what is wrong, and in which line. */
export function parseArpa(text: string): NgramModel {
  const lines = text.split(/\r?\n/);
  const begin = lines.findIndex((line) => line.trim() === "\\data\\");
  if (begin < 0) throw new Error("it has no line \\data\\, as ARPA files do");
  if (lines.slice(0, begin).some((line) => line.startsWith("iARPA")))
    throw new Error("it is IRSTLM's iARPA, whose numbers are others: compile-lm --text=yes makes ARPA of it");
  const counts: number[] = [];
  const grams = new Map<string, Gram>();
  let order = 0;
  let read = 0;
  for (let index = begin + 1; index < lines.length; index++) {
    const line = lines[index].replace(BLANKS, "");
    if (line === "") continue;
    const wrong = (what: string) => new Error(`line ${index + 1}: ${what}`);
    if (line.startsWith("\\")) {
      if (order > 0 && read !== counts[order - 1])
        throw new Error(`it holds ${read} ${order}-grams but says that they are ${counts[order - 1]}`);
      if (line === "\\end\\") {
        if (order === 0 || order < counts.length)
          throw wrong(`it ends after ${order}-grams, but says that it has ${counts.length}-grams`);
        return new NgramModel(order, grams);
      }
      order++;
      read = 0;
      if (line !== `\\${order}-grams:`) throw wrong(`expected \\${order}-grams:, not ${line}`);
      if (counts[order - 1] === undefined) throw wrong(`there is no "ngram ${order}=" with their number`);
    } else if (order === 0) {
      const [, n, count] = /^ngram\s+(\d+)\s*=\s*(\d+)$/.exec(line) ?? [];
      if (Number(n) !== counts.length + 1) throw wrong(`expected "ngram ${counts.length + 1}=" and a number`);
      counts.push(Number(count));
    } else {
      // Words may hold other blanks of Unicode.
      const [logProbability, ...fields] = line.split(/[ \t]+/);
      const [p, backoff] = [numberOf(logProbability), numberOf(fields[order] ?? "0")];
      if (fields.length < order || fields.length > order + 1 || Number.isNaN(p) || Number.isNaN(backoff))
        throw wrong(
          `expected a number, ${order} ${order === 1 ? "word" : "words"} and at most one number more`,
        );
      const words = fields.slice(0, order).map((word) => (word === "<UNK>" ? "<unk>" : word));
      grams.set(words.join(" "), { logProbability: p, backoff });
      read++;
    }
  }
  throw new Error("it ends without \\end\\: it is cut off");
}

const BLANKS = /^[ \t]+|[ \t]+$/g;
