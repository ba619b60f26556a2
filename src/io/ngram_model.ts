/** Word n-gram models with backoff, in the ARPA format, as KenLM's lmplz, SRILM and IRSTLM write it. */

import type { Host } from "../host/host.ts";
import { readUtf8 } from "./encoding.ts";

/** A word after a context, both numbers base 10. */
interface Gram {
  readonly logProbability: number;
  readonly backoff: number;
}

/** KenLM's probability of an unknown word where a model has none. */
const UNKNOWN: Gram = { logProbability: -100, backoff: 0 };

/** An n-gram model. */
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
    this.words = [...grams.keys()].filter((key) => !key.includes(" ") && !MARKS.has(key)).sort();
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
    let sum = 0;
    for (let from = Math.max(0, context.length - this.order + 1); from < context.length; from++) {
      const before = context.slice(from).join(" ");
      const gram = this.#grams.get(`${before} ${word}`);
      if (gram) return sum + gram.logProbability;
      sum += this.#grams.get(before)?.backoff ?? 0;
    }
    return sum + (this.#grams.get(word) ?? this.#grams.get("<unk>") ?? UNKNOWN).logProbability;
  }
}

const MARKS: ReadonlySet<string> = new Set(["<s>", "</s>", "<unk>"]);

/** Reads an ARPA file. Throws one line that names it and, where one is at fault, the line. */
export async function readArpa(host: Host, path: string): Promise<NgramModel> {
  const text = await readUtf8(host, path);
  try {
    return parseArpa(text);
  } catch (cause) {
    throw new Error(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** The model of an ARPA text. Throws an Error that says what is wrong, and in which line. */
export function parseArpa(text: string): NgramModel {
  const lines = text.split(/\r?\n/);
  const begin = lines.findIndex((line) => line.trim() === "\\data\\");
  if (begin < 0) throw new Error("it has no line \\data\\, as ARPA files do");
  const counts: number[] = [];
  const grams = new Map<string, Gram>();
  let order = 0;
  let read = 0;
  const finish = () => {
    if (order > 0 && read !== counts[order - 1])
      throw new Error(`it holds ${read} ${order}-grams but says that they are ${counts[order - 1]}`);
  };
  for (const [index, line] of lines.entries()) {
    if (index <= begin || line.trim() === "") continue;
    const wrong = (what: string) => new Error(`line ${index + 1}: ${what}`);
    if (line.startsWith("\\")) {
      finish();
      if (line.trim() === "\\end\\") {
        if (order === 0 || order < counts.length)
          throw wrong(`it ends after ${order}-grams, but says that it has ${counts.length}-grams`);
        return new NgramModel(order, grams);
      }
      if (line.trim() !== `\\${order + 1}-grams:`)
        throw wrong(`expected \\${order + 1}-grams:, not ${line.trim()}`);
      order++;
      read = 0;
    } else if (order === 0) {
      const [, n, count] = /^ngram\s+(\d+)\s*=\s*(\d+)\s*$/.exec(line) ?? [];
      if (Number(n) !== counts.length + 1) throw wrong(`expected "ngram ${counts.length + 1}=" and a number`);
      counts.push(Number(count));
    } else {
      const [logProbability, ...fields] = line.trim().split(/\s+/);
      const [p, backoff] = [Number(logProbability), Number(fields[order] ?? 0)];
      if (fields.length < order || fields.length > order + 1 || Number.isNaN(p) || Number.isNaN(backoff))
        throw wrong(
          `expected a number, ${order} ${order === 1 ? "word" : "words"} and at most one number more`,
        );
      grams.set(fields.slice(0, order).join(" "), { logProbability: p, backoff });
      read++;
    }
  }
  throw new Error("it ends without \\end\\: it is cut off");
}
