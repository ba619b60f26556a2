/** A GPU, its buffers and its kernels. */
export type { BindGroups } from "./bind_groups.ts";
export type { DeviceInfo, MatrixConfig } from "./adapter.ts";
export type { Choices, ChosenLaunch, LaunchSizes, LaunchValue, LaunchWatcher } from "./choices.ts";
export { redrawn, varies } from "./capture.ts";
export type { Cost, Costed, Costs, Dispatched, Place, PlannedDispatch, Unit } from "./cost.ts";
export { Device, type DeviceOptions, openDevice } from "./device.ts";
export { type Bound, type Grid, Twin, twin, type Variant, type Watcher } from "./kernel.ts";
export { gridFor, type KernelName, type Path } from "./launch.ts";
export type { KernelLibrary } from "./library.ts";
export type { Pool, PoolBuffer, PoolStatistics } from "./pool.ts";
export type { CpuSpan, ProfileEvent, ProfileRow } from "./profiler.ts";
export type { Recorder } from "./recorder.ts";
export type { Tunable } from "./tunable.ts";
export type { Flags } from "./wgsl.ts";
