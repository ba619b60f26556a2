/**
 * What the benches measured, as JSON: written by `npm run bench` into bench/results/, read by `npm run bench -- compare`.
 * docs/benchmarks.md describes it. All times are milliseconds.
 */
import { appendFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { finite, object, parse } from "../../src/io/schema.ts";

export const RESULTS_VERSION = 1;
export const RESULTS_FOLDER = fileURLToPath(new URL("../../bench/results/", import.meta.url));

const times = v.pipe(v.array(finite), v.minLength(1));
/** Samples of one process: of the wall's clock with the wait for the result, and of the GPU's clock where it has one. */
const clocks = { wall: times, gpu: v.optional(times) };
const timing = {
  name: v.string("a text"),
  /** ‖got − want‖ / ‖want‖ of the check before. */
  relL2: v.optional(finite),
  flops: v.optional(finite),
  /** Bytes that must move at least. */
  bytes: v.optional(finite),
};
const where = { bench: v.string("a text"), adapter: v.string("a text"), driver: v.string("a text") };

/** A case as the process that measured it hands it over, a line of JSON each. */
const lineSchema = object({ ...where, ...timing, ...clocks });
export type Line = v.InferOutput<typeof lineSchema>;

const caseSchema = object({ ...timing, runs: v.pipe(v.array(object(clocks)), v.minLength(1)) });
/** A case with a run for each process that measured it. */
export type Case = v.InferOutput<typeof caseSchema>;

const schema = object({
  version: v.literal(RESULTS_VERSION, `${RESULTS_VERSION}, as \`npm run bench\` writes`),
  /** Of the checkout, with "-dirty" where files differ from it. */
  commit: v.optional(v.string("a text")),
  /** An ISO date. */
  date: v.string("a date"),
  /** Runtime, platform and processor. */
  host: v.string("a text"),
  benches: v.array(object({ ...where, cases: v.array(caseSchema) })),
});
export type Results = v.InferOutput<typeof schema>;
export type Bench = Results["benches"][number];

/** The variable that names the file to which benches append their lines. */
export const LINES = "WAVEGATE_BENCH_LINES";

/** Hands a case over to `npm run bench`; without it, does nothing. */
export function handOver(line: Line): void {
  const path = process.env[LINES];
  if (path) appendFileSync(path, `${JSON.stringify(line)}\n`);
}

/** The lines of all processes, put together by bench and case, in the order in which they came first. */
export function collect(path: string): Bench[] {
  if (!existsSync(path)) return [];
  const benches: Bench[] = [];
  for (const text of readFileSync(path, "utf8").split("\n")) {
    if (text === "") continue;
    const { bench, adapter, driver, wall, gpu, ...rest } = parse(lineSchema, JSON.parse(text), path);
    const of = benches.find((b) => b.bench === bench && b.adapter === adapter && b.driver === driver) ?? {
      ...{ bench, adapter, driver, cases: [] },
    };
    if (!benches.includes(of)) benches.push(of);
    const known = of.cases.find(({ name }) => name === rest.name);
    const measured = { wall, ...(gpu && { gpu }) };
    if (known) known.runs.push(measured);
    else of.cases.push({ ...rest, runs: [measured] });
  }
  return benches;
}

/** Throws one line that names the file and what in it is not as it should be. */
export function readResults(path: string): Results {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${(error as Error).message.split("\n", 1)[0]}`);
  }
  return parse(schema, json, path);
}

/**
 * The results that `name` stands for: a file, or the begin of a commit, for which each bench is taken from its newest run in
 * `folder`. "abc" means the clean commit; "abc-dirty" that one with changes.
 */
export function findResults(name: string, folder = RESULTS_FOLDER): Results {
  if (existsSync(name)) return readResults(name);
  const dirty = name.endsWith("-dirty");
  const start = dirty ? name.slice(0, -"-dirty".length) : name;
  const all = (existsSync(folder) ? readdirSync(folder) : [])
    .filter((file) => file.endsWith(".json"))
    .map((file) => readResults(join(folder, file)));
  const fit = all
    .filter(({ commit }) => commit?.startsWith(start) && commit.endsWith("-dirty") === dirty)
    .sort((a, b) => b.date.localeCompare(a.date));
  if (start === "" || fit.length === 0) {
    const known = [...new Set(all.map(({ commit }) => commit ?? "no commit"))];
    throw new Error(
      `Cannot find results of ${name}: it is no file, and ${folder} has ${known.length > 0 ? `those of ${known.join(", ")}` : "none"}`,
    );
  }
  const benches = new Map<string, Bench>();
  for (const { benches: of } of fit)
    for (const bench of of) if (!benches.has(bench.bench)) benches.set(bench.bench, bench);
  return { ...fit[0], benches: [...benches.values()] };
}
