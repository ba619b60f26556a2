/**
 * The keys under which checkpoints hold a tensor, and the tensors that a model does not need. Models ask for a tensor by the key
 * of the Hugging Face class; only this table has the others.
 */

/** Prefixes of the same encoder, the empty one included. */
const prefixes: readonly (readonly string[])[] = [
  ["hubert.", "wav2vec2.", ""],
  ["bert.", ""],
  ["cmgi.", ""],
];

/** Endings of the same tensor in other versions of the libraries: TensorFlow's names of a norm, torch's new weight norm. */
const endings: readonly (readonly [string, string])[] = [
  [".LayerNorm.weight", ".LayerNorm.gamma"],
  [".LayerNorm.bias", ".LayerNorm.beta"],
  [".weight_g", ".parametrizations.weight.original0"],
  [".weight_v", ".parametrizations.weight.original1"],
];

/** All keys under which a checkpoint may hold the tensor `key`, that one first. */
export function spellings(key: string): string[] {
  const family = prefixes.find((group) => group.some((p) => p !== "" && key.startsWith(p)));
  const own = family?.find((p) => p !== "" && key.startsWith(p)) ?? "";
  const bare = key.slice(own.length);
  const prefixed = family ? [key, ...family.filter((p) => p !== own).map((p) => p + bare)] : [key];
  return prefixed.flatMap((k) => [
    k,
    ...endings.filter(([from]) => k.endsWith(from)).map(([from, to]) => k.slice(0, -from.length) + to),
  ]);
}

/**
 * Tensors of published checkpoints that a model may not need: HuBERT's mask embedding without SpecAugment; BERT's pooler and
 * buffers, its head for next sentences, and the decoder that is tied to the word embeddings.
 */
const ignorable = [
  /^((hubert|wav2vec2)\.)?masked_spec_embed$/,
  /^bert\.pooler\./,
  /^(bert\.)?embeddings\.(position|token_type)_ids$/,
  /^cls\.(seq_relationship|predictions\.decoder)\./,
];

/** Whether a tensor of a checkpoint may remain unused; transformers' _keys_to_ignore_on_load_unexpected. */
export const mayIgnore = (key: string): boolean => ignorable.some((pattern) => pattern.test(key));
