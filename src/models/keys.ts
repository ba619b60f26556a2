/**
 * Every spelling under which a checkpoint may hold a tensor that a model here asks for, and what it may hold besides.
 * A model asks by the key of its Hugging Face class; this table alone knows the others.
 */

/** Prefixes under which the same backbone is saved, the empty one included. */
const families: readonly (readonly string[])[] = [
  ["hubert.", "wav2vec2.", ""],
  ["bert.", ""],
  ["cmgi.", ""],
];

/** Endings that older or newer libraries write instead: TensorFlow's names of a norm, torch's two forms of weight norm. */
const endings: readonly (readonly [string, string])[] = [
  [".LayerNorm.weight", ".LayerNorm.gamma"],
  [".LayerNorm.bias", ".LayerNorm.beta"],
  [".weight_g", ".parametrizations.weight.original0"],
  [".weight_v", ".parametrizations.weight.original1"],
];

/** All spellings of `key`, its own first. */
export function spellings(key: string): string[] {
  const family = families.find((prefixes) => prefixes.some((p) => p !== "" && key.startsWith(p)));
  const own = family?.find((p) => p !== "" && key.startsWith(p)) ?? "";
  const bare = key.slice(own.length);
  const prefixed = family ? [key, ...family.filter((p) => p !== own).map((p) => p + bare)] : [key];
  return prefixed.flatMap((k) => [
    k,
    ...endings.filter(([from]) => k.endsWith(from)).map(([from, to]) => k.slice(0, -from.length) + to),
  ]);
}

/**
 * What published checkpoints hold among a model's own tensors though it does not need them: BERT's pooler and buffers,
 * its second pretraining head, and the decoder that is tied to the word embeddings; HuBERT's mask where none is drawn.
 */
const needless = [
  /^((hubert|wav2vec2)\.)?masked_spec_embed$/,
  /^bert\.pooler\./,
  /^(bert\.)?embeddings\.(position|token_type)_ids$/,
  /^cls\.(seq_relationship|predictions\.decoder)\./,
];

/** Whether a tensor may be left over. */
export const mayIgnore = (key: string): boolean => needless.some((pattern) => pattern.test(key));
