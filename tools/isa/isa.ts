/** What kernels become on a GPU that is not here: registers, spills, workgroup memory, waves, and what their inner loops do. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Host } from "../../src/host/host.ts";
import type { Compiled, Order } from "./child.ts";
import { compileCuda } from "./cuda.ts";
import { cudaPrograms, targetEnvironment } from "./environment.ts";
import { type Counts, counts } from "./counts.ts";
import { threadsOf } from "./spirv.ts";
import { type Target, targetOf } from "./targets.ts";
import type { Used } from "./workload.ts";

/** What to compile: kernels of the package, or one's own; the rest is as child.ts has it. */
export interface IsaOptions extends Omit<Order, "out"> {
  /** One of TARGETS. */
  readonly target: string;
}

/** A pipeline on a target. */
export interface IsaKernel extends Used, Counts {
  /** Name, entry point, flags and constants, in one line that tells pipelines apart. */
  readonly line: string;
  /** Of a workgroup. */
  readonly threads: number;
  /** Threads that the GPU runs together. */
  readonly subgroup: number;
  /** Of a thread: AMD's vector registers, Intel's live registers of 32 bytes, NVIDIA's. */
  readonly registers: number;
  /** Registers that were moved to memory. */
  readonly spills: number;
  /** Bytes of private memory of a thread, spills among them. */
  readonly scratch: number;
  /** Bytes of workgroup memory. */
  readonly shared: number;
  /** Subgroups that a SIMD unit can hold at once; undefined for Intel's, which always holds 8. */
  readonly waves?: number;
}

/** All kernels on one target. */
export interface IsaReport {
  readonly target: string;
  /** By what they were compiled, with its version: figures are comparable where it is the same. */
  readonly compiler: string;
  readonly kernels: readonly IsaKernel[];
}

/**
 * Compiles kernels for a target. Throws a MissingError where this machine lacks what that takes, and what the compilers say
 * where one refuses a kernel.
 */
export async function isa(host: Host, { target: name, ...order }: IsaOptions): Promise<IsaReport> {
  const target = targetOf(name);
  const programs = target.by === "cuda" ? cudaPrograms(name) : undefined;
  const cache = join(host.cacheDirectory(), "isa");
  mkdirSync(cache, { recursive: true });
  const env = targetEnvironment(target, cache);
  const out = mkdtempSync(join(tmpdir(), "wavegate-isa-"));
  try {
    await runChild(host, env, { out, ...order });
    const { device, pipelines } = JSON.parse(readFileSync(join(out, "pipelines.json"), "utf8")) as Compiled;
    if (programs) return { target: name, ...compileCuda(target, programs, out, pipelines) };
    return {
      target: name,
      compiler: device,
      kernels: pipelines.map((pipeline, i) => readMesa(target, join(out, String(i)), pipeline)),
    };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Runs child.ts under the environment of a target. */
async function runChild(host: Host, env: NodeJS.ProcessEnv, order: Order): Promise<void> {
  const typescript = import.meta.url.endsWith(".ts");
  const script = fileURLToPath(new URL(typescript ? "./child.ts" : "./child.js", import.meta.url));
  const loader = typescript ? ["--import", import.meta.resolve("tsx")] : [];
  const flags = host.name === "deno" ? ["run", "--allow-all"] : loader;
  const child = spawn(process.execPath, [...flags, script, JSON.stringify(order)], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const status = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  if (status === 0) return;
  const own = /^wavegate-isa: ([\s\S]*)/m.exec(said)?.[1].trim();
  throw new Error(
    own ?? `Cannot compile: the driver ended with ${status}: ${said.trim().split("\n").at(-1) ?? ""}`,
  );
}

/** A pipeline as Mesa's drivers describe it, by the files that the layer wrote. */
function readMesa(target: Target, path: string, pipeline: Compiled["pipelines"][number]): IsaKernel {
  const stats = new Map(
    readFileSync(`${path}.stats`, "utf8")
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf("=")), Number(line.slice(line.indexOf("=") + 1))]),
  );
  const figure = (...names: string[]) => names.reduce((sum, name) => sum + (stats.get(name) ?? 0), 0);
  const intel = target.by === "anv";
  return {
    ...pipeline,
    threads: threadsOf(readFileSync(`${path}.spv`)),
    subgroup: figure("subgroup"),
    registers: intel ? figure("Max live registers") : figure("VGPRs"),
    spills: intel ? figure("Spill Count") : figure("Spilled VGPRs", "Spilled SGPRs"),
    scratch: intel ? figure("Scratch Memory Size") : figure("Scratch size"),
    shared: intel ? figure("Workgroup Memory Size") : figure("LDS size"),
    // RADV counts in 32 threads where a subgroup has 64.
    waves: intel ? undefined : (figure("Subgroups per SIMD") * 32) / figure("subgroup"),
    ...counts(readFileSync(`${path}.asm`, "utf8"), intel ? "gen" : "aco"),
  };
}
