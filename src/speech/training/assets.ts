/** Vocabulary, tokenizer and feature extractor of a model, and the files that they have in its folder. */
import type { Host } from "../../host/host.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { readOptionalJson } from "../../io/config.ts";
import { type BertTokenizer, bertTokenizerFolder, openBertTokenizer } from "../../io/tokenizer.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { CtcVocabulary, openCtcVocabulary } from "../../io/vocabulary.ts";
import { openFeatureExtractor } from "../../models/feature_extractor.ts";
import { toJson } from "../../train/run_folder.ts";

/** The vocabulary of the published models that were fine-tuned on LibriSpeech; 0 is the blank. */
const CHARACTERS = "<pad> <s> </s> <unk> | E T A O N I H S R D L U M W C F G Y P B V K ' X J Q Z".split(" ");

/** preprocessor_config.json for Wav2Vec2FeatureExtractor. */
const PREPROCESSOR = {
  do_normalize: true,
  feature_extractor_type: "Wav2Vec2FeatureExtractor",
  feature_size: 1,
  padding_side: "right",
  padding_value: 0,
  return_attention_mask: true,
  sampling_rate: SAMPLE_RATE,
};

/** What a model has besides its weights and its config. */
export interface Assets {
  readonly vocabulary: CtcVocabulary;
  /** Whether each utterance is brought to zero mean and unit variance. */
  readonly normalize: boolean;
  /** Of BERT; absent where no words are read. */
  readonly tokenizer?: BertTokenizer;
  /** Content of the files beside the weights, by name. */
  readonly files: Readonly<Record<string, string>>;
  /** The same for BERT's tokenizer; in bert/ of a model with speech, since both have a tokenizer_config.json. */
  readonly bertFiles: Readonly<Record<string, string>>;
}

/**
 * Opens the CTC vocabulary and the feature extractor in the folder `hubert`, else those of the published models, and BERT's
 * tokenizer in the folder `bert`, from vocab.txt or tokenizer.json.
 */
export async function openAssets(host: Host, hubert?: string, bert?: string): Promise<Assets> {
  const hasVocabulary = hubert !== undefined && (await host.kind(`${hubert}/vocab.json`)) === "file";
  const vocabulary = hasVocabulary
    ? await openCtcVocabulary(host, hubert)
    : new CtcVocabulary(Object.fromEntries(CHARACTERS.map((token, id) => [token, id])));
  const normalize = hubert === undefined || (await openFeatureExtractor(host, hubert)).normalize;
  const assets = {
    ...{ vocabulary, normalize, bertFiles: {} },
    files: {
      ...vocabularyFiles(vocabulary),
      "preprocessor_config.json": toJson({ ...PREPROCESSOR, do_normalize: normalize }),
    },
  };
  if (bert === undefined) return assets;
  const tokenizer = await openBertTokenizer(host, bert);
  return { ...assets, tokenizer, bertFiles: await tokenizerFiles(host, bert, tokenizer) };
}

/** Files for Wav2Vec2CTCTokenizer. */
function vocabularyFiles({ vocab, added, names }: CtcVocabulary): Record<string, string> {
  const fresh = Object.entries(added).filter(([token]) => !Object.hasOwn(vocab, token));
  return {
    "vocab.json": toJson(vocab),
    ...(fresh.length > 0 ? { "added_tokens.json": toJson(Object.fromEntries(fresh)) } : {}),
    "tokenizer_config.json": toJson({
      tokenizer_class: "Wav2Vec2CTCTokenizer",
      pad_token: names.pad,
      unk_token: names.unknown,
      bos_token: names.special[0],
      eos_token: names.special[1],
      word_delimiter_token: names.delimiter,
      do_lower_case: names.lowerCase,
    }),
  };
}

/** Keys of tokenizer_config.json that change how BertTokenizer splits a text. */
const TOKENIZER_KEYS = [
  ...["do_lower_case", "strip_accents", "tokenize_chinese_chars"],
  ...["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"],
];

/** Files for BertTokenizer: those in `folder`, with the defaults that `tokenizer` took. */
async function tokenizerFiles(
  host: Host,
  folder: string,
  tokenizer: BertTokenizer,
): Promise<Record<string, string>> {
  const from = await bertTokenizerFolder(host, folder);
  const files: Record<string, string> = {};
  for (const name of ["tokenizer.json", "vocab.txt"]) {
    if ((await host.kind(`${from}/${name}`)) === "file") files[name] = await host.readText(`${from}/${name}`);
  }
  const given = await readOptionalJson(host, `${from}/tokenizer_config.json`);
  const own = Object.fromEntries(TOKENIZER_KEYS.flatMap((key) => (key in given ? [[key, given[key]]] : [])));
  files["tokenizer_config.json"] = toJson({
    tokenizer_class: "BertTokenizer",
    do_lower_case: true,
    ...own,
    model_max_length: tokenizer.maxLength,
  });
  return files;
}

/** Writes files by name into a folder; a name may begin with a subfolder, which is created. */
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
