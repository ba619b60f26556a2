/** Where language models lie: ARPA files, and folders as pyctcdecode writes them. Apart from what reads them, which few models need. */

import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { object, parse, readJsonAs } from "./schema.ts";

/** How a language model is weighed, by pyctcdecode's names and defaults. */
export interface LanguageModelWeights {
  /** Weight of ln P. Default 0.5. */
  readonly alpha: number;
  /** What a word is worth, as every word makes P smaller. Default 1.5. */
  readonly beta: number;
  /** Added to log₁₀ P of a word that the model lacks; and, as it is, to an open word that none begins with. Default −10. */
  readonly unkScoreOffset: number;
  /** Whether a text begins with `<s>` and ends with `</s>`. Default true. */
  readonly scoreBoundary: boolean;
}

/** What a binary file of KenLM is, for messages. */
export const KENLM = "in a binary format of KenLM, which is not read: an ARPA file is, as lmplz writes it";

/** Where a language model lies, and its weight. */
export interface LanguageModelFiles {
  /** The ARPA file. */
  readonly path: string;
  /** Others are the defaults. */
  readonly weights: Partial<LanguageModelWeights>;
}

/** attrs.json, as pyctcdecode writes it. `file`: a name for where a folder cannot be listed, as by a browser. */
const attributes = object({
  alpha: v.optional(v.pipe(v.number(), v.finite())),
  beta: v.optional(v.pipe(v.number(), v.finite())),
  unk_score_offset: v.optional(v.pipe(v.number(), v.finite())),
  score_boundary: v.optional(v.boolean()),
  file: v.optional(v.pipe(v.string(), v.regex(/^[\w-][\w.-]*$/, "the name of a file beside it"))),
});

/** Why a folder has no language model that is of use. */
interface Unusable {
  readonly why: string;
}

/**
 * Finds a language model: an ARPA file, or a folder with one and with pyctcdecode's `attrs.json`, by itself or as `language_model`
 * in a model folder. Throws one line where there is none.
 */
export async function findLanguageModel(host: Host, path: string): Promise<LanguageModelFiles> {
  const kind = await host.kind(path);
  if (kind === "file") return { path, weights: {} };
  const found =
    (await languageModelIn(host, `${path}/language_model`)) ?? (await languageModelIn(host, path));
  if (found && "path" in found) return found;
  const why = found?.why ?? (kind ? "it holds no ARPA file" : "there is no such file or folder");
  throw new Error(`Cannot take ${path} as a language model: ${why}`);
}

/** The language model of a model folder, or why it is of no use; undefined where it has none. */
export async function languageModelOf(
  host: Host,
  model: string,
): Promise<LanguageModelFiles | Unusable | undefined> {
  try {
    return await languageModelIn(host, `${model}/language_model`);
  } catch (error) {
    return { why: (error as Error).message };
  }
}

async function languageModelIn(
  host: Host,
  folder: string,
): Promise<LanguageModelFiles | Unusable | undefined> {
  const names = await listed(host, folder);
  const source = `${folder}/attrs.json`;
  const described = names ? names.includes("attrs.json") : (await host.kind(source)) === "file";
  const { file, unk_score_offset, score_boundary, alpha, beta } = described
    ? await readJsonAs(host, source, attributes)
    : parse(attributes, {}, source);
  const weights = { alpha, beta, unkScoreOffset: unk_score_offset, scoreBoundary: score_boundary };
  if (file !== undefined) {
    const path = `${folder}/${file}`;
    return (await host.kind(path)) === "file"
      ? { path, weights }
      : { why: `attrs.json names ${file}, which is not there` };
  }
  if (!names)
    return described
      ? { why: "attrs.json does not name its file, and the folder cannot be listed" }
      : undefined;
  const arpa = names.filter((name) => /\.arpa(\.gz)?$/i.test(name));
  if (arpa.length === 1) return { path: `${folder}/${arpa[0]}`, weights };
  if (arpa.length > 1) return { why: `it holds ${arpa.length} ARPA files, expected one` };
  const binary = names.find(
    (name) => /\.(bin|binary|klm|trie)$/i.test(name) && !name.startsWith("pytorch_model"),
  );
  if (binary) return { why: `${binary} is ${KENLM}` };
  return described ? { why: "it holds no ARPA file" } : undefined;
}

/** Names in a folder; undefined where there is none, or where it cannot be listed, as by a browser. */
async function listed(host: Host, folder: string): Promise<string[] | undefined> {
  if ((await host.kind(folder)) !== "directory") return undefined;
  return await host.list(folder).catch(() => undefined);
}
