/**
 * A profile as data: what `wavegate profile` measures, shows and writes. docs/profile.md describes it as JSON.
 *
 * Times are milliseconds, memory and traffic bytes, work FLOP, rates those per second. Times of a group are totals of one run;
 * their samples are the runs.
 */
import type { Peaks } from "../records/peaks.ts";

/** The version of the JSON; a reader refuses others. */
export const PROFILE_VERSION = 1;

/** A quantity that was measured in every run. */
export interface Measured {
  readonly median: number;
  /** Interquartile range. */
  readonly spread: number;
  /** One a run, in order. */
  readonly samples: readonly number[];
}

/** Which of the peaks bounds a kernel: a rate of arithmetic, or the bandwidth. */
export type Ceiling = "f32" | "f16" | "matrix" | "copy";

/** One dispatch of the profiled run that is shown: the one whose wall time is the median. */
export interface DispatchEvent {
  /** "BERT" of a recognition; "backward: BERT", "optimizer" of a training step; "" where none was named. */
  readonly stage: string;
  /** Place in the model, as "BERT: encoder.layer.3.attention"; "" where none was named. */
  readonly layer: string;
  /** The kernel's name, and its entry point. */
  readonly kernel: string;
  readonly entry: string;
  /** The dims that say how much there is to do, by their WGSL names. */
  readonly shape: Readonly<Record<string, number>>;
  /** Numbers of workgroups. */
  readonly grid: readonly [x: number, y: number, z: number];
  /** Flags and overrides in short, as "vec transB ROWS=16 WG=64". */
  readonly variant: string;
  /** On the GPU, from the begin of the run. The clocks of GPU and CPU are laid over one another as well as can be known. */
  readonly begin: number;
  readonly end: number;
  /** As the kernel declares them; null where it declares none. */
  readonly flops: number | null;
  /** Least global traffic: each input read once, each output written once. */
  readonly bytes: number;
  /** Which peak of arithmetic it is held to. */
  readonly unit: "f32" | "f16" | "matrix";
  /** When the CPU began to record it, and how long that took. */
  readonly recorded: number;
  readonly recording: number;
}

/** Something that the CPU did in that run besides recording. */
export interface CpuEvent {
  readonly kind: "submit" | "wait";
  readonly begin: number;
  readonly end: number;
}

/** What some dispatches have in common: a kernel of one shape, a layer, a stage. */
export interface Group {
  /** "matmul.forward"; "encoder.layers.*.attention"; "backward". */
  readonly name: string;
  /** GPU time of all its dispatches. */
  readonly time: Measured;
  /** Dispatches a run. */
  readonly calls: number;
  /** Of one run; null where a dispatch among them declares none. */
  readonly flops: number | null;
  readonly bytes: number;
  /** By the median time; null where it is unknown. */
  readonly flopsPerSecond: number | null;
  readonly bytesPerSecond: number | null;
  /** Which peak most of the least possible time is due to; null without peaks or FLOPs. */
  readonly ceiling: Ceiling | null;
  /** Of the time that the ceilings leave as least, Σ max(flops/peak, bytes/bandwidth), in the median time: 1 is the ceiling. */
  readonly share: number | null;
}

/** All dispatches of a kernel's entry point of one shape, grid and variant. */
export interface KernelGroup extends Group {
  readonly kernel: string;
  readonly entry: string;
  readonly shape: Readonly<Record<string, number>>;
  readonly grid: readonly [x: number, y: number, z: number];
  readonly variant: string;
}

/** How the wall time of a profiled run adds up: each moment belongs to one of these. */
export interface Parts {
  /** The GPU is in a dispatch. */
  readonly gpu: Measured;
  /** It is not, while the CPU records or submits. */
  readonly cpu: Measured;
  /** Neither, between two dispatches, the next of which was submitted already: begins and ends of passes, copies. */
  readonly gaps: Measured;
  /** Neither, and all that was submitted has ended: copies back, and the wait's own latency. */
  readonly wake: Measured;
  /** Neither, and what was submitted has not begun. */
  readonly unexplained: Measured;
}

/** A measured workload on one adapter. */
export interface Profile {
  readonly version: typeof PROFILE_VERSION;
  readonly adapter: string;
  readonly driver: string;
  /** What kernels choose workgroups and tiles by. */
  readonly path: string;
  /** Of the checkout, where it is one. */
  readonly commit?: string;
  /** "profile predict weights/default". */
  readonly command: string;
  readonly options: Readonly<Record<string, string | number | boolean>>;
  readonly peaks?: Peaks;
  /** Runs that were measured, after a warm-up. */
  readonly runs: number;
  /** From the first record to the end of the last wait, with the profiler. */
  readonly wall: Measured;
  /** The same without it, in turns. */
  readonly plain: Measured;
  readonly parts: Parts;
  /** The dispatches of one run, in order. */
  readonly events: readonly DispatchEvent[];
  /** What else the CPU did in that run. */
  readonly cpuEvents: readonly CpuEvent[];
  /** Those with the most time first. In the names of layers * stands for numbers; `options.detail` leaves them apart. */
  readonly kernels: readonly KernelGroup[];
  readonly layers: readonly Group[];
  readonly stages: readonly Group[];
  readonly cpu: {
    /** All that it does besides submitting and waiting: recording dispatches above all. */
    readonly record: Measured;
    /** Handing them to the GPU. */
    readonly submit: Measured;
    readonly wait: Measured;
    /** Submits of a run. */
    readonly submits: number;
  };
  /** Bytes of GPU buffers in use over that run: [milliseconds, in use, held]. */
  readonly memory: readonly (readonly [time: number, live: number, allocated: number])[];
}
