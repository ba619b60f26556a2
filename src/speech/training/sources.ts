/** Several checkpoints as one: the speech encoder of one, the text encoder of another. */
import type { Safetensors } from "../../io/safetensors.ts";

/** One of them. */
export interface Source {
  readonly file: Safetensors;
  /** The key that a tensor gets; undefined leaves it out. */
  readonly rename: (key: string) => string | undefined;
}

/** All tensors of the sources; where two have the same key, the first counts. */
export function mergeSources(sources: readonly Source[]): Safetensors {
  const tensors = new Map<string, { file: Safetensors; key: string }>();
  for (const { file, rename } of sources) {
    for (const key of file.tensors.keys()) {
      const shown = rename(key);
      if (shown !== undefined && !tensors.has(shown)) tensors.set(shown, { file, key });
    }
  }
  const find = (key: string) => {
    const found = tensors.get(key);
    if (!found) throw new RangeError(`Cannot read ${key}: no checkpoint holds it`);
    return found;
  };
  return {
    tensors: new Map([...tensors].map(([shown, { file, key }]) => [shown, file.tensors.get(key)!])),
    metadata: {},
    read: (key, into, from) => {
      const found = find(key);
      return found.file.read(found.key, into, from);
    },
    async close() {
      for (const { file } of sources) await file.close();
    },
  };
}

/** Keys of a HuBERT checkpoint, with or without prefix, as HubertForCTC has them; other heads are left out. */
export function hubertKeys(key: string): string | undefined {
  if (/^(hubert|wav2vec2)\./.test(key) || key.startsWith("lm_head."))
    return key.replace(/^wav2vec2\./, "hubert.");
  const bare =
    /^(feature_extractor|feature_projection|encoder\.(layers|layer_norm|pos_conv_embed)|masked_spec_embed)\b/;
  return bare.test(key) ? `hubert.${key}` : undefined;
}

/** Keys of a BERT checkpoint, with or without prefix, as BertModel has them; pooler and heads are left out. */
export function bertKeys(key: string): string | undefined {
  const bare = key.replace(/^bert\./, "");
  return /^(embeddings|encoder\.layer)\./.test(bare) ? `bert.${bare}` : undefined;
}
