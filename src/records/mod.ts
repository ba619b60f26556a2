/** The records of all operators. */
import { modulesBeside } from "../host/modules.ts";
import type { OpInfo } from "./op_info.ts";

/** Everything that a file of this folder exports as `records`. */
export async function loadRecords(): Promise<OpInfo[]> {
  const modules = await modulesBeside(import.meta.url);
  return modules.flatMap(({ records = [] }) => records as OpInfo[]);
}

const plain = (name: string) => name.toLowerCase().replaceAll("_", "");

/** The records whose name contains one of the words, whatever their case; all where there is no word. */
export const selectRecords = (records: readonly OpInfo[], words: readonly string[]): OpInfo[] =>
  records.filter(({ name }) => words.length === 0 || words.some((word) => plain(name).includes(plain(word))));
