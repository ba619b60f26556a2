/** How long jobs will take, by how long others took: those of the same cross-validation, or of earlier ones on this machine. */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { remember, rememberedFile } from "../../io/remembered.ts";
import { finite, readOptionalJsonAs, record } from "../../io/schema.ts";
import { toJson } from "../../train/run_folder.ts";
import type { Done } from "./folder.ts";
import type { Job } from "./plan.ts";

/** Seconds for each unit of a job's amount, by its speed. */
export type Rates = Readonly<Record<string, number>>;

const schema = record(v.pipe(finite, v.gtValue(0)));

/** The expected time of a job, and from what it is. */
export interface Estimate {
  readonly seconds: number;
  readonly from: "jobs done here" | "remembered here";
}

/** The median rate of the jobs that are done, by their speed. */
export function ratesOf(done: Iterable<Done>): Rates {
  const all = new Map<string, number[]>();
  for (const { seconds, amount, speed } of done)
    if (amount > 0 && seconds > 0) all.set(speed, [...(all.get(speed) ?? []), seconds / amount]);
  return Object.fromEntries(
    [...all].map(([speed, rates]) => [speed, rates.sort((a, b) => a - b)[rates.length >> 1]]),
  );
}

/** Undefined where nothing like the job was done yet. */
export function estimate(job: Job, here: Rates, remembered: Rates): Estimate | undefined {
  for (const [rates, from] of [
    [here, "jobs done here"],
    [remembered, "remembered here"],
  ] as const)
    if (Object.hasOwn(rates, job.speed)) return { seconds: rates[job.speed] * job.amount, from };
  return undefined;
}

/** File of the rates on a machine, with the adapter that is asked for there. */
const fileOf = (host: Host, machine: string, adapter: string | undefined): string =>
  rememberedFile(host, "rates", [adapter ?? "default", machine]);

/** Rates of earlier jobs on this machine. A file that cannot be read counts as none. */
export const readRates = (host: Host, machine: string, adapter: string | undefined): Promise<Rates> =>
  readOptionalJsonAs(host, fileOf(host, machine, adapter), schema).catch(() => ({}));

/** Remembers the rate of a job that is done. */
export async function rememberRate(
  host: Host,
  machine: string,
  adapter: string | undefined,
  done: Done,
): Promise<void> {
  const all = { ...(await readRates(host, machine, adapter)), ...ratesOf([done]) };
  await remember(host, fileOf(host, machine, adapter), toJson(all));
}
