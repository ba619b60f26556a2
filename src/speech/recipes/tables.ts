/**
 * The rows of the paper's tables: which system each is, which words it is tested on, and the published figures. Two rows may
 * be one trained system that is evaluated twice.
 */
import { SYSTEMS, type SystemName, systemOf } from "./systems.ts";

/** A row of a table. */
export interface PaperRow {
  /** Number of the table; 0: the paper has no such row. */
  readonly table: 0 | 1 | 2 | 3;
  /** Number of the row, from 1; 0 where the paper has none. */
  readonly row: number;
  /** What the row is called in reports. */
  readonly title: string;
  /** Name of the system; absent: a cited figure, which cannot be trained here. */
  readonly system?: SystemName;
  /** The words that the system reads in the test; absent where it reads none. */
  readonly words?: "true" | "recognised";
  /** Percent, as printed; absent where the paper has none. */
  readonly published: { readonly ua?: number; readonly wa?: number; readonly wer?: number };
  /** What is not as in the paper. */
  readonly note?: string;
}

/** Of Table 3, which cites other publications, no figures are at hand. */
export const PAPER_ROWS: readonly PaperRow[] = [
  {
    ...{ table: 1, row: 1, title: "HuBERT, emotion only", system: "acoustic" },
    published: { ua: 70.32, wa: 70.84 },
  },
  {
    ...{ table: 1, row: 2, title: "HuBERT shared with ASR", system: "acoustic-asr" },
    published: { ua: 75.28, wa: 75.13, wer: 13.57 },
  },
  {
    ...{ table: 1, row: 3, title: "LSTM shared with listen-attend-spell", system: "lstm-las" },
    published: { ua: 64.4, wa: 63.1, wer: 56.4 },
  },
  {
    ...{
      table: 1,
      row: 4,
      title: "LSTM on the hidden states of an LSTM-attention recogniser",
      system: "lstm-las-hidden",
    },
    published: { ua: 69.7, wa: 68.6, wer: 35.7 },
  },
  {
    ...{
      table: 1,
      row: 5,
      title: "LSTM-attention on speech + LSTM-attention on recognised words",
      system: "lstm-both",
    },
    ...{ words: "recognised", published: { ua: 75.9, wa: 76.1, wer: 43.5 } },
    note: "a CTC recogniser stands for the DNN-HMM of the publication",
  },
  {
    ...{
      table: 1,
      row: 6,
      title: "wav2vec 2.0 shared with ASR + BERT, single stage",
      system: "wav2vec2-both",
    },
    ...{ words: "recognised", published: { wa: 74.2, wer: 15 } },
  },
  {
    ...{ table: 1, row: 7, title: "HuBERT shared with ASR + BERT", system: "both-none" },
    ...{ words: "recognised", published: { ua: 77.25, wa: 76.86, wer: 13.61 } },
  },
  {
    ...{ table: 1, row: 8, title: "BERT on the true words", system: "text-noasr" },
    ...{ words: "true", published: { ua: 67.13, wa: 66.85 } },
  },
  {
    ...{ table: 1, row: 9, title: "HuBERT + BERT on the true words", system: "both-none-noasr" },
    ...{ words: "true", published: { ua: 72.15, wa: 73.07 } },
  },
  {
    ...{ table: 1, row: 10, title: "HuBERT shared with ASR + BERT on the true words", system: "both-none" },
    ...{ words: "true", published: { ua: 77.64, wa: 77.36, wer: 13.64 } },
  },
  {
    ...{ table: 2, row: 1, title: "self-attention", system: "both-self" },
    ...{ words: "recognised", published: { ua: 78.1, wa: 77.58 } },
  },
  {
    ...{ table: 2, row: 2, title: "self-attention + gated fusion", system: "both-self-gated" },
    ...{ words: "recognised", published: { ua: 78.22, wa: 78.37 } },
  },
  {
    ...{ table: 2, row: 3, title: "cross-modal attention", system: "both-cross" },
    ...{ words: "recognised", published: { ua: 78.27, wa: 78.03 } },
  },
  {
    ...{ table: 2, row: 4, title: "cross-modal attention + gated fusion", system: "both-cross-gated" },
    ...{ words: "recognised", published: { ua: 78.39, wa: 78.21 } },
  },
  {
    ...{ table: 2, row: 5, title: "CmGI", system: "both-cmgi" },
    ...{ words: "recognised", published: { ua: 79.62, wa: 79.5 } },
  },
  {
    ...{ table: 2, row: 6, title: "CmGI without temporal gated fusion", system: "both-cmgi-pooled" },
    ...{ words: "recognised", published: { ua: 78.85, wa: 78.54 } },
  },
];

/**
 * The rows of names: "table1", "table2", or names of systems, each row once. A system of neither table has a row without
 * published figures. Throws a RangeError for other names.
 */
export function rowsOf(names: readonly string[]): PaperRow[] {
  const found = new Map<string, PaperRow>();
  for (const name of names)
    for (const row of named(name)) found.set(`${row.table}.${row.row}.${row.table > 0 || row.system}`, row);
  return [...found.values()];
}

function named(name: string): readonly PaperRow[] {
  const table = /^table(\d+)$/.exec(name)?.[1];
  if (table !== undefined) {
    const rows = PAPER_ROWS.filter((row) => row.table === Number(table));
    if (rows.length > 0) return rows;
    throw new RangeError(`Cannot list the rows of ${name}: figures are known of table1 and table2`);
  }
  if (!Object.hasOwn(SYSTEMS, name))
    throw new RangeError(
      `Cannot list the rows of ${name}: expected table1, table2 or a system, ${Object.keys(SYSTEMS).join(", ")}`,
    );
  const system = name as SystemName;
  if (systemOf(name).pretrains)
    throw new RangeError(`Cannot list the rows of ${name}: it is pretraining, which recognises no emotion`);
  const rows = PAPER_ROWS.filter((row) => row.system === system);
  if (rows.length > 0) return rows;
  const { modalities, asr } = systemOf(system);
  const words = modalities === "acoustic" ? undefined : asr ? "recognised" : "true";
  return [{ table: 0, row: 0, title: system, system, words, published: {} }];
}
