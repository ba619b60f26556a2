/** `wavegate corpus make|join|check|stats`: makes a synthetic corpus, joins corpora, checks a corpus, describes one. */
import { relative, resolve, sep } from "node:path";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { checkCorpus } from "../src/speech/corpora/check.ts";
import {
  type Corpus,
  labelLine,
  LABELS,
  type Problem,
  problemLine,
  summarizeProblems,
} from "../src/speech/corpora/corpus.ts";
import { joinCorpora } from "../src/speech/corpora/join.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { CORPUS_NAMES, readCorpus } from "../src/speech/corpora/read.ts";
import { heardLine } from "../src/speech/corpora/held_out.ts";
import { CORPUS_PRESETS } from "../src/speech/synthetic/plan.ts";
import { type CorpusStatistics, corpusStatistics } from "../src/speech/corpora/statistics.ts";
import {
  type Baselines,
  figuresOf,
  formatBaselines,
  measureBaselines,
} from "../src/speech/baselines/baselines.ts";
import { makeCorpus } from "../src/speech/baselines/make_corpus.ts";
import { writeWhole } from "../src/io/write_whole.ts";
import { makeVoices, PER_VOICE, VOICE_UTTERANCES } from "../src/speech/synthetic/make_voices.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError, withoutSlash } from "./cli.ts";
import { formatSeconds, formatTable } from "./format.ts";
import type { Progress } from "./progress.ts";
import { SUMMARIES } from "./summaries.ts";

const ACTIONS = ["make", "join", "check", "stats"] as const;
/** The actions that take an option. */
const TAKEN_BY = {
  ...{
    preset: ["make"],
    out: ["make", "join"],
    seed: ["make"],
    utterances: ["make"],
    jobs: ["make"],
    corpus: ["check", "stats"],
  },
  ...{ test: ["join"], dev: ["join"], without: ["join"] },
} as const;
type PresetName = keyof typeof CORPUS_PRESETS;
const SIZES = Object.values(CORPUS_PRESETS).map(({ clips }) => clips.toLocaleString("en"));
/** Beside this file: .ts in a checkout, .js where it is built. */
const SYNTHESISER = new URL(
  `./synthesiser.${import.meta.url.endsWith(".ts") ? "ts" : "js"}`,
  import.meta.url,
);

export const verb = defineVerb({
  name: "corpus",
  summary: SUMMARIES.corpus,
  usage: `make --preset nano|mini|full --out DIR [--seed N]
       wavegate corpus make --preset voices --out DIR [--seed N] [--utterances N] [--jobs N]
       wavegate corpus join [NAME=]DIR… --out DIR [--test GROUPS] [--dev GROUPS] [--without GROUPS]
       wavegate corpus check DIR [--corpus NAME]
       wavegate corpus stats DIR [--corpus NAME]`,
  example: "wavegate corpus make --preset nano --out corpus/nano",
  operands: { max: Number.POSITIVE_INFINITY },
  interruptible: true,
  options: {
    preset: {
      type: "string",
      choices: [...(Object.keys(CORPUS_PRESETS) as PresetName[]), "voices"] as const,
      help: `make: ${SIZES.slice(0, -1).join(", ")} or ${SIZES.at(-1)} clips; voices: many speakers for pretraining, no emotions (nano)`,
    },
    out: { type: "string", value: "DIR", help: "make and join: a folder that does not exist yet" },
    corpus: {
      type: "string",
      choices: CORPUS_NAMES,
      help: "check and stats: layout of the corpus (found from the folder)",
    },
    seed: { type: "number", value: "N", help: "make: equal seeds give equal bytes (1)" },
    utterances: {
      type: "count",
      value: "N",
      help: `voices: recordings, ${PER_VOICE} of each voice (${VOICE_UTTERANCES.toLocaleString("en")})`,
    },
    jobs: { type: "count", value: "N", help: "voices: synthesisers at once (1)" },
    test: {
      type: "string",
      value: "GROUPS",
      help: "join: names, or NAME/SESSION, separated by commas: the test",
    },
    dev: { type: "string", value: "GROUPS", help: "join: what chooses the epoch" },
    without: { type: "string", value: "GROUPS", help: "join: what is left out" },
  },
  async main(context) {
    const [action, dir, ...more] = context.operands;
    const actions = `it is one of ${ACTIONS.join(", ")}`;
    if (action === undefined) throw new UsageError(`Cannot run corpus without an action: ${actions}`);
    if (!(ACTIONS as readonly string[]).includes(action))
      throw new UsageError(`Cannot run corpus ${action}: ${actions}`);
    const host = await currentHost();
    for (const [name, takers] of Object.entries(TAKEN_BY) as [keyof typeof TAKEN_BY, readonly string[]][])
      if (context.values[name] !== undefined && !takers.includes(action))
        throw new UsageError(
          `Cannot run corpus ${action} with --${name}: it is for corpus ${takers.join(" and ")}`,
        );
    if (action === "join") return await join(host, context.operands.slice(1), context);
    if (more.length > 0) throw new UsageError(`Cannot read "${more[0]}": one argument too many`);
    if (action === "make") {
      const { preset = "nano", out, seed = 1 } = context.values;
      if (dir !== undefined)
        throw new UsageError(`Cannot read "${dir}": the folder to make is given by --out`);
      if (out === undefined) throw new UsageError("Cannot make a corpus without --out DIR");
      if (!Number.isInteger(seed)) throw new UsageError(`Cannot read --seed ${seed}: it is an integer`);
      const { utterances, jobs } = context.values;
      if (preset === "voices")
        return await voices(host, withoutSlash(out), { seed, utterances, jobs }, context);
      for (const [name, value] of Object.entries({ utterances, jobs }))
        if (value !== undefined)
          throw new UsageError(`Cannot make ${preset} with --${name}: it is for --preset voices`);
      return await make(host, preset, withoutSlash(out), seed, context);
    }
    if (dir === undefined) throw new UsageError(`Cannot run corpus ${action} without DIR`);
    const corpus = await readCorpus(host, dir, context.values.corpus);
    return action === "check" ? await check(host, corpus, context) : await stats(host, corpus, context);
  },
});

/** Joins the folders of `operands`, each DIR or NAME=DIR, which is called as its last part otherwise. */
async function join(host: Host, operands: readonly string[], context: JoinContext): Promise<number> {
  const { print, printJson } = context;
  const { out, test, dev, without } = context.values;
  if (operands.length < 2)
    throw new UsageError(`Cannot join ${operands.length === 0 ? "nothing" : "one corpus"}: give two or more`);
  if (out === undefined) throw new UsageError("Cannot join corpora without --out DIR");
  const folder = withoutSlash(out);
  if ((await host.kind(folder)) !== undefined)
    throw new Error(`Cannot write ${folder}: it exists, and corpus join does not change a corpus`);
  const named = operands.map((operand) => {
    const [, own, path = operand] = /^([^=/\\]+)=(.+)$/.exec(operand) ?? [];
    return { name: own ?? resolve(path).split(sep).at(-1) ?? path, path };
  });
  for (const [i, { name, path }] of named.entries()) {
    const same = named.slice(0, i).find((each) => each.name === name);
    if (same) throw new UsageError(`Cannot call ${same.path} and ${path} both ${name}: give NAME=${path}`);
  }
  const parts = [];
  for (const { name, path } of named) parts.push({ name, corpus: await readCorpus(host, path) });
  const pathOf = (wav: string) => relative(resolve(folder), resolve(wav)).replaceAll(sep, "/");
  const chosen = { test: test?.split(","), dev: dev?.split(","), without: without?.split(",") };
  const { rows, ...joined } = joinCorpora(parts, pathOf, chosen);
  const manifest = `${folder}/manifest.jsonl`;
  await host.makeDirectory(folder);
  await writeWhole(host, manifest, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  for (const { name, corpus } of parts) print(`${name}: ${labelLine(corpus)}`);
  for (const line of formatTable(
    ["group", "use", "recordings"],
    joined.groups.map(({ name, use, count }) => [name, use, count]),
  ))
    print(line);
  if (joined.leftOut.length > 0) print(`left out: ${joined.leftOut.join(", ")}`);
  if (joined.wordless.length > 0) print(`without any transcript, as ${joined.wordless.join(", ")} has none`);
  const problems = parts.flatMap(({ name, corpus }) =>
    corpus.problems.map((problem) => ({ ...problem, id: `${name}/${problem.id}` })),
  );
  for (const line of problemLines(problems)) print(line);
  print(`${manifest}: ${rows.length} recordings, ${new Set(rows.map((row) => row.speaker)).size} speakers`);
  printJson({ out: folder, recordings: rows.length, ...joined, problems });
  return 0;
}

type JoinContext = Output & {
  readonly values: {
    readonly out?: string;
    readonly test?: string;
    readonly dev?: string;
    readonly without?: string;
  };
};

type Output = Pick<Context, "print" | "printJson" | "progress" | "signal">;

/** A progress bar that appears with the first clip. */
function clipBar(progress: Context["progress"], label: string) {
  let bar: Progress | undefined;
  return {
    onClip(done: number, total: number) {
      bar ??= progress(label, total, { unit: "clips" });
      bar.update(done);
      if (done === total) bar.stop();
    },
    stop: () => bar?.stop(),
  };
}

async function make(
  host: Host,
  preset: PresetName,
  out: string,
  seed: number,
  { print, printJson, progress, signal }: Output,
): Promise<number> {
  const begin = performance.now();
  const [making, measuring] = [clipBar(progress, "make"), clipBar(progress, "measure")];
  const { manifest, baselines } = await makeCorpus(host, out, {
    ...{ preset, seed, synthesiser: SYNTHESISER, signal },
    ...{ onClip: making.onClip, onMeasured: measuring.onClip },
  });
  const seconds = (performance.now() - begin) / 1000;
  print(`${out}: ${manifest.clips} clips, ${formatSeconds(manifest.seconds)} of synthetic speech`);
  print(`seed ${seed}, sha256 ${manifest.sha256}, made in ${formatSeconds(seconds)}`);
  print();
  print(formatBaselines(baselines));
  printJson({ out, manifest, baselines: figuresOf(baselines), seconds });
  return 0;
}

async function voices(
  host: Host,
  out: string,
  choice: { readonly seed: number; readonly utterances?: number; readonly jobs?: number },
  { print, printJson, progress, signal }: Output,
): Promise<number> {
  const begin = performance.now();
  const bar = clipBar(progress, "make");
  const made = await makeVoices(host, out, {
    ...{ ...choice, synthesiser: SYNTHESISER, signal, onClip: bar.onClip },
  }).finally(() => bar.stop());
  const { manifest, voices, kept } = made;
  const seconds = (performance.now() - begin) / 1000;
  const before = kept > 0 ? `, ${kept} of them made before` : "";
  print(
    `${out}: ${manifest.utterances} recordings of ${voices} voices${before}, ${formatSeconds(manifest.seconds)} of synthetic speech`,
  );
  print(`seed ${choice.seed}, sha256 ${manifest.sha256}, made in ${formatSeconds(seconds)}`);
  printJson({ out, manifest, voices, kept, seconds });
  return 0;
}

async function check(host: Host, corpus: Corpus, { print, printJson, signal }: Output): Promise<number> {
  const { utterances, sessions, folds, error, intact, problems, ...rest } = await checkCorpus(host, corpus, {
    signal,
  });
  print(`${corpus.name} in ${corpus.root}: ${utterances.length} utterances can be used`);
  print(`sessions: ${sessions.map((session) => session.join(" ")).join(", ")}`);
  print(`labels: ${labelLine(corpus)}`);
  print(`folds: ${corpus.foldRule}`);
  if (!corpus.transcribed) print("no transcripts: for systems that learn no words");
  for (const fold of folds ?? []) {
    const heard = heardLine(fold);
    if (heard !== undefined) print(heard);
  }
  if (folds?.every((fold) => heardLine(fold) === undefined))
    print(`speakers of every test are unheard in training: ${folds.length} folds checked`);
  if (intact !== undefined)
    print(`files ${intact ? "are those of the manifest" : "are not those of the manifest"}`);
  for (const line of problemLines(problems)) print(line);
  printJson({
    corpus: corpus.name,
    root: corpus.root,
    ...facts(corpus),
    utterances: utterances.length,
    folds: folds?.map(({ name, train, dev, test }) => {
      return { name, train: train.length, dev: dev.length, test: test.length };
    }),
    error: error?.message,
    notForTraining: [...rest.notForTraining],
    notForCtc: [...rest.notForCtc],
    intact,
    problems,
  });
  // Thrown after the problems are printed, since they may be the cause.
  if (error) throw error;
  return intact === false ? 1 : 0;
}

/** What JSON says of the labels and folds. */
const facts = ({ ownLabels, otherLabels, foldRule, transcribed }: Corpus) => ({
  labels: Object.fromEntries(ownLabels),
  leftOut: Object.fromEntries(otherLabels),
  ...{ foldRule, transcribed },
});

function problemLines(problems: readonly Problem[]): string[] {
  if (problems.length === 0) return ["no problems"];
  const each = problems.map((problem) => `  ${problemLine(problem)}`);
  return [`problems: ${summarizeProblems(problems)}`, ...each];
}

async function stats(host: Host, corpus: Corpus, output: Output): Promise<number> {
  const { print, printJson, signal, progress } = output;
  const { utterances, problems: known } = await examine(host, corpus, { signal });
  const statistics = corpusStatistics(utterances, corpus.sessions);
  const problems = [...known];
  const bar = clipBar(progress, "measure");
  const measured: { baselines?: Baselines; error?: Error } = await measureBaselines(
    host,
    { ...corpus, utterances },
    {
      onProblem: (id, message) =>
        problems.push({ id, kind: "unreadable wav", handled: `left out of the baselines: ${message}` }),
      onClip(done, total) {
        signal.throwIfAborted();
        bar.onClip(done, total);
      },
    },
  ).then(
    (baselines) => ({ baselines }),
    (error: Error) => ({ error }),
  );
  bar.stop();
  if (measured.error) signal.throwIfAborted();

  for (const line of statisticsLines(statistics)) print(line);
  print(`labels: ${labelLine(corpus)}`);
  print(`folds: ${corpus.foldRule}`);
  for (const line of problemLines(problems)) print(line);
  if (measured.baselines) {
    print();
    print(formatBaselines(measured.baselines));
    if (!corpus.transcribed) print("no transcripts: the baselines of text guess");
  }
  const { sessions, seconds, words } = statistics;
  printJson({
    ...{ sessions, seconds, words, ...facts(corpus), problems },
    ...{ baselines: measured.baselines && figuresOf(measured.baselines), error: measured.error?.message },
  });
  // Thrown after the problems are printed, since they may be the cause.
  if (measured.error) throw measured.error;
  return 0;
}

/** No lines for a corpus without a clip. */
function statisticsLines({ clips, sessions, seconds, words }: CorpusStatistics): string[] {
  if (clips === 0) return [];
  const columns = ["session", ...LABELS, "all", "improvised", "seconds"] as const;
  const rows = sessions.map((session) => columns.map((column) => session[column]));
  const { total, mean, min, max } = seconds;
  return [
    ...formatTable([...columns], rows),
    "",
    `${formatSeconds(total)}; a clip ${mean.toFixed(2)} s on average, ${min.toFixed(2)} to ${max.toFixed(2)} s`,
    `${words.count} words of ${words.types} types, ${(words.count / clips).toFixed(1)} a clip`,
  ];
}

if (isMain(import.meta)) await runVerb(verb);
