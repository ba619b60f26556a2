/** Which files of a model are read here. */
import { object, readJsonAs, record, text } from "../io/schema.ts";
import type { Host } from "../host/host.ts";

/** Files of a model folder beside its weights, in its root or in bert/ and hubert/. */
const SMALL: readonly string[] = [
  "config.json",
  "preprocessor_config.json",
  "processor_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "vocab.json",
  "vocab.txt",
  "special_tokens_map.json",
  "added_tokens.json",
  "training.json",
  "launch.json",
];

/** Those that a model needs to be opened. */
const CONFIG = "config.json";

/** Checkpoints in the order in which they are preferred: safetensors before pickles. */
const WEIGHTS = [
  ["model.safetensors", "model.safetensors.index.json"],
  ["pytorch_model.bin", "pytorch_model.bin.index.json"],
] as const;

/** The weights of a folder: files, or the index that names them; both empty where it has none. */
export interface WeightFiles {
  readonly files: readonly string[];
  readonly index?: string;
}

/** Whether a file, by its path in the model, is read beside the weights. */
export function isSmall(path: string): boolean {
  if (path === "language_model/attrs.json") return true;
  const name = path.slice(path.lastIndexOf("/") + 1);
  return SMALL.includes(name) && (path === name || path === `bert/${name}` || path === `hubert/${name}`);
}

/** Whether a file is a language model. */
export const isLanguageModel = (path: string): boolean => /^language_model\/[^/]+\.arpa(\.gz)?$/i.test(path);

/** Which of the files in a model's root hold its weights. */
export function weightsIn(names: readonly string[]): WeightFiles {
  for (const [file, index] of WEIGHTS) {
    if (names.includes(file)) return { files: [file] };
    if (names.includes(index)) return { files: [], index };
    const others = names.filter((name) => name.endsWith(".safetensors") && !name.includes("/"));
    if (file === "model.safetensors" && others.length === 1) return { files: others };
  }
  return { files: [] };
}

const indexSchema = object({ weight_map: record(text("the name of a file beside it", /^[\w-][\w.-]*$/)) });

/** The files that an index names. */
export async function shardsOf(host: Host, index: string): Promise<string[]> {
  return [...new Set(Object.values((await readJsonAs(host, index, indexSchema)).weight_map))];
}

/** What a folder lacks to be opened, as "config.json", so far as that can be told without the hub. */
export async function missingIn(host: Host, folder: string): Promise<string[]> {
  const is = async (name: string) => (await host.entry(`${folder}/${name}`))?.kind === "file";
  const there = (await host.kind(folder)) === "directory" ? await host.list(folder) : [];
  const wanted = [CONFIG];
  const { files, index } = weightsIn(there);
  if (index !== undefined && (await is(index))) wanted.push(...(await shardsOf(host, `${folder}/${index}`)));
  else wanted.push(...(files.length > 0 ? files : [WEIGHTS[0][0]]));
  const missing: string[] = [];
  for (const name of wanted) if (!(await is(name))) missing.push(name);
  return missing;
}
