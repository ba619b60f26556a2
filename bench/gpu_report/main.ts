/**
 * The report of a GPU: what doctor says, parity, both models beside PyTorch, former kernels beside today's, all tiles of products,
 * a profile of a training step, recording. Every section is a process with a time of its own; what fails or takes too long is
 * said in the report and stops nothing else. After each section the report is written anew.
 *
 *   node bench/gpu-report.mjs [--quick] [--out FOLDER] [--seconds 570] [--only WORD]
 *
 * --quick: tiny sizes, to see that all of it runs; limits are ten times as long, so that a busy machine is no failure. --out: by default $OUT, or else bench/results. --only: the sections whose names
 * contain the word, and doctor. WAVEGATE_ADAPTER=NAME chooses the adapter. PYTHON names the interpreter that has PyTorch.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { currentHost } from "../../src/host/current.ts";
import { collect, LINES, RESULTS_FOLDER } from "../../tools/bench/results.ts";
import { commitOf } from "../../tools/commit.ts";
import { markdown } from "./markdown.ts";
import type { Report, Row, Section } from "./report.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    out: { type: "string", default: process.env.OUT || RESULTS_FOLDER },
    seconds: { type: "string" },
    only: { type: "string" },
  },
});
const { quick, only } = values;
/** Times the limits: what --quick looks for is faults, not the machine's speed. */
const patience = quick ? 10 : 1;
const budget = Number(values.seconds ?? 570 * patience);
if (!(budget > 0)) {
  console.error(`gpu-report: Cannot read --seconds ${values.seconds}: it is a number above 0`);
  process.exit(2);
}
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const root = fileURLToPath(new URL("../..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "wavegate-gpu-report-"));

/** Seconds that a script is told less than its limit, so that it ends by itself. */
const MARGIN = 3;
/** Fewest seconds for which a section is begun. */
const FEWEST = 8;

const adapter = process.env.WAVEGATE_ADAPTER;
const tsx = ["--import", "tsx"];
const verb = (name: string, ...args: string[]) => [
  ...[process.execPath, ...tsx, `tools/${name}.ts`, ...args],
  ...(adapter ? ["--adapter", adapter] : []),
];
/** A script of this folder: hands over rows in a file. */
const script = (name: string, ...args: string[]) => [
  ...[process.execPath, ...tsx, `bench/gpu_report/${name}.ts`, ...args, ...(quick ? ["--quick"] : [])],
];
/** No compiled shader is found on the disk: what a first result takes. */
const COLD: Readonly<Record<string, string>> = quick
  ? {}
  : { MESA_SHADER_CACHE_DISABLE: "1", __GL_SHADER_DISK_CACHE: "0" };

interface Plan {
  readonly name: string;
  readonly title: string;
  /** Most seconds. */
  readonly limit: number;
  readonly command: () => string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the command takes --seconds, and --result for the file of its rows. */
  readonly takes?: "seconds" | "seconds and result";
  /** What is said where there is no such program, in place of a failure. */
  readonly absent?: string;
  /** Rows of what came of it. */
  readonly rows?: (stdout: string) => Row[];
}

/** The lines that hold JSON; the last of a process that was stopped may be half a line. */
const jsonLines = (text: string): Row[] =>
  text
    .split("\n")
    .filter((line) => line.startsWith("{") && line.endsWith("}"))
    .map((line) => JSON.parse(line));

const report: Report = {
  version: 1,
  date: new Date().toISOString(),
  commit: commitOf(),
  host: (await currentHost()).describe(),
  quick,
  budget,
  device: "unknown device",
  sections: [],
};

const f16 = () => report.doctor?.adapter?.features.f16 === true;
const file = (ending: string) => join(out, `gpu-report-${slug(report.device)}${ending}`);
const recordingLines = join(scratch, "recording");

const model = (name: "hubert" | "bert", title: string, dtype: "f32" | "f16", limit: number): Plan => ({
  ...{ name: `${name}-${dtype}`, title: `${title} in ${dtype}`, limit, env: COLD },
  ...{ command: () => script("models", name, dtype), takes: "seconds and result" },
});

const plans: readonly Plan[] = [
  {
    ...{ name: "doctor", title: "the machine, and its ceilings", limit: 60 },
    command: () => verb("doctor", "--json", "--peaks"),
    rows: (stdout) => [JSON.parse(stdout)],
  },
  {
    ...{ name: "parity", title: "parity with float64 and PyTorch", limit: 80 },
    ...{ command: () => script("parity"), takes: "seconds and result" },
  },
  model("hubert", "HuBERT-large", "f32", 75),
  model("hubert", "HuBERT-large", "f16", 75),
  model("bert", "BERT-base", "f32", 40),
  model("bert", "BERT-base", "f16", 40),
  {
    ...{ name: "pytorch", title: "the same models on PyTorch", limit: 180, takes: "seconds" },
    command: () => [process.env.PYTHON ?? "python3", "bench/gpu_report.py", ...(quick ? ["--quick"] : [])],
    rows: jsonLines,
    absent: "PyTorch is not measured: there is no",
  },
  {
    ...{ name: "kernels", title: "former kernels beside today's", limit: 40 },
    ...{ command: () => script("kernels"), takes: "seconds and result" },
  },
  {
    ...{ name: "profile", title: "profile of a training step of the whole system", limit: 70 },
    command: () => {
      const sizes = quick
        ? ["--preset", "nano", "--seconds", "1", "--tokens", "8", "--runs", "2"]
        : ["--preset", "safe", "--seconds", "5", "--tokens", "64", "--runs", "5"];
      const saved = ["--save", file("-profile.json"), "--html", file("-profile.html")];
      return verb("profile", "train", ...sizes, "--batch", "2", "--dtype", f16() ? "f16" : "f32", ...saved);
    },
    // Every dispatch stands in the file beside.
    rows: () => {
      const { events, cpuEvents, memory, ...rest } = JSON.parse(readFileSync(file("-profile.json"), "utf8"));
      return [{ ...rest, dispatches: events.length }];
    },
  },
  {
    ...{ name: "sweep", title: "all tiles of products", limit: 60 },
    ...{ command: () => script("sweep"), takes: "seconds and result" },
  },
  {
    ...{ name: "recording", title: "the CPU's time a dispatch", limit: 30 },
    ...{
      command: () => [process.execPath, ...tsx, "bench/recording.bench.ts", ...(quick ? ["8"] : [])],
      env: { [LINES]: recordingLines },
    },
    rows: () => collect(recordingLines).flatMap(({ cases }) => cases),
  },
];

const slug = (text: string) =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 60);

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly late: boolean;
  /** There is no such program. */
  readonly absent: boolean;
}

/** Runs a command, and kills it with all that it started where it takes longer. */
function execute([program, ...args]: readonly string[], env: object, limit: number): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(program, args, {
      ...{ cwd: root, env: { ...process.env, ...env }, detached: true },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr, late, absent] = ["", "", false, false];
    child.stdout.on("data", (data) => (stdout += data));
    child.stderr.on("data", (data) => (stderr += data));
    const timer = setTimeout(() => {
      late = true;
      try {
        process.kill(-(child.pid as number), "SIGKILL");
      } catch {
        // It has just ended.
      }
    }, 1000 * limit);
    const end = (status: number | null) => {
      clearTimeout(timer);
      done({ status, stdout, stderr, late, absent });
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      stderr += error.message;
      absent = error.code === "ENOENT";
      end(null);
    });
    child.on("close", end);
  });
}

/** Rows of what came, also where it ended early; none where there are none. */
function rowsOf(plan: Plan, result: string, stdout: string): Row[] {
  try {
    return plan.rows?.(stdout) ?? jsonLines(readFileSync(result, "utf8"));
  } catch {
    return [];
  }
}

/** The line of stderr that says what is wrong: an error that nobody caught comes with its stack. */
function complaint(stderr: string, status: number | null): string {
  const lines = stderr.split("\n").map((line) => line.trim());
  const line =
    lines.find((each) => /^(\w*Error|wavegate \w+): /.test(each)) ?? lines.findLast((each) => each !== "");
  return line?.slice(0, 300) ?? `it ended with status ${status}`;
}

async function run(plan: Plan, limit: number): Promise<Section> {
  const { name, title } = plan;
  const result = join(scratch, name);
  const options = [
    ...(plan.takes ? ["--seconds", String(limit - MARGIN)] : []),
    ...(plan.takes === "seconds and result" ? ["--result", result] : []),
  ];
  const command = [...plan.command(), ...options];
  const begin = performance.now();
  const { status, stdout, stderr, late, absent } = await execute(command, plan.env ?? {}, limit);
  const seconds = (performance.now() - begin) / 1000;
  const section = { name, title, limit, seconds };
  if (absent && plan.absent)
    return { ...section, state: "done", rows: [{ note: `${plan.absent} ${command[0]}` }] };
  const rows = rowsOf(plan, result, stdout);
  const faults = rows.filter((row) => row.failed === true || Number(row.faults) > 0).length;
  const error = late
    ? `stopped after ${limit.toFixed(0)} s`
    : status !== 0
      ? complaint(stderr, status)
      : faults > 0
        ? `${faults} of ${rows.length} rows failed`
        : undefined;
  if (error === undefined) return { ...section, state: "done", rows };
  return { ...section, state: late ? "out of time" : "failed", error, rows };
}

function write(): void {
  writeFileSync(file(".json"), `${JSON.stringify(report)}\n`);
  writeFileSync(file(".md"), markdown(report));
}

for (const plan of plans) {
  if (only && plan.name !== "doctor" && !plan.name.includes(only)) continue;
  const left = budget - performance.now() / 1000;
  const limit = Math.min(plan.limit * patience, left);
  const { name, title } = plan;
  if (limit < FEWEST) {
    report.sections.push({ name, title, limit: 0, seconds: 0, rows: [], state: "left out" });
    console.log(`${name}: left out, ${left.toFixed(0)} s are left`);
  } else {
    const section = await run(plan, limit);
    report.sections.push(section);
    if (name === "doctor") {
      report.doctor = section.rows[0] as Report["doctor"];
      report.device = report.doctor?.peaks?.adapter ?? report.doctor?.adapter?.name ?? report.device;
    }
    const { seconds, state, error } = section;
    console.log(
      `${name}: ${state}${error ? `, ${error}` : ""}; ${seconds.toFixed(0)} of ${limit.toFixed(0)} s`,
    );
  }
  write();
}
rmSync(scratch, { recursive: true });
console.log(`wrote ${file(".md")} and ${file(".json")}`);
process.exit(report.sections.every(({ state }) => state === "done") ? 0 : 1);
