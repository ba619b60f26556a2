/**
 * MPI, the Message Passing Interface, by its C library: Open MPI 4 and 5, and all libraries of MPICH's ABI. Nothing is
 * loaded before openMpi() is called.
 */

import { existsSync } from "node:fs";
import process from "node:process";
import {
  type NativeLibrary,
  type NativeType,
  type NativeValue,
  type OpenLibrary,
  openLibrary,
} from "./ffi.ts";

/** The processes of one job, each with its rank: MPI_COMM_WORLD, or what stands in for it. */
export interface Communicator {
  /** Of this process, from 0. */
  readonly rank: number;
  /** Processes of the job. */
  readonly size: number;
  /** Name and version of the library. */
  readonly library: string;
  /** The element-wise sum over all ranks into `into`. Equal lengths on all ranks. Its order is the library's. */
  allreduce(from: Float32Array, into: Float32Array): Promise<void>;
  /** Sends part r of `from` to rank r, and receives part r of `into` from it; as many equal parts as there are ranks. */
  alltoall(from: Float32Array, into: Float32Array): Promise<void>;
  /** Sends `from` to all ranks; `into` receives those of all, side by side. */
  allgather(from: Uint8Array, into: Uint8Array): Promise<void>;
  /** Ends all processes of the job at once. */
  abort(status: number): void;
  /** Ends the use of MPI, once all ranks come here. */
  close(): void;
}

/** What the libraries of a family have in common: whether handles are addresses or numbers. */
export type MpiFamily = "openmpi" | "mpich";

/** What started this process as one of several, by the environment. */
export interface MpiLaunch {
  /** As "mpirun of Open MPI". */
  readonly by: string;
  /** Processes of the job, at least two. */
  readonly size: number;
  /** Of this process. */
  readonly rank: number;
  /** Whose library fits; Slurm may be set up for either. */
  readonly families: readonly MpiFamily[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Whether a launcher of MPI jobs started this process as one of several, and which. `srun` counts from two tasks of a step
 * on; a batch script of Slurm is no step of its own.
 */
export function mpiLaunch(env: Environment = process.env): MpiLaunch | undefined {
  const found = (size: string, rank: string, by: string, ...families: MpiFamily[]) => {
    const [n, r] = [Number(env[size] ?? 1), Number(env[rank] ?? 0)];
    return n > 1 && Number.isInteger(n) ? { by, size: n, rank: r, families } : undefined;
  };
  return (
    found("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "mpirun of Open MPI", "openmpi") ??
    (env.PMIX_RANK === undefined
      ? (found("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun of Slurm", "mpich", "openmpi") ??
        found("PMI_SIZE", "PMI_RANK", "mpirun of MPICH", "mpich"))
      : found("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun of Slurm", "openmpi", "mpich"))
  );
}

const NAMES: Readonly<Record<string, Readonly<Record<MpiFamily, readonly string[]>>>> = {
  linux: {
    openmpi: ["libmpi.so.40", "libmpi.so"],
    mpich: ["libmpich.so.12", "libmpi.so.12", "libmpich.so", "libmpi.so"],
  },
  darwin: {
    openmpi: ["libmpi.40.dylib", "libmpi.dylib"],
    mpich: ["libmpi.12.dylib", "libmpich.dylib", "libmpi.dylib"],
  },
};

const TITLES: Readonly<Record<MpiFamily, string>> = { openmpi: "Open MPI", mpich: "MPICH" };

/** The launcher is of one MPI and the library of another: every process is alone. */
export class MpiMismatchError extends Error {}

/** "openmpi", "mpich", the path of a library, or "auto": what fits `launch`. */
export type MpiChoice = MpiFamily | "auto" | (string & {});

/**
 * Loads a library of MPI and starts it (MPI_Init_thread). Throws one line where there is none, where it is not of the
 * launcher's family, and where it does not see the ranks that the launcher started.
 */
export function openMpi(
  choice: MpiChoice,
  launch = mpiLaunch(),
  env: Environment = process.env,
): Communicator {
  const library = find(choice, launch);
  const fd = env.PMI_FD;
  if (fd !== undefined && existsSync("/proc/self/fd") && !existsSync(`/proc/self/fd/${fd}`))
    throw new Error(
      `Cannot start MPI: the launcher's connection, file descriptor ${fd}, does not reach this process, as where npx, npm or tsx stands between; start node itself`,
    );
  const mpi = new Mpi(library);
  if (launch && mpi.size !== launch.size) {
    const { size } = mpi;
    mpi.close();
    throw new MpiMismatchError(
      `Cannot start MPI: ${launch.by} started ${launch.size} processes, but ${mpi.library} sees ${size}: launcher and library are of different MPIs, or Slurm lacks a plugin for this one (srun --mpi=list)`,
    );
  }
  return mpi;
}

/** The family of a library; undefined where it is no library of MPI that is known here. */
function familyOf(library: OpenLibrary): MpiFamily | undefined {
  if (library.address("ompi_mpi_comm_world")) return "openmpi";
  return library.address("MPI_Comm_rank") ? "mpich" : undefined;
}

function find(choice: MpiChoice, launch: MpiLaunch | undefined): OpenLibrary & { family: MpiFamily } {
  const names = NAMES[process.platform];
  if (!names) throw new Error(`Cannot start MPI on ${process.platform}: it is supported on Linux and macOS`);
  const named = choice === "openmpi" || choice === "mpich";
  const families: readonly MpiFamily[] = named
    ? [choice as MpiFamily]
    : (launch?.families ?? ["openmpi", "mpich"]);
  const tried = named || choice === "auto" ? families.flatMap((family) => names[family]) : [choice];
  let reason = "";
  for (const name of new Set(tried)) {
    try {
      const library = openLibrary(name);
      const family = familyOf(library);
      if (family && (families.includes(family) || !(named || choice === "auto")))
        return { ...library, family };
      reason ||= family ? "" : `${name} is no library of MPI`;
    } catch (error) {
      if (tried.length === 1) reason = (error as Error).message.split("\n")[0];
    }
  }
  const title = families.map((family) => TITLES[family]).join(" or ");
  const started = launch ? `${launch.by} started this process, but ` : "";
  const what = tried.length === 1 ? `${tried[0]} cannot be used` : `there is no library of ${title}`;
  const why = reason || `tried ${tried.join(", ")}; --mpi PATH names one`;
  throw new Error(`Cannot start MPI: ${started}${what} (${why})`);
}

type Handles = Readonly<Record<"world" | "byte" | "float" | "sum" | "errorsReturn", NativeValue>>;

/** MPICH's ABI fixes these numbers (mpi.h); in Open MPI handles are the addresses of variables. */
const MPICH: Handles = {
  ...{ world: 0x44000000, byte: 0x4c00010d, float: 0x4c00040a },
  ...{ sum: 0x58000003, errorsReturn: 0x54000001 },
};
const OPEN_MPI: Readonly<Record<keyof Handles, string>> = {
  ...{ world: "ompi_mpi_comm_world", byte: "ompi_mpi_byte", float: "ompi_mpi_float" },
  ...{ sum: "ompi_mpi_op_sum", errorsReturn: "ompi_mpi_errors_return" },
};

const signatures = (handle: NativeType) =>
  ({
    MPI_Init_thread: ["pointer", "pointer", "i32", "bytes"],
    MPI_Comm_rank: [handle, "bytes"],
    MPI_Comm_size: [handle, "bytes"],
    MPI_Comm_set_errhandler: [handle, handle],
    MPI_Get_library_version: ["bytes", "bytes"],
    MPI_Error_string: ["i32", "bytes", "bytes"],
    MPI_Allreduce: ["bytes", "bytes", "i32", handle, handle, handle],
    MPI_Alltoall: ["bytes", "i32", handle, "bytes", "i32", handle, handle],
    MPI_Allgather: ["bytes", "i32", handle, "bytes", "i32", handle, handle],
    MPI_Abort: [handle, "i32"],
    MPI_Finalize: [],
  }) as const satisfies Record<string, readonly NativeType[]>;
type Calls = ReturnType<typeof signatures>;

/** Calls come from more than one thread, but never at once. */
const THREAD_SERIALIZED = 2;
/** MPI_MAX_LIBRARY_VERSION_STRING is 256 in Open MPI, 8192 in MPICH. */
const MOST_TEXT = 8192;

/** Room for `n` ints that C writes to. */
const ints = (n: number): Int32Array<ArrayBuffer> => new Int32Array(new ArrayBuffer(4 * n));

class Mpi implements Communicator {
  readonly rank: number;
  readonly size: number;
  readonly library: string;
  readonly #c: NativeLibrary<Calls>;
  readonly #handles: Handles;
  /** Whether calls may be made on another thread than this one. */
  readonly #threads: boolean;
  /** Calls one after the other, in the order in which they were asked for. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(library: OpenLibrary & { family: MpiFamily }) {
    const open = library.family === "openmpi";
    this.#c = library.declare(signatures(open ? "pointer" : "i32"));
    this.#handles = open ? addresses(library) : MPICH;
    this.library = this.#text((text, length) => this.#c.call("MPI_Get_library_version", text, length))
      .split(/[,\n]/)[0]
      .replace(/Version:\s*/, "");
    const level = ints(1);
    this.#check("MPI_Init_thread", this.#c.call("MPI_Init_thread", null, null, THREAD_SERIALIZED, level));
    this.#threads = level[0] >= THREAD_SERIALIZED;
    const { world, errorsReturn } = this.#handles;
    this.#check("MPI_Comm_set_errhandler", this.#c.call("MPI_Comm_set_errhandler", world, errorsReturn));
    this.rank = this.#int("MPI_Comm_rank");
    this.size = this.#int("MPI_Comm_size");
  }

  #int(name: "MPI_Comm_rank" | "MPI_Comm_size"): number {
    const value = ints(1);
    this.#check(name, this.#c.call(name, this.#handles.world, value));
    return value[0];
  }

  #text(fill: (text: Uint8Array, length: Int32Array) => number): string {
    const [text, length] = [new Uint8Array(MOST_TEXT), ints(1)];
    fill(text, length);
    return new TextDecoder().decode(text.subarray(0, length[0])).replace(/\0.*$/s, "").trim();
  }

  #check(name: string, status: number): void {
    if (status === 0) return;
    const reason = this.#text((text, length) => this.#c.call("MPI_Error_string", status, text, length));
    throw new Error(`Cannot exchange with the other ranks: ${name} failed: ${reason.split("\n")[0]}`);
  }

  #run(name: "MPI_Allreduce" | "MPI_Alltoall" | "MPI_Allgather", ...values: NativeValue[]): Promise<void> {
    const next = this.#last.then(async () => {
      const status = this.#threads ? await this.#c.callAsync(name, ...values) : this.#c.call(name, ...values);
      this.#check(name, status);
    });
    this.#last = next.catch(() => {});
    return next;
  }

  allreduce(from: Float32Array, into: Float32Array): Promise<void> {
    const { float, sum, world } = this.#handles;
    return this.#run("MPI_Allreduce", from, into, from.length, float, sum, world);
  }

  alltoall(from: Float32Array, into: Float32Array): Promise<void> {
    const { float, world } = this.#handles;
    const each = from.length / this.size;
    return this.#run("MPI_Alltoall", from, each, float, into, each, float, world);
  }

  allgather(from: Uint8Array, into: Uint8Array): Promise<void> {
    const { byte, world } = this.#handles;
    return this.#run("MPI_Allgather", from, from.length, byte, into, from.length, byte, world);
  }

  abort(status: number): void {
    this.#c.call("MPI_Abort", this.#handles.world, status);
  }

  close(): void {
    this.#check("MPI_Finalize", this.#c.call("MPI_Finalize"));
  }
}

function addresses(library: OpenLibrary): Handles {
  const found = Object.entries(OPEN_MPI).map(([name, symbol]) => {
    const address = library.address(symbol);
    if (!address) throw new Error(`Cannot start MPI: the library lacks ${symbol}`);
    return [name, address];
  });
  return Object.fromEntries(found);
}
