/**
 * Kernels in Metal's shading language, as spirv-cross writes them, to CUDA: nvcc's last stage, ptxas, is NVIDIA's own
 * assembler, and shows registers, spills and machine code. msl.cuh has what CUDA lacks.
 */

/** How many bytes a runtime-sized array is declared with; nothing is ever allocated. */
const LONG = 1 << 24;

/** What stands for a built-in value of Metal. */
const BUILT_IN: Readonly<Record<string, string>> = {
  threadgroup_position_in_grid: "uint3(blockIdx.x, blockIdx.y, blockIdx.z)",
  threadgroups_per_grid: "uint3(gridDim.x, gridDim.y, gridDim.z)",
  thread_position_in_threadgroup: "uint3(threadIdx.x, threadIdx.y, threadIdx.z)",
  thread_position_in_grid:
    "uint3(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y, blockIdx.z * blockDim.z + threadIdx.z)",
  thread_index_in_threadgroup: "threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)",
  thread_index_in_simdgroup: "(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32u",
  simdgroup_index_in_threadgroup:
    "(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) / 32u",
  threads_per_simdgroup: "32u",
};

/**
 * The kernel of a Metal text as CUDA, in a namespace and under a name of its own. `bounds` are those of __launch_bounds__.
 * Throws where there is what CUDA lacks.
 */
export function cudaKernel(metal: string, name: string, bounds: string): string {
  const kernel = /kernel void \w+\(((?:[^()]|\([^()]*\))*)\)\s*\{/.exec(metal);
  if (!kernel) throw new Error("Cannot translate to CUDA: spirv-cross wrote no kernel");
  const parameters: string[] = [];
  const lines: string[] = [];
  const buffers = new Set<string>();
  for (const parameter of kernel[1].split(/,(?![^([]*[)\]])/).map((each) => each.trim())) {
    const [, type, local, attribute] = /^(.*?)\s*(\w+)\s*\[\[(\w+)/.exec(parameter) ?? [];
    if (attribute === "buffer") {
      const struct = type.replace(/\b(device|constant|const|volatile)\b|&/g, "").trim();
      if (/\bconstant\b/.test(type)) parameters.push(`const __grid_constant__ ${struct} ${local}`);
      else {
        const constant = /\bconst\b/.test(type) ? "const " : "";
        parameters.push(`${constant}${struct}* __restrict__ p_${local}`);
        lines.push(`${constant}${struct}& ${local} = *p_${local};`);
        buffers.add(struct);
      }
    } else if (BUILT_IN[attribute]) lines.push(`${type} ${local} = ${BUILT_IN[attribute]};`);
    else throw new Error(`Cannot translate to CUDA: ${parameter} has no counterpart there`);
  }
  const head = `extern "C" __global__ void __launch_bounds__(${bounds}) ${name}(${parameters.join(", ")}) {\n${lines.join("\n")}\n`;
  const whole = metal.slice(0, kernel.index) + head + metal.slice(kernel.index + kernel[0].length);
  return `namespace msl { namespace of_${name} {\n${words(arrays(whole, buffers))}\n} }\n`;
}

/** Runtime-sized arrays, the last members of buffers, get a length; what spirv-cross declares in vain goes. */
function arrays(text: string, buffers: ReadonlySet<string>): string {
  const sized = text.replace(/struct (\w+)\s*\{[^}]*\};/g, (struct, name: string) =>
    buffers.has(name) ? struct.replace(/\[1\];(?=\s*\};)/, `[${LONG}];`) : struct,
  );
  // The zeros that workgroup memory begins with: Metal's kernels do not set them, the constant is left over.
  return sized.replace(/^constant spvUnsafeArray<.*?> (\w+) = .*;\n/gm, (constant, name: string) =>
    text.split(new RegExp(`\\b${name}\\b`)).length > 2
      ? constant.replace(/^constant /, "__device__ const ")
      : "",
  );
}

const WORDS: readonly (readonly [RegExp, string])[] = [
  [/template<typename T, size_t Num>\nstruct spvUnsafeArray\n\{[\s\S]*?\n\};\n/, ""],
  [/^\s*#(pragma|include).*\n/gm, ""],
  [/^using namespace metal;\n/m, ""],
  [/(static inline )?__attribute__\(\(always_inline\)\)/g, "__device__ __forceinline__"],
  [/\bconstant (?=\w+&)/g, "const "],
  [/^(\s+)threadgroup (\w[^;(&]*;)/gm, "$1__shared__ $2"],
  [/threadgroup_barrier\([^)]*\)/g, "__syncthreads()"],
  [/simdgroup_barrier\([^)]*\)/g, "__syncwarp()"],
  [/\b(threadgroup|device|constant|thread|volatile)\b(?!_)/g, ""],
  // A swizzle is a function there.
  [/(?<=[\w\])])\.([xyzw]{2,4})\b/g, ".$1()"],
  [/\b(\d+\.\d+(?:e[-+]?\d+)?)h\b/g, "half($1f)"],
  [/(?<![\w.])(\d+\.\d+(?:e[-+]?\d+)?)(?![\w.])/g, "$1f"],
];

const words = (text: string): string => WORDS.reduce((all, [from, to]) => all.replace(from, to), text);
