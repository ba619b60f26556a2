/** state.json of a checkpoint: how far a run is, and which run it is. */
import * as v from "valibot";
import { isObject } from "../io/config.ts";
import { finiteOrNan, integer, object, readJsonAs, record, text } from "../io/schema.ts";
import { openSafetensors } from "../io/safetensors.ts";
import { readChecked } from "./checksum.ts";
import type { RunFolder } from "./run_folder.ts";
import type { StageRecipe } from "./stage.ts";

const count = integer(0);

/** The best epoch of a stage so far; `folder` is its name in best/. */
const best = object({
  folder: text("the name of a folder in best/", /^stage\d-epoch\d{3,}$/),
  epoch: count,
  score: finiteOrNan,
  /** Of the dev set, from which the score is; absent in older runs, and where the score is of none. */
  utterances: v.optional(count),
});

const schema = object({
  /** Hashes of the recipe and of the utterances that the run began with. */
  of: object({ recipe: v.string(), data: v.string() }),
  stage: count,
  /** Epoch and batch to go on with; the epoch is the stage's number of epochs where the stage is done. */
  epoch: count,
  batch: count,
  /** Updates done in this stage. */
  step: count,
  newBob: object({
    factor: v.pipe(v.number(), v.gtValue(0), v.maxValue(1)),
    last: v.optional(finiteOrNan),
    /** Of the dev set, over which the last loss is. */
    utterances: v.optional(count),
  }),
  lossScale: v.pipe(v.number(), v.gtValue(0), v.maxValue(2 ** 127)),
  /** Updates since a step was skipped, after which the loss scale may grow. */
  steady: count,
  /** Updates of each parameter. */
  updates: record(count),
  bests: record(best),
  /** Processes that trained together; absent where it was one. */
  ranks: v.optional(integer(2)),
  /** Checksums of the tensor files beside it, which are of this state and no other; absent in older runs. */
  sha256: v.optional(record(v.string())),
  /** Bytes of the files that grow. */
  lengths: object({ metrics: count, events: count }),
});

/** What state.json says: how far a run is, and what a step depends on besides weights and moments. */
export type LoopState = Readonly<v.InferOutput<typeof schema>>;
/** The best epoch of a stage so far; `folder` is its name in RUN/best. */
export type Best = v.InferOutput<typeof best>;
/** What tells runs apart: any two texts that are equal for equal recipes and equal data. */
export type Identity = LoopState["of"];

/** A checkpoint is of a run with another recipe, or of other data: Identity differs. */
export class OtherRunError extends Error {
  /** What differs. */
  readonly part: keyof Identity;

  /** `what` names the part to its owner. */
  constructor(path: string, part: keyof Identity, what = `the ${part} (of.${part})`) {
    super(`Cannot resume ${path}: ${what} is not the one that the run began with`);
    this.part = part;
  }
}

/** A checkpoint to go on from. */
export interface Latest {
  /** Its path. */
  readonly folder: string;
  /** Its state.json. */
  readonly state: LoopState;
  /** A line about each thing that it names and that is not there any more, where the run does without. */
  readonly lost: readonly string[];
}

/** The stages that a run has, in their order. */
export type Stages = ReadonlyMap<number, Pick<StageRecipe, "epochs" | "precision">>;

/**
 * The newest finished checkpoint of a run, if there is one. Throws one line where it is damaged or makes no sense (what the
 * run never comes to, where its `stages` are given), and an OtherRunError where it is of another recipe or other data.
 */
export async function openLatest(run: RunFolder, of: Identity, stages?: Stages): Promise<Latest | undefined> {
  const { path } = run;
  const [folder, before] = await run.finished();
  if (folder === undefined) {
    await refuseOrphans(run);
    return undefined;
  }
  const { state, lost } = await readState(run, folder, stages).catch((error: Error) => {
    const hint = before ? `; without ${folder} the run goes on from ${before}` : "";
    throw new Error(`${error.message.split("\n")[0]}${hint}`, { cause: error });
  });
  for (const part of ["recipe", "data"] as const)
    if (state.of[part] !== of[part]) throw new OtherRunError(path, part);
  return { folder, state, lost };
}

/** Throws where there are models but no checkpoint. A run killed before its first checkpoint has at most one of epoch 1. */
async function refuseOrphans(run: RunFolder): Promise<void> {
  const { host, path } = run;
  const bests = await run.own("best");
  const published = (await host.kind(`${path}/model`)) === "directory";
  if (published || bests.length > 1 || bests.some((name) => !name.endsWith("-epoch001")))
    throw new Error(
      `Cannot resume ${path}: it holds models in best/, but no checkpoint to go on from; a run in another folder starts anew`,
    );
}

/** Reads state.json, and the tensor files as far as that shows that they are as they were written. */
async function readState(run: RunFolder, folder: string, stages?: Stages): Promise<Omit<Latest, "folder">> {
  const { host } = run;
  const path = `${folder}/state.json`;
  const state = await readJsonAs(host, path, schema);
  const wrong = nonsense(state, folder.slice(folder.lastIndexOf("/") + 1), stages);
  if (wrong !== undefined) throw new RangeError(`Cannot use ${path}: ${wrong}`);
  // An edit may make sense and be none of ours all the same.
  await readChecked(host, path);
  for (const name of ["model.safetensors", "optimizer.safetensors"]) {
    await (await openSafetensors(host, `${folder}/${name}`)).close();
    await readChecked(host, `${folder}/${name}`, undefined, state.sha256?.[name]);
  }
  const bests = { ...state.bests };
  const lost: string[] = [];
  for (const [stage, { folder: name }] of Object.entries(bests)) {
    if ((await host.kind(`${run.path}/best/${name}/model.safetensors`)) === "file") continue;
    const { epochs = 0 } = stages?.get(state.stage) ?? {};
    const goesOn = Number(stage) === state.stage && state.epoch < epochs;
    if (!goesOn) throw new Error(`Cannot use ${path}: it names best/${name}, which is not there`);
    delete bests[stage];
    lost.push(`${run.path}/best/${name} is gone: the best of the epochs to come is chosen without it`);
  }
  if (state.epoch > 0 && state.bests[state.stage] === undefined)
    lost.push(
      `${path} names no best of stage ${state.stage}: that of the epochs to come is chosen without it`,
    );
  return { state: { ...state, bests }, lost };
}

/** What a state says that cannot be, of the checkpoint `name`. */
function nonsense(state: LoopState, name: string, stages: Stages | undefined): string | undefined {
  const { stage, epoch, batch, step, updates, bests } = state;
  const own = `stage${stage}-${String(step).padStart(7, "0")}`;
  if (name !== own) return `its stage and step are those of ${own}`;
  if ((step === 0) !== (epoch === 0 && batch === 0))
    return `step is ${step} at epoch ${epoch} and batch ${batch}`;
  const ahead = Object.entries(updates).find(([, n]) => n > step);
  if (ahead) return `updates of ${ahead[0]} are ${ahead[1]} but should be at most step, ${step}`;
  for (const [key, best] of Object.entries(bests)) {
    if (best.folder !== `stage${key}-epoch${String(best.epoch + 1).padStart(3, "0")}`)
      return `bests.${key}.folder is ${best.folder} but its epoch is ${best.epoch}`;
    if (Number(key) === stage && best.epoch >= epoch)
      return `bests.${key}.epoch is ${best.epoch} but should be less than epoch, ${epoch}`;
  }
  return stages && beyond(state, stages);
}

/** What a state says that a run of this recipe never comes to. */
function beyond({ stage, epoch, batch, bests, lossScale }: LoopState, stages: Stages) {
  const numbers = [...stages.keys()];
  const own = stages.get(stage);
  if (!own) return `stage is ${stage}, but the run has ${numbers.join(", ")}`;
  const { epochs, precision } = own;
  if (epoch > epochs || (epoch === epochs && batch > 0))
    return `epoch is ${epoch} and batch ${batch}, but stage ${stage} has ${epochs} epochs`;
  const strange = Object.keys(bests).find((key) => !numbers.some((n) => `${n}` === key && n <= stage));
  if (strange !== undefined) return `bests.${strange} is of no stage that the run has come to`;
  const lacking = numbers.find((n) => n < stage && bests[n] === undefined);
  if (lacking !== undefined) return `bests lacks ${lacking}, a stage that is done`;
  if (precision === "f32" && lossScale !== 1) return `lossScale is ${lossScale} but should be 1 with f32`;
  return undefined;
}

/** 16 hexadecimal digits that equal values share, whatever the order of their keys. */
export async function hash(value: unknown): Promise<string> {
  const sorted = (_key: string, x: unknown) =>
    isObject(x) ? Object.fromEntries(Object.entries(x).sort(([a], [b]) => (a < b ? -1 : 1))) : x;
  const text = new TextEncoder().encode(JSON.stringify(value, sorted) ?? "");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  return Array.from(digest.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
