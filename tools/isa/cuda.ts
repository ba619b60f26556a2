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
import { counts } from "./counts.ts";
import type { IsaKernel } from "./isa.ts";
import { cudaKernel } from "./msl.ts";
import { threadsOf } from "./spirv.ts";
import { type Target, warpsPerPart } from "./targets.ts";

const SUBGROUP = 32;

/** Divisions and roots as near as Vulkan asks for, which need no subroutine. */
const AS_VULKAN = ["-prec-div=false", "-prec-sqrt=false"];

/** Compiles the SPIR-V that lies in `folder` as INDEX.spv. */
export function compileCuda(
  { name, waves }: Target,
  programs: ReturnType<typeof cudaPrograms>,
  folder: string,
  pipelines: Compiled["pipelines"],
): { compiler: string; kernels: IsaKernel[] } {
  const run = (program: string, args: string[], what: string) => {
    const done = spawnSync(program, args, { encoding: "utf8", maxBuffer: 2 ** 30 });
    if (done.status === 0) return done;
    const lines = `${done.stderr}${done.stdout}${done.error ?? ""}`.trim().split("\n");
    throw new Error(
      `Cannot compile ${what} for ${name}: ${lines.find((line) => /error/i.test(line)) ?? lines[0]}`,
    );
  };
  const threads = pipelines.map((_, i) => threadsOf(readFileSync(join(folder, `${i}.spv`))));
  const kernels = pipelines.map(({ name: kernel, entry }, i) => {
    const args = ["--msl", "--msl-version", "20300", join(folder, `${i}.spv`)];
    const { stdout } = run(programs.spirvCross, args, `${kernel}.${entry}`);
    return `#line 1 "${kernel}.${entry}"\n${cudaKernel(stdout, `k${i}`, threads[i])}`;
  });
  // One file for all: most of nvcc's time goes into its own headers.
  const [source, object] = [join(folder, "all.cu"), join(folder, "all.cubin")];
  const shim = fileURLToPath(new URL("./msl.cuh", import.meta.url));
  writeFileSync(source, `#include "${shim}"\n${kernels.join("")}`);
  const args = [`-arch=${name}`, "-std=c++17", ...AS_VULKAN, "-cubin", "-Xptxas", "-v", "-o", object, source];
  const { stderr } = run(programs.nvcc, args, "the kernels");
  const figures = new Map(
    stderr
      .split("Compiling entry function '")
      .slice(1)
      .map((part) => [part.slice(0, part.indexOf("'")), part]),
  );
  const sass = run(programs.cuobjdump, ["-sass", object], "the kernels").stdout;
  const code = new Map(
    sass
      .split("Function : ")
      .slice(1)
      .map((part) => [part.slice(0, part.indexOf("\n")).trim(), part]),
  );
  const version = /release (\S+),/.exec(run(programs.nvcc, ["--version"], "the kernels").stdout)?.[1];
  return {
    compiler: `nvcc ${version}`,
    kernels: pipelines.map((pipeline, i) => {
      const said = figures.get(`k${i}`) ?? "";
      const figure = (pattern: RegExp) => Number(pattern.exec(said)?.[1] ?? 0);
      const needs = {
        ...{
          threads: threads[i],
          registers: figure(/Used (\d+) registers/),
          shared: figure(/(\d+) bytes smem/),
        },
      };
      return {
        ...{ ...pipeline, ...needs, subgroup: SUBGROUP },
        spills: figure(/(\d+) bytes spill stores/) / 4,
        scratch: figure(/(\d+) bytes stack frame/),
        waves: waves && warpsPerPart(waves, needs),
        ...counts(code.get(`k${i}`) ?? "", "sass"),
      };
    }),
  };
}
