/**
 * NVIDIA's machine code by proxy: SPIR-V to Metal's language, that to CUDA, and nvcc. The assembler, which deals out registers
 * and orders instructions, is NVIDIA's own; what stands before it is not that of its Vulkan driver.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Compiled } from "./child.ts";
import type { cudaPrograms } from "./environment.ts";
import { type Counts, counts } from "./counts.ts";
import type { IsaKernel } from "./isa.ts";
import { cudaKernel } from "./msl.ts";
import { threadsOf } from "./spirv.ts";
import { type Target, warpsPerPart } from "./targets.ts";

const SUBGROUP = 32;

/** Divisions and roots as near as Vulkan asks for, which need no subroutine. */
const AS_VULKAN = ["-prec-div=false", "-prec-sqrt=false"];

/** Compiles the SPIR-V that lies in `folder` as INDEX.spv. */
export function compileCuda(
  target: Target,
  programs: ReturnType<typeof cudaPrograms>,
  folder: string,
  pipelines: Compiled["pipelines"],
): { compiler: string; kernels: IsaKernel[] } {
  const { name, waves } = target;
  const run = (program: string, args: string[], what: string) => {
    const done = spawnSync(program, args, { encoding: "utf8", maxBuffer: 2 ** 30 });
    if (done.status === 0) return done;
    const lines = `${done.stderr}${done.stdout}${done.error ?? ""}`.trim().split("\n");
    throw new Error(
      `Cannot compile ${what} for ${name}: ${lines.find((line) => /error/i.test(line)) ?? lines[0]}`,
    );
  };
  const sources = pipelines.map((pipeline, i) => {
    const what = `${pipeline.name}.${pipeline.entry}`;
    const file = join(folder, `${i}.spv`);
    const metal = run(programs.spirvCross, ["--msl", "--msl-version", "20300", file], what).stdout;
    return { i, what, metal, threads: threadsOf(readFileSync(file)) };
  });

  /** What nvcc makes of some of them. All stand in one file: most of its time goes into its own headers. */
  const compile = (some: typeof sources, blocks: string): Map<number, Figures> => {
    const [source, object] = [join(folder, "all.cu"), join(folder, "all.cubin")];
    const text = some.map(
      ({ i, what, metal, threads }) =>
        `#line 1 "${what}"\n${cudaKernel(metal, `k${i}`, `${threads}${blocks}`)}`,
    );
    writeFileSync(
      source,
      `#include "${fileURLToPath(new URL("./msl.cuh", import.meta.url))}"\n${text.join("")}`,
    );
    const args = [
      `-arch=${name}`,
      "-std=c++17",
      ...AS_VULKAN,
      "-cubin",
      "-Xptxas",
      "-v",
      "-o",
      object,
      source,
    ];
    const said = split(run(programs.nvcc, args, "the kernels").stderr, /Compiling entry function '(\w+)'/);
    const sass = split(run(programs.cuobjdump, ["-sass", object], "the kernels").stdout, /Function : (\w+)/);
    return new Map(some.map(({ i }) => [i, figuresOf(said.get(`k${i}`) ?? "", sass.get(`k${i}`) ?? "")]));
  };
  const found = compile(sources, "");
  // ptxas spills a little where more blocks then fit. Asked for one alone, it spills only what it must.
  const spilling = sources.filter(({ i }) => (found.get(i)?.spills ?? 0) > 0);
  if (spilling.length > 0) for (const [i, figures] of compile(spilling, ", 1")) found.set(i, figures);
  const version = /release (\S+),/.exec(run(programs.nvcc, ["--version"], "the kernels").stdout)?.[1];
  return {
    compiler: `nvcc ${version}`,
    kernels: sources.map(({ i, threads }) => {
      const figures = found.get(i) as Figures;
      const held = waves && warpsPerPart(waves, { ...figures, threads });
      return { ...pipelines[i], ...figures, threads, subgroup: SUBGROUP, waves: held };
    }),
  };
}

type Figures = Pick<IsaKernel, "registers" | "spills" | "scratch" | "shared" | keyof Counts>;

/** From what ptxas says of a kernel, and its disassembly. */
function figuresOf(said: string, sass: string): Figures {
  const figure = (pattern: RegExp) => Number(pattern.exec(said)?.[1] ?? 0);
  return {
    registers: figure(/Used (\d+) registers/),
    spills: figure(/(\d+) bytes spill stores/) / 4,
    scratch: figure(/(\d+) bytes stack frame/),
    shared: figure(/(\d+) bytes smem/),
    ...counts(sass, "sass"),
  };
}

/** The parts of a text by the names in their headings. */
function split(text: string, heading: RegExp): Map<string, string> {
  const [, ...parts] = text.split(heading);
  return new Map(parts.flatMap((part, i) => (i % 2 === 0 ? [[part, parts[i + 1]] as const] : [])));
}
