/** What an adapter reaches at most: the ceilings that a kernel's speed is held against, and where they are remembered. */
import * as v from "valibot";
import { identify } from "../gpu/adapter.ts";
import type { Device } from "../gpu/device.ts";
import type { Host } from "../host/host.ts";
import { remember, rememberedFile } from "../io/remembered.ts";
import { mismatch, number, readJsonAs, record, strictObject } from "../io/schema.ts";

export { measurePeaks } from "./measure_peaks.ts";

/** What is measured. */
export type Rate = "f32" | "f16" | "matrix" | "copy" | "workgroup" | "dispatch" | "upload" | "readback";

/** Ceilings of one adapter, as they were measured. */
export interface Peaks {
  readonly adapter: string;
  readonly driver: string;
  /** When, as an ISO date. */
  readonly measured: string;
  /** f32 FLOP/s; a fused multiply-add is two. */
  readonly f32: number;
  /** f16 FLOP/s. */
  readonly f16?: number;
  /** FLOP/s of subgroup matrices with f32 sums. */
  readonly matrix?: number;
  /** Bytes/s of a copy in memory, read and written, beyond the caches. */
  readonly copy: number;
  /** Bytes/s read from workgroup memory. */
  readonly workgroup?: number;
  /** Seconds of an empty dispatch that waits for the one before. */
  readonly dispatch: number;
  /** Bytes/s to the GPU. */
  readonly upload: number;
  /** Bytes/s from it. */
  readonly readback: number;
  /** Interquartile range of each, over its median. */
  readonly spread?: Readonly<Partial<Record<Rate, number>>>;
}

const positive = number("a number above 0", (x) => x > 0);
const share = number("a number from 0", (x) => x >= 0);

const schema = strictObject({
  adapter: v.string(),
  driver: v.string(),
  measured: v.pipe(v.string("a date"), v.isoTimestamp("a date")),
  f32: positive,
  f16: v.optional(positive),
  matrix: v.optional(positive),
  copy: positive,
  workgroup: v.optional(positive),
  dispatch: positive,
  upload: positive,
  readback: positive,
  spread: v.optional(record(share)),
});

/** The file of an adapter and a driver. */
const fileOf = (host: Host, adapter: string, driver: string): string =>
  rememberedFile(host, "peaks", [adapter, driver]);

/**
 * The peaks that were measured on this adapter and driver; undefined where none were, and where the file that should hold
 * them is damaged or another adapter's: `note` is told in one line.
 */
export async function readPeaks(
  host: Host,
  device: Device,
  note: (line: string) => void,
): Promise<Peaks | undefined> {
  const { adapter, driver } = identify(device);
  const path = fileOf(host, adapter, driver);
  if ((await host.kind(path)) === undefined) return undefined;
  try {
    const peaks = await readJsonAs(host, path, schema);
    if (peaks.adapter !== adapter) throw mismatch(path, "adapter", peaks.adapter, JSON.stringify(adapter));
    if (peaks.driver !== driver) throw mismatch(path, "driver", peaks.driver, JSON.stringify(driver));
    return peaks;
  } catch (error) {
    note(`${(error as Error).message}; \`wavegate doctor --peaks\` measures anew`);
    return undefined;
  }
}

/** Remembers peaks in the user's cache folder, for readPeaks(), and returns the file. */
export async function writePeaks(host: Host, peaks: Peaks): Promise<string> {
  const path = fileOf(host, peaks.adapter, peaks.driver);
  await remember(host, path, `${JSON.stringify(peaks, null, 2)}\n`);
  return path;
}
