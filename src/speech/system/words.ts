/** Texts as input of BERT. */
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { BertInput } from "../../models/bert.ts";

/** Texts in lower case, since a CTC head writes capitals, tokenised, cut to `maxTokens` tokens and padded to one length. */
export async function tokenizeWords(
  tokenizer: BertTokenizer,
  texts: readonly string[],
  maxTokens: number,
): Promise<BertInput> {
  const rows = await Promise.all(
    texts.map(async (text) => truncateTokens((await tokenizer.encode(text.toLowerCase())).ids, maxTokens)),
  );
  return padRows(rows, tokenizer.padId);
}

/** The first `maxTokens` tokens, the last of them replaced by [SEP] where that would be cut off. */
export const truncateTokens = <T>(ids: readonly T[], maxTokens: number): readonly T[] =>
  ids.length <= maxTokens ? ids : [...ids.slice(0, maxTokens - 1), ids[ids.length - 1]];

/** Rows of ids padded to the longest, with their mask. */
export function padRows(rows: readonly (readonly number[])[], pad: number): BertInput {
  const T = Math.max(...rows.map((row) => row.length));
  const fill = (row: readonly number[], value: number) => [
    ...row,
    ...new Array<number>(T - row.length).fill(value),
  ];
  return {
    ids: rows.map((row) => fill(row, pad)),
    mask: rows.map(({ length }) => fill(new Array<number>(length).fill(1), 0)),
  };
}
