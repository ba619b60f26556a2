/** A GPU, its buffers and its kernels. */
export { Device, type DeviceInfo, type DeviceOptions, openDevice } from "./device.ts";
export { type Bound, type Grid, Twin, twin, type Variant } from "./kernel.ts";
export { gridFor, type Path } from "./launch.ts";
export type { PoolStatistics } from "./pool.ts";
export type { ProfileRow } from "./profiler.ts";
export type { Flags } from "./wgsl.ts";
