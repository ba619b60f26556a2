/** `wavegate corpus make|check|stats`: makes a stand-in for IEMOCAP, examines a corpus, describes one. */
import { rename } from "node:fs/promises";
import {
  type Corpus,
  LABELS,
  type Problem,
  problemLine,
  summarizeProblems,
} from "../src/speech/corpora/corpus.ts";
import { type Examined, examine } from "../src/speech/corpora/examine.ts";
import { bySession, folds } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { hashSessions, readManifest } from "../src/speech/corpora/manifest.ts";
import { makeCorpus } from "../src/speech/corpora/synthetic.ts";
import { measureBaselines, type Baselines, baselinesText } from "../src/speech/evaluate/baselines.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { writeWhole } from "../src/io/write_whole.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError, withoutSlash } from "./cli.ts";
import { formatSeconds, formatTable } from "./format.ts";
import { lockRun } from "./lock.ts";
import type { Progress } from "./progress.ts";
import { startSpeech } from "./speech_process.ts";

const ACTIONS = ["make", "check", "stats"] as const;

export const verb = defineVerb({
  name: "corpus",
  summary: "make a stand-in for IEMOCAP, check a corpus, or describe one",
  usage: `make --preset nano|mini|full --out DIR [--seed N]
       wavegate corpus check DIR
       wavegate corpus stats DIR`,
  example: "wavegate corpus make --preset mini --out corpus/mini",
  operands: { max: 2 },
  interruptible: true,
  options: {
    preset: {
      type: "string",
      choices: ["nano", "mini", "full"],
      default: "nano",
      help: "make: 120, 1,200 or 5,531 clips",
    },
    out: { type: "string", value: "DIR", help: "make: a folder that does not exist yet" },
    seed: { type: "number", value: "N", default: 1, help: "make: equal seeds give equal bytes" },
  },
  async main(context) {
    const [action, dir] = context.operands;
    const actions = `it is one of ${ACTIONS.join(", ")}`;
    if (action === undefined) throw new UsageError(`Cannot run corpus without an action: ${actions}`);
    if (!(ACTIONS as readonly string[]).includes(action))
      throw new UsageError(`Cannot run corpus ${action}: ${actions}`);
    const host = await currentHost();
    if (action === "make") {
      const { preset, out, seed } = context.values;
      if (dir !== undefined)
        throw new UsageError(`Cannot read "${dir}": the folder to make is given by --out`);
      if (out === undefined) throw new UsageError("Cannot make a corpus without --out DIR");
      if (!Number.isInteger(seed)) throw new UsageError(`Cannot read --seed ${seed}: it is an integer`);
      return await make(host, preset, withoutSlash(out), seed, context);
    }
    if (dir === undefined) throw new UsageError(`Cannot run corpus ${action} without DIR`);
    const corpus = await readIemocap(host, dir);
    return action === "check" ? await check(host, corpus, context) : await stats(host, corpus, context);
  },
});

type Output = Pick<Context, "print" | "printJson" | "progress" | "signal">;

async function make(
  host: Host,
  preset: "nano" | "mini" | "full",
  out: string,
  seed: number,
  output: Output,
): Promise<number | undefined> {
  const { print, printJson, progress, signal } = output;
  // Made under another name, so that what is called `out` is always whole.
  const partial = `${out}.partial`;
  const lock = await claim(host, out, partial);
  const begin = performance.now();
  const speech = startSpeech();
  try {
    let bar: Progress | undefined;
    const manifest = await makeCorpus(host, partial, {
      preset,
      seed,
      synthesise: speech.synthesise,
      onClip(done, total) {
        signal.throwIfAborted();
        bar ??= progress("make", total, { unit: "clips" });
        bar.update(done);
      },
    });
    bar?.stop();
    const baselines = await measure(host, await readIemocap(host, partial), output);
    await writeWhole(host, `${partial}/oracle.json`, `${JSON.stringify(baselines, null, 2)}\n`);
    await rename(partial, out);
    await host.remove(`${out}/lock`); // went along, so that nobody claimed the folder before it had its name
    const seconds = (performance.now() - begin) / 1000;
    print(`${out}: ${manifest.clips} clips, ${formatSeconds(manifest.seconds)} of synthetic speech`);
    print(`seed ${seed}, sha256 ${manifest.sha256}, made in ${formatSeconds(seconds)}`);
    print();
    print(baselinesText(baselines));
    printJson({ out, manifest, baselines, seconds });
    return 0;
  } catch (error) {
    await host.remove(partial);
    // Ctrl-C reaches the synthesiser too: whatever failed, that is why.
    if (!signal.aborted) throw error;
    return undefined;
  } finally {
    speech.close();
    lock.release();
  }
}

/** What an unfinished corpus may hold: what is made, locks, and files that were being written. */
const OURS =
  /^(Session\d+|(manifest\.json|oracle\.json|truth\.jsonl|text\.txt|vocab\.txt)(\..*\.tmp)?|lock(\..*)?)$/;

/**
 * Locks `partial`, emptied of what a process that died left in it. Throws where `out` exists, where another process is
 * making it, and where `partial` is somebody's own folder.
 */
export async function claim(host: Host, out: string, partial: string): Promise<{ release(): void }> {
  const refuseMade = async () => {
    if ((await host.kind(out)) !== undefined)
      throw new Error(`Cannot make a corpus in ${out}: it exists already`);
  };
  const found = async () => ((await host.kind(partial)) === "directory" ? await host.list(partial) : []);
  await refuseMade();
  const foreign = (await found()).find((name) => !OURS.test(name));
  if (foreign !== undefined)
    throw new Error(
      `Cannot make a corpus in ${out}: ${partial} holds ${foreign} and is no unfinished corpus, expected nothing of that name`,
    );
  await host.makeDirectory(partial);
  const lock = lockRun(partial, "make a corpus in");
  try {
    await refuseMade(); // by another process, since
    for (const name of await found()) if (!name.startsWith("lock")) await host.remove(`${partial}/${name}`);
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function measure(
  host: Host,
  corpus: Corpus,
  { progress, signal }: Output,
  onProblem?: (id: string, message: string) => void,
): Promise<Baselines> {
  const bar = progress("measure", corpus.utterances.length, { unit: "clips" });
  try {
    return await measureBaselines(host, corpus, {
      onProblem,
      onClip(done) {
        signal.throwIfAborted();
        bar.update(done);
      },
    });
  } finally {
    bar.stop();
  }
}

async function check(host: Host, corpus: Corpus, { print, printJson, signal }: Output): Promise<number> {
  const { utterances, problems, notForTraining, notForCtc } = await examine(host, corpus, { signal });
  const splits = attempt(() => folds(utterances));
  const manifest = await readManifest(host, corpus.root);
  const hash = manifest && (await hashSessions(host, corpus.root, signal)).sha256;
  const intact = manifest === undefined ? undefined : hash === manifest.sha256;

  print(`${corpus.name} in ${corpus.root}: ${utterances.length} utterances can be used`);
  const counts = [...corpus.sessions].sort(bySession).map((name) => {
    return `${name} ${utterances.filter((u) => u.session === name).length}`;
  });
  print(`sessions: ${counts.join(", ")}`);
  if (splits.value)
    print(`speakers of every test are unheard in training: ${splits.value.length} folds checked`);
  if (intact !== undefined)
    print(`files ${intact ? "are those of the manifest" : "are not those of the manifest"}`);
  for (const line of problemLines(problems)) print(line);
  printJson({
    corpus: corpus.name,
    root: corpus.root,
    utterances: utterances.length,
    folds: splits.value?.map(({ name, train, dev, test }) => {
      return { name, train: train.length, dev: dev.length, test: test.length };
    }),
    error: splits.error?.message,
    notForTraining: [...notForTraining],
    notForCtc: [...notForCtc],
    intact,
    problems,
  });
  // What is wrong with the files may be why, and was told first.
  if (splits.error) throw splits.error;
  return intact === false ? 1 : 0;
}

/** The result of `work`, or the error that it threw. */
function attempt<T>(work: () => T): { readonly value?: T; readonly error?: Error } {
  try {
    return { value: work() };
  } catch (error) {
    return { error: error as Error };
  }
}

function problemLines(problems: readonly Problem[]): string[] {
  if (problems.length === 0) return ["no problems"];
  const each = problems.map((problem) => `  ${problemLine(problem)}`);
  return [`problems: ${summarizeProblems(problems)}`, ...each];
}

async function stats(host: Host, corpus: Corpus, output: Output): Promise<number> {
  const { print, printJson, signal } = output;
  const examined = await examine(host, corpus, { signal });
  const table = sessionTable(examined, corpus.sessions);
  const seconds = examined.utterances.map((u) => u.seconds ?? 0).sort((a, b) => a - b);
  const total = seconds.reduce((a, b) => a + b, 0);
  const at = (q: number) => seconds[Math.floor(q * (seconds.length - 1))];
  const words = examined.utterances.flatMap((u) => u.words.split(" ").filter((word) => word !== ""));
  const types = new Set(words).size;
  const problems = [...examined.problems];
  const { utterances } = examined;
  const measured = await measure(host, { ...corpus, utterances }, output, (id, message) =>
    problems.push({ id, kind: "unreadable wav", handled: `left out of the baselines: ${message}` }),
  ).then(
    (baselines) => ({ baselines, error: undefined }),
    (error: Error) => {
      signal.throwIfAborted();
      return { baselines: undefined, error };
    },
  );

  if (seconds.length > 0) {
    const header = ["session", ...LABELS, "all", "improvised", "seconds"];
    for (const line of formatTable(header, table)) print(line);
    print();
    print(
      `${formatSeconds(total)}; a clip ${(total / seconds.length).toFixed(2)} s on average, ${at(0).toFixed(2)} to ${at(1).toFixed(2)} s`,
    );
    print(`${words.length} words of ${types} types, ${(words.length / seconds.length).toFixed(1)} a clip`);
  }
  for (const line of problemLines(problems)) print(line);
  if (measured.baselines) {
    print();
    print(baselinesText(measured.baselines));
  }
  printJson({
    sessions: table.map(([session, angry, happy, sad, neutral, all, improvised, length]) => {
      return { session, angry, happy, sad, neutral, all, improvised, seconds: length };
    }),
    seconds: { total, mean: total / seconds.length, min: at(0), median: at(0.5), p95: at(0.95), max: at(1) },
    words: { count: words.length, types },
    problems,
    baselines: measured.baselines,
    error: measured.error?.message,
  });
  // The corpus was described first: what is wrong with it may be why.
  if (measured.error) throw measured.error;
  return 0;
}

/** A row for each session, also for one of which nothing can be used. */
function sessionTable({ utterances }: Examined, sessions: readonly string[]): (string | number)[][] {
  return [...sessions].sort(bySession).map((session) => {
    const own = utterances.filter((u) => u.session === session);
    return [
      session,
      ...LABELS.map((label) => own.filter((u) => u.label === label).length),
      own.length,
      own.filter((u) => u.improvised).length,
      Math.round(own.reduce((sum, u) => sum + (u.seconds ?? 0), 0)),
    ];
  });
}

if (isMain(import.meta)) await runVerb(verb);
