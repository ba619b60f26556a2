import { FEWEST_LANES, PATHS, type Path } from "./launch.ts";

/** What an adapter says of itself, and what the engine makes of that. */
export interface DeviceInfo {
  /** The adapter's description, as the driver gives it. */
  readonly name: string;
  /** Normalised by WebGPU, as "nvidia"; may be empty. */
  readonly vendor: string;
  /** Normalised by WebGPU, as "hopper"; may be empty. */
  readonly architecture: string;
  /** True where kernels run on the CPU (lavapipe, SwiftShader) and buffers are main memory. */
  readonly cpu: boolean;
  /** Whether kernels can read f16: WGSL's shader-f16. */
  readonly f16: boolean;
  /** Lanes of a subgroup where that is one fixed number and WGSL subgroups are there; else 0. */
  readonly subgroup: number;
  /** Sizes that a kernel may ask for by `@subgroup_size`: none without WebGPU's subgroup-size-control. */
  readonly subgroupSizes: readonly number[];
  /** What kernels choose workgroups and tiles by. */
  readonly path: Path;
  /** Whether startProfile() works: WebGPU's timestamp-query. */
  readonly timestamps: boolean;
}

/** Throws where the adapter cannot take `wish`. */
export function describe(adapter: GPUAdapter, wish: Path | undefined): DeviceInfo {
  const { info, features } = adapter;
  // Software adapters: Dawn names the driver and its version in the description, wgpu the driver alone in the device.
  const software = [info.description, info.device].find((text) => /llvmpipe|swiftshader/i.test(text));
  const name =
    software || info.description || info.device || info.architecture || info.vendor || "unnamed adapter";
  const cpu =
    info.isFallbackAdapter === true ||
    /llvmpipe|lavapipe|swiftshader/i.test(`${info.device} ${info.description} ${info.architecture}`);
  const fixed = info.subgroupMinSize === info.subgroupMaxSize ? (info.subgroupMinSize ?? 0) : 0;
  // lavapipe reports 32 lanes where LP_NATIVE_VECTOR_WIDTH is 1024, but its compute shaders never run more than 16.
  const lanes = cpu ? Math.min(fixed, 16) : fixed;
  const subgroup = features.has("subgroups") ? lanes : 0;
  const sized = features.has("subgroups") && features.has("subgroup-size-control" as GPUFeatureName);
  const [smallest, largest] = [info.subgroupMinSize ?? 0, info.subgroupMaxSize ?? 0];
  return {
    name,
    vendor: info.vendor,
    architecture: info.architecture,
    cpu,
    f16: features.has("shader-f16"),
    subgroup,
    subgroupSizes: sized ? [4, 8, 16, 32, 64, 128].filter((n) => smallest <= n && n <= largest) : [],
    path: choosePath(wish, name, cpu, subgroup),
    timestamps: features.has("timestamp-query"),
  };
}

/** What a measurement holds for. */
export interface AdapterIdentity {
  /** The GPU, as "nvidia-h100-80gb-hbm3". */
  readonly adapter: string;
  /** Driver and version, and the WebGPU that was used. */
  readonly driver: string;
}

/** Dawn tells the driver and its version; wgpu, built into Deno, tells neither. */
export function identify({ gpu, info: { name } }: { gpu: GPUDevice; info: DeviceInfo }): AdapterIdentity {
  const { description, device } = gpu.adapterInfo;
  const builtIn = typeof GPUDevice === "function" && gpu instanceof GPUDevice;
  if (builtIn) return { adapter: name, driver: "unknown (wgpu)" };
  return { adapter: device || name, driver: `${description || "unknown"} (Dawn)` };
}

function choosePath(wish: Path | undefined, name: string, cpu: boolean, lanes: number): Path {
  if (wish === undefined) return !cpu ? "portable" : lanes >= FEWEST_LANES ? "subgroups" : "cpu";
  if (!PATHS.includes(wish))
    throw new RangeError(`Cannot take path ${JSON.stringify(wish)}: there are ${PATHS.join(", ")}`);
  if (wish === "subgroups" && lanes < FEWEST_LANES) {
    const has = lanes === 0 ? "has no subgroups of one fixed size" : `has subgroups of ${lanes} lanes`;
    throw new Error(`Cannot take path subgroups: ${name} ${has}, at least ${FEWEST_LANES} lanes expected`);
  }
  return wish;
}
