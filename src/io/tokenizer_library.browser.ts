/** In a browser: what tokenizer_library.ts exports, by Hugging Face's tokenizers in JavaScript. */

import type { LoadedTokenizer } from "./tokenizer_library.ts";

/** Throws what the library says of a text that is no tokenizer.json. */
export async function loadTokenizer(json: string): Promise<LoadedTokenizer> {
  const { Tokenizer } = await import("@huggingface/tokenizers");
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  const tokenizer = new Tokenizer({ ...parts, ...JSON.parse(json) }, {});
  // [CLS] before and [SEP] behind, as BERT's.
  const around = tokenizer.encode("").ids.length;
  if (around !== 0 && around !== 2)
    throw new SyntaxError(`the tokenizer puts ${around} special tokens around a text, BERT's 2 expected`);
  const behind = around / 2;
  return {
    vocabularySize: tokenizer.get_vocab(true).size,
    idOf: (token) => tokenizer.token_to_id(token),
    async encode(text, maxLength) {
      const { ids, tokens } = tokenizer.encode(text);
      const cut = <T>(all: T[]): T[] =>
        all.length > maxLength
          ? [...all.slice(0, maxLength - behind), ...all.slice(all.length - behind)]
          : all;
      return { ids: cut(ids), tokens: cut(tokens) };
    },
  };
}
