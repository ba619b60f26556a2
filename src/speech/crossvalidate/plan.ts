/** The plan of a cross-validation as OUT/plan.json keeps it. makePlan() of make_plan.ts makes it. */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import { integer, object, readJsonAs, strictObject } from "../../io/schema.ts";
import { CORPUS_NAMES, type CorpusName } from "../corpora/read.ts";
import type { StageNumber } from "../recipes/config.ts";
import { type PresetName, PRESETS } from "../recipes/presets.ts";
import { hasPart, systemOf } from "../recipes/systems.ts";
import { rowsOf } from "../recipes/tables.ts";
import { type CellKey, cellName, type CrossPlan } from "./results.ts";

/** What is asked of a cross-validation. */
export interface CrossChoice {
  /** "table1", "table2", or names of systems. */
  readonly systems: readonly string[];
  /** Folder of the corpus. */
  readonly data: string;
  /** Its layout; found from the folder where left out. */
  readonly corpus?: CorpusName;
  /** "all", the first N as a number, or names separated by commas: of sessions, of speakers, or numbers of sessions. */
  readonly folds: string;
  /** Of which "all" and the first N are. */
  readonly foldsBy: "session" | "speaker";
  /** How many seeds; they are the first from 1. */
  readonly seeds: number;
  /** Name of a recipe. */
  readonly preset: PresetName;
  /** Settings "key=value" of the recipe, for those systems that have the key. */
  readonly set: readonly string[];
  /** Folder of the checkpoint that speech encoders start from, but not those that must be wav2vec 2.0. */
  readonly hubert?: string;
  /** Folder of the checkpoint that these start from. */
  readonly wav2vec2?: string;
  /** The same for text encoders. */
  readonly bert?: string;
}

const job = strictObject({
  /** Name, and folder in OUT/jobs. */
  id: v.string(),
  kind: v.picklist(["train", "evaluate"]),
  system: v.string(),
  /** Absent where text alone is learnt from: then it is the same in every fold. */
  fold: v.optional(v.string()),
  seed: integer(0),
  /** Of a training. */
  stage: v.optional(v.picklist([0, 1, 2])),
  /** Settings "key=value" of a training. */
  set: v.optional(v.array(v.string())),
  /** Words that an evaluation reads. */
  words: v.optional(v.picklist(["true", "recognised"])),
  /** Jobs that must be done before: of a training those of earlier stages, of an evaluation that of the model. */
  after: v.array(v.string()),
  /** Hash of what determines the bits of the model. */
  key: v.string(),
  /** Equal for jobs that take equal time for an equal amount. */
  speed: v.string(),
  /** What the time is proportional to: seconds of audio times epochs, or sentences times epochs. */
  amount: v.number(),
});

/** A training of one stage, or the evaluation of a model. */
export type Job = Readonly<v.InferOutput<typeof job>>;

const schema = object({
  format: v.literal(1),
  asked: object({
    systems: v.array(v.string()),
    data: v.string(),
    corpus: v.optional(v.picklist(CORPUS_NAMES)),
    folds: v.array(v.string()),
    seeds: v.array(integer(0)),
    preset: v.picklist(Object.keys(PRESETS) as PresetName[]),
    set: v.array(v.string()),
    hubert: v.optional(v.string()),
    wav2vec2: v.optional(v.string()),
    bert: v.optional(v.string()),
  }),
  corpus: object({ name: v.string(), utterances: integer(0), identity: v.string() }),
  /** Each after those that it needs. */
  jobs: v.array(job),
});

/** Content of OUT/plan.json. */
export type Plan = Readonly<v.InferOutput<typeof schema>>;

/** Name of the plan in OUT. */
export const PLAN_FILE = "plan.json";

/** The plan in a folder; undefined where there is none. Throws one line where it is damaged. */
export async function readPlan(host: Host, out: string): Promise<Plan | undefined> {
  const path = `${out}/${PLAN_FILE}`;
  return (await host.kind(path)) === "file" ? await readJsonAs(host, path, schema) : undefined;
}

/** Throws where two plans differ: one folder holds one cross-validation. */
export function requireSame(out: string, then: Plan, now: Plan): void {
  const refuse = (what: string): never => {
    throw new ArgumentError(
      `Cannot cross-validate in ${out}: ${what}; --out ${out} alone goes on with it, another folder takes another plan`,
    );
  };
  const show = (value: unknown) =>
    value === undefined || (Array.isArray(value) && value.length === 0) ? "none" : String(value);
  for (const key of [...new Set([...Object.keys(then.asked), ...Object.keys(now.asked)])].sort()) {
    const [a, b] = [then, now].map(({ asked }) => asked[key as keyof Plan["asked"]]);
    if (JSON.stringify(a) !== JSON.stringify(b)) refuse(`its plan has ${key} ${show(a)} and not ${show(b)}`);
  }
  if (then.corpus.identity !== now.corpus.identity)
    refuse(`${then.asked.data} has other utterances than when the plan was made`);
  const changed = then.jobs.find((job, i) => job.id !== now.jobs[i]?.id || job.key !== now.jobs[i].key);
  if (changed !== undefined || then.jobs.length !== now.jobs.length)
    refuse(`its recipes are those of another version of this program${changed ? ` (${changed.id})` : ""}`);
}

/** The rows of a plan, and what else the report is told of it. */
export const crossPlan = ({ asked, corpus }: Plan): CrossPlan => ({
  ...{ rows: rowsOf(asked.systems), folds: asked.folds, seeds: asked.seeds },
  corpus: { name: corpus.name, utterances: corpus.utterances },
  recipe: { preset: asked.preset, set: asked.set },
});

/** Whether a stage of a system begins with a published BERT, or takes its tokenizer. */
export const takesBert = (system: string, stage?: StageNumber): boolean =>
  systemOf(system).lstm === "both" || (stage === 2 && hasPart(system, "bert"));

/** The folders of pretrained encoders that a system takes. */
export function foldersOf(
  { hubert, wav2vec2, bert }: Pick<CrossChoice, "hubert" | "wav2vec2" | "bert">,
  system: string,
): Pick<CrossChoice, "hubert" | "bert"> {
  const speech = systemOf(system).encoder === "wav2vec2" ? wav2vec2 : hubert;
  return {
    hubert: hasPart(system, "hubert") ? speech : undefined,
    bert: takesBert(system, 2) ? bert : undefined,
  };
}

/** Name of the evaluation of a cell. */
export const evaluationId = (cell: CellKey): string => `evaluate-${cellName(cell)}`;
