/** Reads a profile that was written as JSON. */
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { readJson } from "../io/config.ts";
import { mismatch, object, parse, record } from "../io/schema.ts";
import { PROFILE_VERSION, type Profile } from "./profile.ts";

const text = v.string("a text");
const amount = v.pipe(v.number("a number"), v.finite("a finite number"));
const nullable = v.nullable(amount);
const times = object({ median: amount, spread: amount, samples: v.pipe(v.array(amount), v.minLength(1)) });
const shape = record(amount);
const grid = v.tuple([amount, amount, amount]);
const dispatch = {
  ...{ kernel: text, entry: text, shape, grid, variant: text },
};
const group = {
  ...{ name: text, time: times, calls: amount, flops: nullable, bytes: amount },
  ...{ flopsPerSecond: nullable, bytesPerSecond: nullable, share: nullable },
  ceiling: v.nullable(v.picklist(["f32", "f16", "matrix", "copy"])),
};

const schema = object({
  ...{ adapter: text, driver: text, path: text, commit: v.optional(text), command: text },
  options: record(v.union([text, amount, v.boolean()])),
  peaks: v.optional(record(v.unknown())),
  ...{ runs: amount, wall: times, plain: times },
  parts: object({ gpu: times, cpu: times, gaps: times, wake: times, unexplained: times }),
  events: v.array(
    object({
      ...{
        stage: text,
        layer: text,
        ...dispatch,
        begin: amount,
        end: amount,
        flops: nullable,
        bytes: amount,
      },
      ...{ unit: v.picklist(["f32", "f16", "matrix"]), recorded: amount, recording: amount },
    }),
  ),
  cpuEvents: v.array(object({ kind: v.picklist(["submit", "wait"]), begin: amount, end: amount })),
  kernels: v.array(object({ ...group, ...dispatch })),
  layers: v.array(object(group)),
  stages: v.array(object(group)),
  cpu: object({ record: times, submit: times, wait: times, submits: amount }),
  memory: v.array(v.tuple([amount, amount, amount])),
});

/** Throws one line that names the file, and what in it is not as docs/profile.md says. */
export async function readProfile(host: Host, path: string): Promise<Profile> {
  const json = await readJson(host, path);
  if (json.version !== PROFILE_VERSION)
    throw mismatch(
      path,
      "version",
      json.version,
      `${PROFILE_VERSION}, as \`wavegate profile --save\` writes`,
    );
  return { version: PROFILE_VERSION, ...parse(schema, json, path) } as Profile;
}
