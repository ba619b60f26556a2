/** Texts as BERT reads them. */
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { BertInput } from "../../models/bert.ts";

/** Lower-cased, for the words of a CTC head are capitals; tokenised, cut to `most` tokens and padded to one length. */
export async function tokenizeWords(
  tokenizer: BertTokenizer,
  texts: readonly string[],
  most: number,
): Promise<BertInput> {
  const rows = await Promise.all(
    texts.map(async (text) => truncateTokens((await tokenizer.encode(text.toLowerCase())).ids, most)),
  );
  return padRows(rows, tokenizer.padId);
}

/** A text that is too long loses its end, but not [SEP]. */
export const truncateTokens = (ids: readonly number[], most: number): readonly number[] =>
  ids.length <= most ? ids : [...ids.slice(0, most - 1), ids[ids.length - 1]];

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
