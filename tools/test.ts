/**
 * Runs test/*.test.ts under Node and under Deno with its own WebGPU, each file in a process of its own, several at once.
 *
 *   npm test                   both
 *   npm test -- --node         one of them (--deno)
 *   npm test -- matmul shape   files whose name contains one of the words
 *   npm test -- --jobs 1       so many files at once; by default as many as there are cores, at most 4
 *
 * Says at once how long it will take, from the times of the last run; then a line for each file that is done.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { formatSeconds } from "./format.ts";
import { expected, inOrder, readTimes, type Times, totals, withoutNoise } from "./test_runs.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const CACHE = join(root, ".cache");
const TIMES = join(CACHE, "test-times.json");
/** Where Mesa keeps the kernels that it compiled. */
const SHADERS = process.env.MESA_SHADER_CACHE_DIR ?? join(CACHE, "mesa");

/** These files go by Mesa's own settings: every operator and model as users have it. */
const AS_USERS_COMPILE = ["records", "validate"].map((name) => `node test/${name}.test.ts`);
/** These take kernels without subgroups alone, whatever the adapter offers, or compile all tiles to see that they run. */
const NO_SUBGROUPS = ["bench", "gpu_path", "matmul_matrices", "matmul_tiles"].map(
  (name) => `node test/${name}.test.ts`,
);

/**
 * What lavapipe compiles a job's kernels by: small sizes do not repay LLVM's optimisations, and a text is as much longer as
 * vectors are wider. 256 bits are the fewest for subgroups, which wgpu does not offer. What the environment says goes before.
 */
function compiler(job: string): Record<string, string> {
  if (AS_USERS_COMPILE.includes(job)) return {};
  const narrow = job.startsWith("deno") || NO_SUBGROUPS.includes(job);
  return { GALLIVM_PERF: "nopt", LP_NATIVE_VECTOR_WIDTH: narrow ? "128" : "256" };
}

/** The environment of a job: what this machine remembers, as its peaks, is not the tests'. */
function environment(job: string): NodeJS.ProcessEnv {
  const own = { ...compiler(job), ...process.env };
  // Mesa does not tell kernels of different widths apart.
  const shaders = join(SHADERS, own.LP_NATIVE_VECTOR_WIDTH ?? "default");
  mkdirSync(shaders, { recursive: true });
  return {
    ...own,
    ...{ XDG_CACHE_HOME: join(CACHE, "user"), MESA_SHADER_CACHE_DIR: shaders },
    ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }),
  };
}
/**
 * Left to Node where both runtimes run, which keeps that within 20 minutes on two cores: what goes through processes and a
 * browser that are the same whichever runtime asks, adapters beside the usual one, and long trainings. `--deno` runs all.
 */
const NODE_ALONE = [
  ...["adapters", "browser", "crossvalidate_run", "doctor", "examples", "f16_activations", "gradients"],
  ...["kernel_verb", "paper_rows", "pretraining", "slurm", "stage_loop", "train_run", "tuning", "update"],
].map((name) => `deno test/${name}.test.ts`);
/** Milliseconds after which a file counts as hanging. */
const LIMIT = 900_000;

const COMMANDS = {
  node: ["--enable-source-maps", "--import", "tsx", "--test-reporter=spec"],
  // bin.cjs finds the executable even where npm was told to run no install scripts.
  deno: ["node_modules/deno/bin.cjs", "test", "--allow-all", "--no-check"],
};
type Runtime = keyof typeof COMMANDS;

interface Outcome {
  job: string;
  output: string;
  passed: number;
  failed: number;
  skipped: number;
  seconds: number;
  ok: boolean;
}

function testFiles(words: string[]): string[] {
  return readdirSync(join(root, "test"))
    .filter((name) => name.endsWith(".test.ts"))
    .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
    .sort()
    .map((name) => `test/${name}`);
}

/** Attempts at a file whose process dies although every test has passed. */
const ATTEMPTS = 3;

/**
 * Runs a file, and again where its process died although every test had passed: on a CPU adapter the driver's threads crash
 * in one or two of a hundred exits of Deno. A file whose process dies each time has failed.
 */
async function run(job: string): Promise<Outcome> {
  let outcome = await attempt(job);
  for (let n = 1; n < ATTEMPTS && !outcome.ok && outcome.failed === 0 && outcome.passed > 0; n++) {
    const next = await attempt(job);
    outcome = { ...next, output: `${outcome.output}It is run again.\n${next.output}` };
  }
  return outcome;
}

/** `job` is the runtime and the file, "deno test/pool.test.ts". */
async function attempt(job: string): Promise<Outcome> {
  const [runtime, file] = job.split(" ") as [Runtime, string];
  const start = performance.now();
  const child = spawn(process.execPath, [...COMMANDS[runtime], file], {
    cwd: root,
    env: environment(job),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LIMIT,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  const status = await new Promise<number | string>((resolve) =>
    child.on("close", (code, signal) => resolve(code ?? signal ?? 1)),
  );
  const seconds = (performance.now() - start) / 1000;
  const counts = totals(runtime, output);
  const ok = status === 0 && counts.failed === 0 && counts.passed > 0;
  if (!ok) output += `\n${job} ended with ${status} after ${formatSeconds(seconds)}\n`;
  return { job, output: withoutNoise(output), ...counts, seconds, ok };
}

/** Runs all files, `jobs` at once, and prints the output of each once it is complete. */
async function runAll(queue: string[], jobs: number, about: number): Promise<Outcome[]> {
  const start = performance.now();
  const outcomes: Outcome[] = [];
  const waiting = [...queue];
  const worker = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      const outcome = await run(job);
      outcomes.push(outcome);
      const elapsed = `${formatSeconds((performance.now() - start) / 1000)} of about ${formatSeconds(about)}`;
      process.stdout.write(
        `${outcome.output}[${outcomes.length} of ${queue.length} files, ${elapsed}] ${line(outcome)}\n\n`,
      );
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return outcomes;
}

function line({ job, passed, failed, skipped, seconds, ok }: Omit<Outcome, "output">): string {
  const rest = [`${failed} failed`, skipped ? `${skipped} skipped` : ""].filter(Boolean).join(", ");
  return `${ok ? "ok    " : "FAILED"} ${job}: ${passed} passed, ${rest}, ${formatSeconds(seconds)}`;
}

/** One line for a runtime: the sums and the total time. */
function summary(runtime: Runtime, outcomes: Outcome[], seconds: number): string {
  const own = outcomes.filter(({ job }) => job.startsWith(runtime));
  const sum = (key: "passed" | "failed" | "skipped") => own.reduce((n, outcome) => n + outcome[key], 0);
  const counts = { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
  return line({ job: runtime, ...counts, seconds, ok: own.every(({ ok }) => ok) });
}

const { values, positionals } = parseArgs({
  options: { node: { type: "boolean" }, deno: { type: "boolean" }, jobs: { type: "string" } },
  allowPositionals: true,
});
const runtimes = (["node", "deno"] as const).filter((name) => values[name] || values.node === values.deno);
const files = testFiles(positionals);
const jobs = Number(values.jobs ?? Math.min(4, availableParallelism()));
if (files.length === 0 || !(Number.isInteger(jobs) && jobs >= 1)) {
  console.error(
    files.length === 0
      ? `test: Cannot find a test for ${positionals.join(" ")}`
      : `test: Cannot read --jobs ${values.jobs}: it is a whole number of at least 1`,
  );
  process.exit(2);
}

const read = () => {
  try {
    return readTimes(readFileSync(TIMES, "utf8"));
  } catch {
    return {};
  }
};
const times: Times = read();
const queue = inOrder(
  runtimes
    .flatMap((runtime) => files.map((file) => `${runtime} ${file}`))
    .filter((job) => runtimes.length === 1 || !NODE_ALONE.includes(job)),
  times,
);
const about = expected(queue, times, jobs);
console.log(
  `test: ${queue.length} files (${runtimes.join(" and ")}), ${jobs} at once, about ${formatSeconds(about)}\n`,
);
const start = performance.now();
const outcomes = await runAll(queue, jobs, about);
const seconds = (performance.now() - start) / 1000;
mkdirSync(CACHE, { recursive: true });
for (const outcome of outcomes) if (outcome.ok) times[outcome.job] = outcome.seconds;
writeFileSync(TIMES, `${JSON.stringify(times, null, 1)}\n`);

const failures = outcomes.filter(({ ok }) => !ok);
if (failures.length > 0) console.log(`${failures.map(line).join("\n")}\n`);
console.log(runtimes.map((runtime) => summary(runtime, outcomes, seconds)).join("\n"));
process.exit(failures.length === 0 ? 0 : 1);
