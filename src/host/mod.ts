/** What lies under the engine: the runtime, and the GPUs that it offers. */
export { bundledModel } from "./bundled_model.ts";
export { currentHost } from "./current.ts";
export type {
  AtomicFile,
  Digest,
  Entry,
  FolderLock,
  GpuOptions,
  Host,
  MemoryUsage,
  PartialFile,
  RangedFile,
  ScriptProcess,
} from "./host.ts";
export {
  type Communicator,
  type MpiChoice,
  type MpiFamily,
  type MpiLaunch,
  mpiLaunch,
  openMpi,
} from "./mpi.ts";
