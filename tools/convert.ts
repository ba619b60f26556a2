/** wavegate convert: PyTorch's own checkpoints as safetensors. */
import { currentHost } from "../src/host/current.ts";
import { type Conversion, convertCheckpoint } from "../src/io/convert_checkpoint.ts";
import { defineVerb, isMain, runVerb, withoutSlash } from "./cli.ts";
import { formatBytes } from "./format.ts";
import type { Progress } from "./progress.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "convert",
  summary: SUMMARIES.convert,
  usage: "IN OUT [options]   (IN: pytorch_model.bin, its index, or a folder with one; OUT: a new folder)",
  example: "wavegate convert hubert-large-ll60k hubert-safetensors",
  options: {
    "shard-mb": {
      type: "count",
      value: "N",
      default: 5000,
      help: "most megabytes of a file; more tensors go to further files, with an index",
    },
  },
  operands: { min: 2 },
  interruptible: true,
  async main({ values, operands, print, printJson, progress, signal }) {
    const [from, to] = operands.map(withoutSlash);
    let bar: Progress | undefined;
    const done = await convertCheckpoint(await currentHost(), from, to, {
      maxShardBytes: values["shard-mb"] * 1e6,
      signal,
      onProgress(bytes, total) {
        bar ??= progress("converting", total / 1e6, { unit: "MB" });
        bar.update(bytes / 1e6);
      },
    }).finally(() => bar?.stop());
    for (const line of report(to, done)) print(line);
    printJson({ from, to, ...done });
    return 0;
  },
});

/** What was written, and all that was not. */
function report(to: string, { files, tensors, bytes, copied, left, dropped, shared }: Conversion): string[] {
  const list = (label: string, names: readonly string[]) =>
    names.length > 0 ? [`  ${label}  ${names.join(", ")}`] : [];
  const where = files.length > 1 ? `${files.length} files and their index` : files[0];
  return [
    `${to}: ${tensors} tensors, ${formatBytes(bytes)}, in ${where}`,
    ...list("copied  ", copied),
    ...list("dropped ", dropped),
    ...list("left out", left),
    ...list(
      "twice   ",
      shared.length > 0 ? [`${shared.join(", ")} (shared storage, written once more)`] : [],
    ),
  ];
}

if (isMain(import.meta)) await runVerb(verb);
