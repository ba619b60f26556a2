/** What was tuned on an adapter, and where it is remembered: the user's cache folder. */
import * as v from "valibot";
import { identify } from "../gpu/adapter.ts";
import type { ChosenLaunch, LaunchSizes, LaunchValue } from "../gpu/choices.ts";
import type { Device } from "../gpu/device.ts";
import { isCandidate, isTunable, shapeClass, type Tunable } from "../gpu/tunable.ts";
import type { Host } from "../host/host.ts";
import { remember, rememberedFile } from "../io/remembered.ts";
import { mismatch, number, object, readJsonAs, record } from "../io/schema.ts";

/** What a search found for one class of shapes. */
export interface Tuned {
  /** A kernel, or an entry point of one. */
  readonly choice: Tunable;
  /** Sizes at which it was measured. */
  readonly sizes: LaunchSizes;
  /** What is faster than the default; undefined where nothing is. */
  readonly value?: LaunchValue;
  /** Digest of the kernel's text: a changed kernel is tuned anew. */
  readonly kernel: string;
  /** Medians: of the default, and of what was chosen. */
  readonly milliseconds: { readonly default: number; readonly chosen: number };
}

/** All that was tuned on an adapter. */
export interface Tuning {
  readonly adapter: string;
  readonly driver: string;
  /** As DeviceInfo.path: each has choices of its own. */
  readonly path: string;
  readonly choices: readonly Tuned[];
}

const positive = number("a number above 0", (x) => x > 0);

/** Of LaunchSizes. */
export const sizesSchema = record(
  v.union([v.number(), v.boolean(), v.string()], "a number, a truth value or a text"),
);
/** Of a LaunchValue. */
export const valueSchema = record(v.union([v.number(), v.boolean()], "a number or a truth value"));

const schema = object({
  adapter: v.string(),
  driver: v.string(),
  path: v.string(),
  choices: v.array(
    object({
      choice: v.string(),
      sizes: sizesSchema,
      value: v.optional(valueSchema),
      kernel: v.string(),
      milliseconds: object({ default: positive, chosen: positive }),
    }),
  ),
});

/** Adapter, driver and path of a device. */
export const placeOf = (device: Device): Omit<Tuning, "choices"> => ({
  ...identify(device),
  path: device.info.path,
});

/** The file of an adapter, a driver and a path. */
const fileOf = (host: Host, { adapter, driver, path }: Omit<Tuning, "choices">): string =>
  rememberedFile(host, "tuning", [adapter, driver, path]);

/** 16 hexadecimal digits that tell the texts of a choice's kernel apart. */
export function kernelDigest(device: Device, choice: Tunable): string {
  const digest = device.host.sha256();
  digest.update(new TextEncoder().encode(device.kernels.textOf(choice.split(".")[0])));
  return digest.hex().slice(0, 16);
}

/**
 * What is remembered for this device and holds today: of kernels as they are, with values that they may take. Empty where nothing
 * is, and where the file is damaged or another adapter's, which `note` is told in one line.
 */
export async function readTuning(
  host: Host,
  device: Device,
  note: (line: string) => void,
): Promise<readonly Tuned[]> {
  const place = placeOf(device);
  const path = fileOf(host, place);
  if ((await host.kind(path)) === undefined) return [];
  try {
    const tuning = await readJsonAs(host, path, schema);
    for (const key of ["adapter", "driver", "path"] as const)
      if (tuning[key] !== place[key]) throw mismatch(path, key, tuning[key], JSON.stringify(place[key]));
    return tuning.choices.filter((each): each is Tuned => holds(device, each));
  } catch (error) {
    note(`${(error as Error).message}; \`wavegate tune\` measures anew`);
    return [];
  }
}

type Stored = Omit<Tuned, "choice"> & { readonly choice: string };

function holds(device: Device, { choice, sizes, value, kernel }: Stored): boolean {
  if (!isTunable(choice) || kernel !== kernelDigest(device, choice)) return false;
  return value === undefined || isCandidate(device, { choice, sizes, value });
}

/** Remembers what was tuned, for readTuning(), and returns the file. Of two of a class the later one counts. */
export async function writeTuning(
  host: Host,
  place: Omit<Tuning, "choices">,
  choices: readonly Tuned[],
): Promise<string> {
  const path = fileOf(host, place);
  const classes = new Map(choices.map((each) => [shapeClass(each.choice, each.sizes), each]));
  const tuning: Tuning = { ...place, choices: [...classes.values()] };
  await remember(host, path, `${JSON.stringify(tuning, null, 1)}\n`);
  return path;
}

/** Those classes for which something is faster than the default. */
export const improved = (tuned: readonly Tuned[]): ChosenLaunch[] =>
  tuned.flatMap(({ choice, sizes, value }) => (value ? [{ choice, sizes, value }] : []));

/**
 * Launches kernels from now on by what is remembered for this device, and returns for how many classes of shapes that is not the
 * default. `note` is told of a file that is of no use; WAVEGATE_DEBUG=1 tells that a tuning is used.
 */
export async function useTuning(device: Device, note: (line: string) => void): Promise<number> {
  const chosen = improved(await readTuning(device.host, device, note));
  device.choices.use(chosen);
  if (chosen.length > 0)
    device.host.debug?.(`wavegate: ${chosen.length} launch choices are tuned for ${device.info.name}`);
  return chosen.length;
}
