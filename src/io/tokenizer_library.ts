/** Runs a tokenizer.json: npm tokenizers, whose code is native, or npm @huggingface/tokenizers where that cannot be loaded. */

import { loadTokenizer as loadPortable } from "./tokenizer_library.browser.ts";

/** A tokenizer that is ready. */
export interface LoadedTokenizer {
  /** Number of tokens, added ones included. */
  readonly vocabularySize: number;
  /** The id of a token. */
  idOf(token: string): number | undefined;
  /** Encodes a text, with the special tokens around it; of a longer text no more than `maxLength` tokens, these included. */
  encode(text: string, maxLength: number): Promise<{ ids: number[]; tokens: string[] }>;
}

/** By a name that no bundler follows: native code stays outside. */
const NATIVE: string = "tokenizers";

/**
 * Throws what the library says of a text that is no tokenizer.json. The native library is loaded with the first tokenizer: that takes
 * a sixth of the time in which this package loads.
 */
export async function loadTokenizer(json: string): Promise<LoadedTokenizer> {
  const library: typeof import("tokenizers") | undefined = await import(
    /* webpackIgnore: true */ /* @vite-ignore */ NATIVE
  ).catch(() => undefined);
  if (!library) return await loadPortable(json);
  const tokenizer = library.Tokenizer.fromString(json);
  tokenizer.disablePadding();
  let truncated: number | undefined;
  return {
    vocabularySize: tokenizer.getVocabSize(true),
    idOf: (token) => tokenizer.tokenToId(token) ?? undefined,
    async encode(text, maxLength) {
      if (truncated !== maxLength) tokenizer.setTruncation(maxLength);
      truncated = maxLength;
      const encoding = await tokenizer.encode(text);
      return { ids: encoding.getIds(), tokens: encoding.getTokens() };
    },
  };
}
