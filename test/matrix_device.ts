/** Devices on which products of f16 weights go by subgroup matrices although no adapter here has them. */
import { readFileSync } from "node:fs";
import { after } from "node:test";
import type { MatrixConfig } from "../src/gpu/adapter.ts";
import { type Device, openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { testDevice } from "./device.ts";

const f16 = (M: number, N: number, K: number): MatrixConfig => ({
  ...{ componentType: "f16", resultComponentType: "f32", M, N, K },
});

/** Those of the adapters that have f16 with f32 sums: NVIDIA and AMD, Apple, Intel. */
export const CONFIGS: readonly MatrixConfig[] = [f16(16, 16, 16), f16(8, 8, 8), f16(8, 16, 16)];

export const show = ({ M, N, K }: MatrixConfig): string => `${M}×${N}×${K}`;

/** Lanes of the subgroups of adapters that have a configuration. */
const lanesOf = ({ M, N }: MatrixConfig): number => (M < N ? 16 : 32);

/** Makes the device take products of f16 by `config`. */
export function setMatrices(device: Device, config: MatrixConfig): void {
  const { vendor } = device.info;
  const lanes = lanesOf(config);
  // The null backend has subgroups of any size and is asked for one; a stand-in has what it is told.
  const sizes = vendor === "" ? { subgroup: 0, subgroupSizes: [lanes] } : { subgroup: lanes };
  Object.assign(device.info, { matrices: [config], ...sizes });
}

/** Dawn's null backend: it compiles and checks, and runs nothing. */
export async function nullDevice(): Promise<Device> {
  const { create } = await import("webgpu");
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const device = await openDevice({ ...(await currentHost()), gpu: async () => gpu });
  after(() => device.dispose());
  return device;
}

const START = `) {
  let subgroup = t / LANES;
  let lane = t % LANES;
  my_lane = lane;`;

/** Every use of a subgroup matrix in the kernel, and what stands in its place in matrix_stand_in.wgsl. */
const REPLACED: readonly [RegExp, string][] = [
  [/enable (subgroups|chromium_experimental_subgroup_matrix);/g, ""],
  [/subgroupMatrixLoad<subgroup_matrix_(left|right)<[^>]*>, (\w+)>\(&tile[AB], /g, "load_$1_$2("],
  [/subgroup_matrix_result<[^>]*>/g, "Sums"],
  [/subgroupMatrixMultiplyAccumulate\(/g, "multiply_accumulate("],
  [/subgroupMatrixStore<(\w+)>\(&results, /g, "store_$1("],
  // A loop where GPUs have copies: LLVM takes ten times as long for these.
  [
    /#unroll s STEPS\n([\s\S]*?)\n {4}\}\n#endunroll/g,
    "for (var step = 0u; step < BK / KK; step++)\n$1\n    }",
  ],
  [/\$su \* KK/g, "step * KK"],
  // Subgroups of the size that the configuration wants, whatever the adapter's, and also where it has none.
  [/, @builtin\(subgroup_id\) subgroup: u32, @builtin\(subgroup_invocation_id\) lane: u32\) \{/g, START],
];

/** The kernel with a stand-in for matrices: all else of its text is as it is. */
export function withStandIn(kernel: string): string {
  let text = kernel;
  for (const [pattern, by] of REPLACED) {
    if (text.search(pattern) < 0) throw new Error(`Cannot replace ${pattern}: the kernel has none`);
    text = text.replace(pattern, by);
  }
  const left = /\bsubgroup_?[mM]atrix\w*/.exec(text.replaceAll(/\/\/.*/g, ""));
  if (left) throw new Error(`Cannot replace ${left[0]}: no stand-in is known`);
  return `${text}\n${readFileSync(new URL("matrix_stand_in.wgsl", import.meta.url), "utf8")}`;
}

/** The adapter at hand, with a stand-in for matrices. */
export async function standInDevice(): Promise<Device> {
  const host = await currentHost();
  const readText: Host["readText"] = async (path) => {
    const text = await host.readText(path);
    return String(path).endsWith("/matmul_matrices.wgsl") ? withStandIn(text) : text;
  };
  // Deno's wgpu, which will not run this kernel, lacks bitcasts of f16.
  return await testDevice({ path: "portable", implementation: "dawn" }, { ...host, readText });
}
