/**
 * Wavegate beside other engines, every workload in a process of its own, one after the other in this run, on the same
 * adapter: the one that WAVEGATE_ADAPTER names. A peer that takes no such name says so where its adapter stands.
 * bench/peers/README.md says how to install the peers and make the data; a peer that is not there is named.
 *
 *   npm run bench -- peers                 all workloads
 *   WORKLOADS=enc12,conv npm run bench -- peers
 *   ROUNDS=3 npm run bench -- peers        all engines in turns, three times; medians over all rounds
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { finite, object, parse } from "../src/io/schema.ts";
import { quantile } from "../src/profile/statistics.ts";
import { handOver } from "../tools/bench/results.ts";
import { formatTable } from "../tools/format.ts";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const python = process.env.PYTHON ?? "python3";
const runs = process.env.RUNS ?? "3";
const rounds = Number(process.env.ROUNDS ?? "1");
const workloads = (process.env.WORKLOADS ?? "enc2,enc12,conv,mm1024,train2,trainh2").split(",");
if (!existsSync(at("peers/data/io.safetensors"))) {
  console.error(
    "bench: Cannot compare: bench/peers/data is not there; bench/peers/README.md says how to make it",
  );
  process.exit(1);
}
if (!(Number.isInteger(rounds) && rounds >= 1)) {
  console.error(
    `bench: Cannot compare: ROUNDS is ${process.env.ROUNDS}, a whole number of at least 1 expected`,
  );
  process.exit(1);
}
/** Wavegate's workloads as JavaScript, as users have the package and all peers are. */
function built(): string {
  const folder = at("../.cache/peers");
  mkdirSync(folder, { recursive: true });
  const config = {
    extends: "../../tsconfig.build.json",
    compilerOptions: { rootDir: "../..", outDir: ".", declaration: false },
    include: ["../../src", "../../bench/workloads.ts"],
    exclude: ["../../src/profile/page_client.js"],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
  const tsc = [join(typescript, "bin/tsc"), "-p", folder];
  if (spawnSync(process.execPath, tsc, { stdio: "inherit" }).status !== 0) process.exit(1);
  cpSync(at("../kernels"), join(folder, "kernels"), { recursive: true });
  return join(folder, "bench/workloads.js");
}

const engines: { name: string; command: string[]; skips?: string[] }[] = [
  { name: "wavegate", command: [process.execPath, built()] },
  { name: "jax-js", command: [process.execPath, at("peers/jaxjs.mjs")] },
  { name: "tfjs-webgpu", command: [process.execPath, at("peers/tfjs.mjs")] },
  {
    name: "onnxruntime webgpu",
    command: [process.execPath, at("peers/ort_node.mjs")],
    skips: ["train2", "trainh2"],
  },
  { name: "PyTorch CPU", command: [python, at("peers/pytorch.py")] },
];

const figures = object({
  firstMs: finite,
  medianMs: finite,
  coldMs: v.optional(finite),
  relL2: finite,
  times: v.array(finite),
  gpuTimes: v.optional(v.array(finite)),
  adapter: v.string(),
});
/** What a workload prints: figures, or why there are none. */
const lineSchema = v.union([object({ error: v.string() }), figures]);

type Line = v.InferOutput<typeof figures>;

function run(command: string[], workload: string): Line | string {
  // No shader cache: firstMs and coldMs are what a new user sees.
  const env = { ...process.env, MESA_SHADER_CACHE_DISABLE: "1", OMP_WAIT_POLICY: "passive" };
  const [program, ...args] = command;
  const done = spawnSync(program, [...args, workload, "--runs", runs], {
    env,
    encoding: "utf8",
    cwd: at(".."),
  });
  const json = done.stdout?.split("\n").find((l) => l.startsWith("{"));
  if (!json) return done.stderr?.trim().split("\n").at(-1) ?? String(done.error);
  const line = parse(lineSchema, JSON.parse(json), `the line of ${program}`);
  return "error" in line ? line.error : line;
}

const median = (values: readonly number[]): number => quantile(values, 0.5);

/** All rounds of one engine as one line. */
function together(lines: readonly Line[]): Line {
  const times = lines.flatMap((line) => line.times);
  const gpuTimes = lines.flatMap((line) => line.gpuTimes ?? []);
  const cold = lines.flatMap(({ coldMs }) => coldMs ?? []);
  return {
    ...lines[0],
    firstMs: median(lines.map(({ firstMs }) => firstMs)),
    medianMs: median(times),
    ...(cold.length > 0 && { coldMs: median(cold) }),
    relL2: Math.max(...lines.map(({ relL2 }) => relL2)),
    times,
    ...(gpuTimes.length > 0 && { gpuTimes }),
  };
}

/** Each engine's line of a workload, or why there is none. In turns, so that what else the machine does meets all of them. */
function measure(workload: string): Map<string, Line | string> {
  const lines = new Map<string, Line[] | string>();
  for (let round = 0; round < rounds; round++)
    for (const { name, command, skips } of engines) {
      const before = lines.get(name) ?? [];
      if (skips?.includes(workload) || typeof before === "string") continue;
      const line = run(command, workload);
      lines.set(name, typeof line === "string" ? line : [...before, line]);
    }
  return new Map([...lines].map(([name, of]) => [name, typeof of === "string" ? of : together(of)]));
}

for (const workload of workloads) {
  console.log(`\n${workload}`);
  const rows: (string | number)[][] = [];
  let best = Number.POSITIVE_INFINITY;
  let bestCold = Number.POSITIVE_INFINITY;
  let ours: Line | undefined;
  for (const [name, line] of measure(workload)) {
    if (typeof line === "string") {
      rows.push([name, "-", "-", "-", "-", line.slice(0, 70)]);
      // A peer may not be there; we are.
      if (name === "wavegate") process.exitCode = 1;
      continue;
    }
    const { times: wall, gpuTimes: gpu, relL2, adapter } = line;
    handOver({
      ...{ bench: `peers, ${name}`, name: workload, adapter, driver: "not told" },
      ...{ wall, relL2, ...(gpu && { gpu }) },
    });
    if (name === "wavegate") ours = line;
    else if (name !== "PyTorch CPU") {
      best = Math.min(best, line.medianMs);
      bestCold = Math.min(bestCold, line.coldMs ?? Number.POSITIVE_INFINITY);
    }
    rows.push([
      name,
      Math.round(line.medianMs),
      Math.round(line.firstMs),
      line.coldMs ? Math.round(line.coldMs) : "-",
      relL2.toExponential(1),
      adapter,
    ]);
  }
  for (const row of formatTable(["engine", "median ms", "first ms", "cold ms", "rel L2", "adapter"], rows))
    console.log(`  ${row}`);
  if (ours && Number.isFinite(best)) {
    const cold =
      ours.coldMs && Number.isFinite(bestCold) ? `, cold start ${(ours.coldMs / bestCold).toFixed(2)}` : "";
    console.log(`  wavegate / best WebGPU peer: ${(ours.medianMs / best).toFixed(2)}${cold}`);
  }
}
