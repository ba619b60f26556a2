/** The programs and drivers that a target needs: found, built where that takes a C compiler alone, or named where absent. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { vulkanDrivers } from "../vulkan.ts";
import type { Target } from "./targets.ts";

/** Something that a target needs is not on this machine; the message names what brings it. */
export class MissingError extends Error {}

const missing = (target: string, what: string, remedy: string) =>
  new MissingError(`Cannot compile for ${target}: ${what}; ${remedy}`);

/** The path of a program; undefined where none of PATH's folders has it. */
export function findProgram(name: string, more: readonly (string | undefined)[] = []): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(delimiter), ...more];
  return folders
    .filter((folder) => folder !== undefined && folder !== "")
    .map((folder) => join(folder as string, name))
    .find((path) => existsSync(path));
}

const CUDA_FOLDERS = [process.env.CUDA_HOME && join(process.env.CUDA_HOME, "bin"), "/usr/local/cuda/bin"];

/** The programs of the way to NVIDIA's machine code. Throws a MissingError. */
export function cudaPrograms(target: string): { spirvCross: string; nvcc: string; cuobjdump: string } {
  const need = (name: string, remedy: string, more: readonly (string | undefined)[] = []) => {
    const path = findProgram(name, more);
    if (path === undefined) throw missing(target, `no ${name} is here`, remedy);
    return path;
  };
  return {
    spirvCross: need("spirv-cross", "Debian's package spirv-cross has it"),
    nvcc: need("nvcc", "NVIDIA's CUDA toolkit has it", CUDA_FOLDERS),
    cuobjdump: need(
      "cuobjdump",
      "NVIDIA's CUDA toolkit has it (package cuda-cuobjdump), and so has the Python package triton in triton/backends/nvidia/bin: put that on PATH",
      CUDA_FOLDERS,
    ),
  };
}

/** The variables of a process whose WebGPU compiles for `target`. `cache` is a folder for the layer. Throws a MissingError. */
export function targetEnvironment(target: Target, cache: string): NodeJS.ProcessEnv {
  if (process.platform !== "linux")
    throw missing(target.name, `this is ${process.platform}`, "Mesa's compilers run on Linux");
  const { name, by, device } = target;
  const driver = by === "anv" ? "libvulkan_intel.so" : "libvulkan_radeon.so";
  const manifest = manifestOf(driver);
  if (!manifest)
    throw missing(
      name,
      `Mesa's ${by === "anv" ? "ANV" : "RADV"} (${driver}) is not here`,
      "Debian's package mesa-vulkan-drivers has it, 25 or later",
    );
  const own = {
    VK_DRIVER_FILES: manifest,
    VK_ICD_FILENAMES: manifest,
    VK_LAYER_PATH: layerFolder(name, cache),
    VK_INSTANCE_LAYERS: "VK_LAYER_WAVEGATE_isa",
    MESA_SHADER_CACHE_DISABLE: "true",
  };
  const from = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(RADV_|ACO_|INTEL_|ANV_|WAVEGATE_ISA)/.test(key)),
  );
  if (by === "anv")
    return {
      ...{ ...from, ...own, LD_PRELOAD: intelShim(name, cache) },
      ...{ INTEL_STUB_GPU_PLATFORM: name, INTEL_FORCE_PROBE: "*" },
    };
  // Of NVIDIA's only the SPIR-V is wanted: RADV's front stands for that driver's.
  if (by === "cuda")
    return { ...from, ...own, RADV_FORCE_FAMILY: "navi31", WAVEGATE_ISA_PRETEND: `nvidia:${device}` };
  return { ...from, ...own, RADV_FORCE_FAMILY: name };
}

/** The manifest of a driver among those that the loader finds without being told. */
function manifestOf(library: string): string | undefined {
  const env = { ...process.env, VK_DRIVER_FILES: undefined, VK_ICD_FILENAMES: undefined };
  return vulkanDrivers(env)?.find((driver) => driver.library.endsWith(library))?.manifest;
}

const SHIM = "libintel_noop_drm_shim.so";

/** Mesa's stand-in for Intel's kernel driver, which no package has. */
function intelShim(target: string, cache: string): string {
  const named = process.env.WAVEGATE_INTEL_SHIM;
  if (named && !existsSync(named))
    throw missing(target, `WAVEGATE_INTEL_SHIM names ${named}`, "there is no such file");
  const folders = [cache, "/usr/local/lib", "/usr/local/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];
  const found = named || folders.map((folder) => join(folder, SHIM)).find((path) => existsSync(path));
  if (found) return found;
  throw missing(
    target,
    `no ${SHIM} is here`,
    `Mesa's source makes it with -Dtools=drm-shim,intel (docs/isa.md): put it into ${cache} or name it in WAVEGATE_INTEL_SHIM`,
  );
}

const SOURCES = ["layer.c", "vulkan_subset.h"] as const;

/** The folder with the layer and its manifest: built with the C compiler that is here, once for each text of it. */
function layerFolder(target: string, cache: string): string {
  const paths = SOURCES.map((name) => fileURLToPath(new URL(name, import.meta.url)));
  const hash = createHash("sha256");
  for (const path of paths) hash.update(readFileSync(path));
  const folder = join(cache, `layer-${hash.digest("hex").slice(0, 12)}`);
  const library = join(folder, "libVkLayer_wavegate_isa.so");
  if (existsSync(library)) return folder;
  const compiler = [process.env.CC, "cc", "gcc", "clang"].find(
    (name) => name && (existsSync(name) || findProgram(name)),
  );
  if (!compiler) throw missing(target, "no C compiler is here", "Debian's package gcc has one");
  mkdirSync(folder, { recursive: true });
  const manifest = {
    file_format_version: "1.0.0",
    layer: {
      ...{ name: "VK_LAYER_WAVEGATE_isa", type: "GLOBAL", library_path: library, api_version: "1.4.305" },
      ...{ implementation_version: "1", description: "compiles for a GPU that is not here" },
    },
  };
  writeFileSync(join(folder, "VkLayer_wavegate_isa.json"), JSON.stringify(manifest));
  // Under another name first: two processes may build it at once.
  const partial = `${library}.${process.pid}`;
  const args = ["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-o", partial, paths[0]];
  const done = spawnSync(compiler, args, { encoding: "utf8" });
  if (done.status !== 0)
    throw new Error(
      `Cannot build the Vulkan layer with ${compiler}: ${(done.stderr || String(done.error)).trim().split("\n")[0]}`,
    );
  renameSync(partial, library);
  return folder;
}
