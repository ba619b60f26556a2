/** The files that predict writes: which, and where. */
import type { Host } from "../../src/host/host.ts";
import { writeSafetensors } from "../../src/io/safetensors_writer.ts";
import { checkWritable, writeWhole } from "../../src/io/write_whole.ts";
import {
  ENDINGS,
  type Format,
  FORMATS,
  type RecognizedFile,
  SINGLE_FORMATS,
  segmentsOf,
  stem,
  toAudacity,
  toCsv,
  toRttm,
  toSrt,
  toVtt,
} from "../../src/speech/predict/formats.ts";
import { recordingPage } from "../../src/speech/predict/page.ts";
import { Waveform } from "../../src/speech/predict/waveform.ts";
import { UsageError } from "../cli.ts";

/** Where results go. */
export interface OutputPlan {
  readonly format: Format;
  /** A file of each recording, by its index; or all in one file; neither: stdout. */
  readonly each?: readonly string[];
  readonly file?: string;
}

const isSingle = (format: Format) => (SINGLE_FORMATS as readonly string[]).includes(format);

/** Reads --format and --out; undefined where neither is given. Throws where recordings and files do not fit. */
export async function planOutputs(
  host: Host,
  { format: given, out }: { readonly format?: string; readonly out?: string },
  files: readonly string[],
): Promise<OutputPlan | undefined> {
  if (given === undefined && out === undefined) return undefined;
  const format = (given as Format | undefined) ?? formatOf(out ?? "");
  const many = files.length > 1 && isSingle(format);
  if (out === undefined) {
    if (many)
      throw new UsageError(
        `Cannot write ${files.length} recordings as ${format} to stdout: --out DIR takes a file of each`,
      );
    return { format };
  }
  const kind = await host.kind(out);
  const isFolder = kind === "directory" || /[/\\]$/.test(out);
  if (!isFolder && !many) {
    await checkWritable(host, out);
    return { format, file: out };
  }
  if (kind === "file")
    throw new UsageError(
      `Cannot write ${files.length} recordings as ${format} to ${out}: a folder is needed, and it is a file`,
    );
  await host.makeDirectory(out);
  const folder = out.replace(/[/\\]+$/, "");
  const each = files.map((file) => `${folder}/${stem(file)}.${ENDINGS[format]}`);
  for (const [i, path] of each.entries()) {
    const first = each.indexOf(path);
    if (first < i)
      throw new UsageError(`Cannot write ${path}: it would be both of ${files[first]} and of ${files[i]}`);
    await checkWritable(host, path);
  }
  return { format, each };
}

function formatOf(out: string): Format {
  const ending = /\.([^./\\]+)$/.exec(out)?.[1].toLowerCase();
  const format = FORMATS.find((each) => ENDINGS[each] === ending);
  if (!format)
    throw new UsageError(`Cannot tell the format of --out ${out}: --format is one of ${FORMATS.join(", ")}`);
  return format;
}

/** Collects what was recognised, and writes it. */
export class Outputs {
  readonly #host: Host;
  readonly #plan: OutputPlan;
  readonly #model: string;
  /** One JSON document of files, as --json prints it. */
  readonly #json: (files: readonly RecognizedFile[]) => unknown;
  readonly #waveforms = new Map<number, Waveform>();
  readonly #files: RecognizedFile[] = [];
  readonly #writes: Promise<void>[] = [];

  constructor(
    host: Host,
    plan: OutputPlan,
    model: string,
    json: (files: readonly RecognizedFile[]) => unknown,
  ) {
    [this.#host, this.#plan, this.#model, this.#json] = [host, plan, model, json];
  }

  /** Takes a piece of a recording. */
  samples(index: number, piece: Float32Array): void {
    if (this.#plan.format !== "html") return;
    const waveform = this.#waveforms.get(index) ?? new Waveform();
    this.#waveforms.set(index, waveform);
    waveform.push(piece);
  }

  /** Takes what was recognised in a recording. */
  add(index: number, recognised: RecognizedFile): void {
    this.#files[index] = recognised;
    const path = this.#plan.each?.[index];
    if (path === undefined) return;
    const write = writeWhole(this.#host, path, this.#text([recognised], index));
    write.catch(() => {}); // finish() throws it
    this.#writes.push(write);
  }

  /** Writes what is left. Returns the text for stdout, where that is where it goes. */
  async finish(): Promise<string | undefined> {
    const { each, file } = this.#plan;
    await Promise.all(this.#writes);
    if (each) return undefined;
    const files = this.#files.filter((found) => found !== undefined);
    const single = isSingle(this.#plan.format);
    if (single && files.length === 0) return undefined;
    const text = this.#text(files, this.#files.indexOf(files[0]));
    if (file === undefined) return text;
    await writeWhole(this.#host, file, text);
    return undefined;
  }

  #text(files: readonly RecognizedFile[], index: number): string {
    const [first] = files;
    switch (this.#plan.format) {
      case "json":
        return `${JSON.stringify(this.#json(files))}\n`;
      case "csv":
        return toCsv(files);
      case "rttm":
        return toRttm(files);
      case "srt":
        return toSrt(first);
      case "vtt":
        return toVtt(first);
      case "audacity":
        return toAudacity(first);
      case "html": {
        const page = recordingPage(first, this.#waveforms.get(index) ?? new Waveform(), this.#model);
        this.#waveforms.delete(index);
        return page;
      }
    }
  }
}

/**
 * Writes what the speech encoder made of recordings: under the name of each file (rows, size), a row for each frame, or for each
 * segment; under NAME.times (rows) the begin of each row in seconds.
 */
export async function writeEmbeddings(
  host: Host,
  path: string,
  files: readonly RecognizedFile[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  await writeSafetensors(
    host,
    path,
    files.flatMap(({ file, recognition }) => {
      const [rows, times, size] = rowsOf(recognition);
      if (rows.length === 0) return [];
      const values = new Float32Array(rows.length * size);
      for (const [i, row] of rows.entries()) values.set(row, i * size);
      return [
        { key: file, dtype: "F32" as const, shape: [rows.length, size], data: bytes(values) },
        {
          ...{ key: `${file}.times`, dtype: "F32" as const, shape: [rows.length] },
          data: bytes(Float32Array.from(times)),
        },
      ];
    }),
    metadata,
  );
}

/** The rows of a recording, with their times; frames that two windows share are those of the one whose time it is. */
function rowsOf(recognition: RecognizedFile["recognition"]): [Float32Array[], number[], number] {
  const rows: Float32Array[] = [];
  const times: number[] = [];
  let size = 0;
  for (const { start, end, embedding } of segmentsOf(recognition)) {
    if (!embedding) continue;
    size = embedding.size;
    for (let t = 0; t < embedding.frames; t++) {
      const time = embedding.start + t * embedding.secondsPerFrame;
      if (embedding.frames > 1 && (time < start || time >= end)) continue;
      rows.push(embedding.values.subarray(t * size, (t + 1) * size));
      times.push(embedding.frames > 1 ? time : start);
    }
  }
  return [rows, times, size];
}
