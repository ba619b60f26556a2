/**
 * launch.json: the launch choices that a run began with, in its folder and in its models' folders. They decide the last bits of
 * results, so a run goes on with these, whatever was tuned since, and a model is measured with those that trained it.
 */
import * as v from "valibot";
import type { ChosenLaunch } from "../gpu/choices.ts";
import type { Device } from "../gpu/device.ts";
import { isCandidate, isTunable } from "../gpu/tunable.ts";
import type { Host } from "../host/host.ts";
import { mismatch, object, readJsonAs } from "../io/schema.ts";
import { placeOf, sizesSchema, type Tuning, valueSchema } from "./tuning.ts";

/** Its name. */
export const LAUNCH_FILE = "launch.json";

const schema = object({
  adapter: v.string(),
  driver: v.string(),
  path: v.string(),
  choices: v.array(object({ choice: v.string(), sizes: sizesSchema, value: valueSchema })),
});

/** The record of a device's choices, as text. All that it does not name is launched by default. */
export function launchText(device: Device): string {
  const record: Omit<Tuning, "choices"> & { readonly choices: readonly ChosenLaunch[] } = {
    ...placeOf(device),
    choices: device.choices.list,
  };
  return `${JSON.stringify(record, null, 1)}\n`;
}

/**
 * Launches kernels from now on by the choices that are recorded in `folder`, and no others: by default where none are. Where they
 * are another adapter's, `note` is told, and all is by default. Throws one line where the record is damaged, and where this version
 * has not what it names.
 */
export async function useRecorded(
  host: Host,
  device: Device,
  folder: string,
  note?: (line: string) => void,
): Promise<void> {
  const path = `${folder}/${LAUNCH_FILE}`;
  device.choices.use([]);
  if ((await host.kind(path)) !== "file") return;
  const recorded = await readJsonAs(host, path, schema);
  const here = placeOf(device);
  if (recorded.adapter !== here.adapter || recorded.path !== here.path) {
    const where = ({ adapter, path: way }: typeof here) => `${adapter} (path ${way})`;
    if (recorded.choices.length > 0)
      note?.(
        `${path} is of ${where(recorded)}: on ${where(here)} kernels are launched by default, and the last bits differ`,
      );
    return;
  }
  device.choices.use(
    recorded.choices.map(({ choice, sizes, value }, i) => {
      if (!isTunable(choice))
        throw mismatch(path, `choices.${i}.choice`, choice, "what this version can choose");
      const chosen = { choice, sizes, value };
      if (!isCandidate(device, chosen))
        throw mismatch(path, `choices.${i}.value`, value, `what this version can take for ${choice}`);
      return chosen;
    }),
  );
}
