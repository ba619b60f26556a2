/** The small files of a model folder, so that predict and transformers can open it. */
import type { Host } from "../host/host.ts";
import { type BertTokenizer, openBertTokenizer } from "../io/tokenizer.ts";
import { writeWhole } from "../io/write_whole.ts";
import { CtcVocabulary, openCtcVocabulary } from "../io/vocabulary.ts";
import { toJson } from "./run_folder.ts";

/** The characters of the published 960 h models, in their order; 0 is the blank. */
const CHARACTERS = "<pad> <s> </s> <unk> | E T A O N I H S R D L U M W C F G Y P B V K ' X J Q Z".split(" ");

/** What Wav2Vec2FeatureExtractor reads. */
const PREPROCESSOR = {
  do_normalize: true,
  feature_extractor_type: "Wav2Vec2FeatureExtractor",
  feature_size: 1,
  padding_side: "right",
  padding_value: 0,
  return_attention_mask: true,
  sampling_rate: 16000,
};

export interface Assets {
  readonly vocabulary: CtcVocabulary;
  /** Absent where nothing is read. */
  readonly tokenizer?: BertTokenizer;
  /** Files to be written beside the weights, by name. */
  readonly files: Readonly<Record<string, string>>;
}

/**
 * The CTC vocabulary of `hubert`, or the usual one; BERT's tokenizer of `bert`, a folder with vocab.txt or
 * tokenizer.json.
 */
export async function openAssets(host: Host, hubert?: string, bert?: string): Promise<Assets> {
  const hasVocabulary = hubert !== undefined && (await host.kind(`${hubert}/vocab.json`)) === "file";
  const vocabulary = hasVocabulary
    ? await openCtcVocabulary(host, hubert)
    : new CtcVocabulary(Object.fromEntries(CHARACTERS.map((token, id) => [token, id])));
  const files: Record<string, string> = {
    "vocab.json": toJson(Object.fromEntries(vocabulary.tokens.map((token, id) => [token, id]))),
    "preprocessor_config.json": toJson(PREPROCESSOR),
  };
  if (bert === undefined) return { vocabulary, files };
  const tokenizer = await openBertTokenizer(host, bert);
  for (const name of ["tokenizer.json", "vocab.txt"]) {
    if ((await host.kind(`${bert}/${name}`)) === "file") files[name] = await host.readText(`${bert}/${name}`);
  }
  // No names of special tokens: CTC's and BERT's readers share this file, and each knows its own.
  files["tokenizer_config.json"] = toJson({ do_lower_case: true, model_max_length: tokenizer.maxLength });
  return { vocabulary, tokenizer, files };
}

/** Writes files by name into a folder; a name may hold one folder of its own. */
export async function writeFiles(
  host: Host,
  folder: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const slash = name.lastIndexOf("/");
    if (slash > 0) await host.makeDirectory(`${folder}/${name.slice(0, slash)}`);
    await writeWhole(host, `${folder}/${name}`, text);
  }
}
