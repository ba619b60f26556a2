/** wavegate inspect: what a file of tensors or a model folder holds. */
import { currentHost } from "../src/host/current.ts";
import type { StoredDType } from "../src/io/dtype.ts";
import { openCheckpoint } from "../src/io/checkpoint.ts";
import { type TensorStatistics, tensorStatistics } from "../src/io/tensor_statistics.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { formatBytes, formatTable } from "./format.ts";
import { modelOf } from "./hub.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "inspect",
  summary: SUMMARIES.inspect,
  usage:
    "FILE|FOLDER [options]   (safetensors, or what torch.save() wrote; or ORG/NAME[@REVISION] of the Hugging Face Hub)",
  example: "wavegate inspect model.safetensors --match 'layers.0.*weight'",
  options: {
    match: { type: "string", value: "REGEX", help: "only keys that match" },
    keys: { type: "boolean", help: "no statistics: reads the header alone" },
  },
  operands: { min: 1 },
  async main({ values, operands: [name], print, printJson, ...output }) {
    const { progress } = output;
    const wanted = pattern(values.match);
    const host = await currentHost();
    const file = await openCheckpoint(host, await modelOf(host, name, "inspect", output));
    try {
      const entries = [...file.tensors].filter(([key]) => wanted.test(key));
      const total = entries.reduce((sum, [, entry]) => sum + entry.bytes, 0);
      const bar = progress("reading", total / 2 ** 20, { unit: "MiB" });
      const tensors: Row[] = [];
      let done = 0;
      for (const [key, entry] of entries) {
        const statistics = values.keys
          ? undefined
          : await tensorStatistics(file, key, (bytes) => bar.update((done + bytes) / 2 ** 20, key));
        done += entry.bytes;
        tensors.push({ key, dtype: entry.dtype, shape: entry.shape, bytes: entry.bytes, ...statistics });
      }
      bar.stop();
      const summary = {
        files: [...new Set(entries.map(([, entry]) => entry.file))],
        tensors: tensors.length,
        of: file.tensors.size,
        elements: tensors.reduce((sum, row) => sum + elements(row), 0),
        bytes: total,
      };
      show(tensors, summary, file.metadata, print);
      for (const line of file.dropped ?? []) print(`not a tensor: ${line}`);
      printJson({ ...summary, metadata: file.metadata, dropped: file.dropped, tensors });
    } finally {
      await file.close();
    }
    return 0;
  },
});

interface Row extends TensorStatistics {
  readonly key: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  readonly bytes: number;
}

const elements = ({ shape }: Row) => shape.reduce((a, b) => a * b, 1);

function pattern(text: string | undefined): RegExp {
  try {
    return new RegExp(text ?? "");
  } catch (error) {
    throw new UsageError(`Cannot read --match ${text}: ${(error as Error).message}`);
  }
}

function show(
  tensors: readonly Row[],
  summary: { files: string[]; tensors: number; of: number; elements: number; bytes: number },
  metadata: Readonly<Record<string, string>>,
  print: (line?: string) => void,
): void {
  const figure = (v: number | undefined) => (v === undefined ? "-" : Number(v.toPrecision(4)).toString());
  const withStatistics = tensors.some((row) => row.nan !== undefined);
  const header = ["key", "dtype", "shape", "bytes"];
  const rows = tensors.map((row) => {
    const cells = [row.key, row.dtype, `(${row.shape.join(", ")})`, formatBytes(row.bytes)];
    if (!withStatistics) return cells;
    const nonFinite = (row.nan ?? 0) + (row.inf ?? 0);
    return [...cells, ...[row.min, row.max, row.mean, row.std].map(figure), `${nonFinite}`];
  });
  if (rows.length > 0)
    for (const line of formatTable(
      withStatistics ? [...header, "min", "max", "mean", "std", "NaN/inf"] : header,
      rows,
    ))
      print(line);
  for (const [key, value] of Object.entries(metadata)) print(`metadata  ${key}: ${value}`);
  const share = summary.tensors === summary.of ? "" : ` of ${summary.of}`;
  const shards = summary.files.length > 1 ? ` in ${summary.files.length} files` : "";
  print(
    `${summary.tensors}${share} tensors, ${summary.elements.toLocaleString("en")} elements, ${formatBytes(summary.bytes)}${shards}`,
  );
}

if (isMain(import.meta)) await runVerb(verb);
