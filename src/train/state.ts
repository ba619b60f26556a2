/** state.json of a checkpoint: how far a run is, and which run it is. */
import * as v from "valibot";
import type { Examined } from "../corpora/examine.ts";
import { isObject, readJson } from "../io/config.ts";
import { openSafetensors } from "../io/safetensors.ts";
import { complain } from "./complain.ts";
import type { TrainConfig } from "./config.ts";
import type { RunFolder } from "./run_folder.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** JSON has no NaN: a dev figure that was none comes back as null. */
const figure = v.pipe(
  v.nullable(v.number()),
  v.transform((x) => x ?? Number.NaN),
);

/** The best epoch of a stage so far; `folder` is its name in best/. */
const best = v.object({ folder: v.string(), epoch: count, score: figure });

const schema = v.object({
  /** Hashes of the recipe and of the utterances that the run began with. */
  of: v.object({ recipe: v.string(), data: v.string() }),
  stage: v.picklist([0, 1, 2]),
  /** Epoch and batch to go on with; the epoch is the stage's number of epochs where the stage is done. */
  epoch: count,
  batch: count,
  /** Updates done in this stage. */
  step: count,
  newBob: v.object({ factor: v.number(), last: v.optional(figure) }),
  lossScale: v.pipe(v.number(), v.gtValue(0)),
  /** Updates since a step was skipped, after which the loss scale may grow. */
  steady: count,
  /** Updates of each parameter. */
  updates: v.record(v.string(), count),
  bests: v.record(v.string(), best),
  /** Bytes of the files that grow. */
  lengths: v.object({ metrics: count, events: count }),
});

export type LoopState = Readonly<v.InferOutput<typeof schema>>;
export type Best = v.InferOutput<typeof best>;
export type Identity = LoopState["of"];

export interface Latest {
  readonly folder: string;
  readonly state: LoopState;
}

/**
 * The newest finished checkpoint of a run, if there is one. Throws one line where it is damaged, or of a run with another
 * recipe or other data than `of`.
 */
export async function openLatest(run: RunFolder, of: Identity): Promise<Latest | undefined> {
  const { host, path } = run;
  const [folder, before] = await run.finished();
  if (folder === undefined) {
    if ((await run.own("best")).length === 0) return undefined;
    throw new Error(`Cannot resume ${path}: it holds models in best/, but no checkpoint to go on from`);
  }
  const state = await readState(host, folder).catch((error: Error) => {
    const hint = before ? `; without ${folder} the run goes on from ${before}` : "";
    throw new Error(`${error.message.split("\n")[0]}${hint}`, { cause: error });
  });
  if (state.of.recipe !== of.recipe)
    throw new Error(`Cannot resume ${path}: its config.json is not the one that the run began with`);
  if (state.of.data !== of.data)
    throw new Error(`Cannot resume ${path}: the corpus is not the one that the run began with`);
  return { folder, state };
}

/** Reads state.json, and of the tensor files as much as shows that they are whole. */
async function readState(host: RunFolder["host"], folder: string): Promise<LoopState> {
  const path = `${folder}/state.json`;
  const parsed = v.safeParse(schema, await readJson(host, path));
  if (!parsed.success) throw complain(path, parsed.issues[0]);
  for (const name of ["model", "optimizer"])
    await (await openSafetensors(host, `${folder}/${name}.safetensors`)).close();
  return parsed.output;
}

/** What a run is, wherever its corpus and the checkpoints that it started from lie. */
export async function identify(config: TrainConfig, examined: Examined | undefined): Promise<Identity> {
  const { data: _corpus, from: _folders, ...recipe } = config;
  const heard = examined?.utterances.map(({ id, label, words, seconds }) => [id, label, words, seconds]);
  return { recipe: await hash(recipe), data: await hash([heard, [...(examined?.notForTraining ?? [])]]) };
}

/** 16 hexadecimal digits that equal values share, whatever the order of their keys. */
export async function hash(value: unknown): Promise<string> {
  const sorted = (_key: string, x: unknown) =>
    isObject(x) ? Object.fromEntries(Object.entries(x).sort(([a], [b]) => (a < b ? -1 : 1))) : x;
  const text = new TextEncoder().encode(JSON.stringify(value, sorted) ?? "");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  return Array.from(digest.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
