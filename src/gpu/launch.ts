/**
 * How every kernel of the package is launched: threads of a workgroup, tiles, parts of a long sum. All such choices stand
 * in one table, by kernel, and by entry point where one differs. They change speed and, as sums run in another order, the
 * last bits of results; never more than that.
 */
import type { DeviceInfo } from "./adapter.ts";
import type { Grid } from "./kernel.ts";

/**
 * What kernels choose workgroups and tiles by: it changes speed, and the last bits of results.
 *
 * - "portable": workgroups of 64 threads and more, tiles in workgroup memory. Runs everywhere; what a GPU gets.
 * - "cpu": workgroups of 8 threads, as a CPU adapter runs each on one core, and attention without tiles; else as "portable".
 * - "subgroups": products and attention exchange operands between the lanes of a subgroup; all others as "cpu" on a CPU
 *   adapter, as "portable" on a GPU. What a CPU adapter gets where its subgroups have one size.
 */
export type Path = "portable" | "cpu" | "subgroups";
export const PATHS: readonly Path[] = ["portable", "cpu", "subgroups"];

/** Fewest lanes of a subgroup that the bodies with subgroups are written for. */
export const FEWEST_LANES = 8;

/** Threads of a workgroup: the kernels' override WG. */
export type Threads = { readonly WG: number };

const THREADS_8: Threads = { WG: 8 };
const THREADS_64: Threads = { WG: 64 };
const THREADS_256: Threads = { WG: 256 };

const narrow = ({ path, cpu }: DeviceInfo): boolean => path === "cpu" || (path === "subgroups" && cpu);

/** Kernels in which each thread computes values of its own. */
const alone = () => THREADS_64;
/** Kernels in which a workgroup computes one row. */
const byRow = (on: DeviceInfo) => (narrow(on) ? THREADS_8 : THREADS_64);

/** Parts of a sum over `rows` rows: enough workgroups where there are many rows. */
const partsOf = (rows: number): number => (rows > 256 ? Math.min(64, Math.ceil(rows / 64)) : 1);

/** Keys or queries that attention without tiles takes at once; its kernels have as many registers for their scores. */
const ATTENTION_KEYS = 16;
/** How kernels/lib/attention_tiles.wgsl shares out its work. */
interface AttentionTile {
  /** Most quads of an output row that a thread holds, of each of its 4 rows: 1 to 4. A wider head is cut into slices. */
  readonly quads: number;
  /** Quads of a row that are multiplied at once: 8 where they divide a head, or else 4. */
  readonly chunk: 4 | 8;
  /** Whether what comes next is on its way meanwhile: twice the registers. */
  readonly ahead: boolean;
  /** Whether the compiler is kept from unrolling. */
  readonly rolled: boolean;
  /** Lanes of a subgroup, where the kernel is to ask for so many. */
  readonly subgroup?: number;
}

/** Tiles to choose among. The second leaves Intel, whose threads have 128 registers in subgroups of 16, without spills. */
const ATTENTION_TILES = [
  { quads: 4, chunk: 8, ahead: true, rolled: false },
  { quads: 2, chunk: 4, ahead: false, rolled: true },
] as const satisfies readonly AttentionTile[];

function attentionTile({ vendor, subgroupSizes }: DeviceInfo): AttentionTile {
  const [large, small] = ATTENTION_TILES;
  if (vendor !== "intel") return large;
  return subgroupSizes.includes(16) ? { ...small, subgroup: 16 } : small;
}

/** The values of the tiles' flags for heads of `quads` quads, and the workgroups that share a head. */
function attentionSlices({ quads: most, chunk, ahead, rolled, subgroup }: AttentionTile, quads: number) {
  const eights = Math.ceil(quads / 8);
  const EACH = Math.ceil(eights / Math.ceil(eights / most));
  const CHUNK = quads % 8 === 0 ? chunk : 4;
  const LINES = EACH <= 2 ? 2 : 1;
  const subgroupSize = subgroup ? `@subgroup_size(${subgroup})` : "";
  const flags = { CHUNK, LOADS: CHUNK / 2, EACH, SUMS: 4 * EACH, LINES, ahead, rolled, subgroupSize };
  return { slices: Math.ceil(eights / EACH), flags };
}

type Overrides = Readonly<Record<string, number>>;
const NONE: Overrides = {};
const NO_TILES = attentionSlices(ATTENTION_TILES[0], 8).flags;

/**
 * Attention with heads as wide as `D`. `rows`: queries or keys that a workgroup takes; `slices`: workgroups that share a head;
 * `kv`: 2 where the gradients of keys and of values are workgroups of their own.
 */
function attention(on: DeviceInfo, { D }: { D: number }) {
  if (on.path === "portable") {
    const tile = attentionTile(on);
    const { slices, flags } = attentionSlices(tile, Math.ceil(D / 4));
    return {
      ...{ rows: 32, slices, kv: 2, overrides: NONE },
      enables: tile.subgroup ? ["subgroups", "subgroup_size_control"] : [],
      // The flags of the other body, at one value: they cost no further module.
      flags: { tiled: true, subgroups: false, HELD: 1, HOLDS: 1, ...flags },
    };
  }
  const subgroups = on.path === "subgroups";
  const { WG } = subgroups ? { WG: on.subgroup } : byRow(on);
  const HELD = Math.min(WG, ATTENTION_KEYS);
  return {
    ...{ rows: WG, slices: 1, kv: 1, overrides: { WG } as Overrides },
    enables: subgroups ? ["subgroups"] : [],
    flags: { tiled: false, subgroups, HELD, HOLDS: ATTENTION_KEYS / HELD, ...NO_TILES },
  };
}

/**
 * Rows of A that one subgroup takes, measured on lavapipe. 16 compile in half a second; 32 take over a second and repay it
 * by a quarter of the time where there are many rows.
 */
function rowsPerSubgroup(M: number, transA: boolean, transB: boolean, lanes: number): number {
  if (transA) return lanes === 8 ? 24 : 16;
  return transB && M >= 256 ? 32 : 16;
}

/** Y (M, N) by workgroups that compute `rows` × `columns` of it each. */
function matmul(
  on: DeviceInfo,
  { M, transA = false, transB = false }: { M: number; transA?: boolean; transB?: boolean },
) {
  if (on.path !== "subgroups") {
    // These flags stand in the other body alone: at one value they cost no further module.
    const flags = { subgroups: false, ROWS: 1, LANES: 1, HELD: 1, LOADS: 1, LAST: 1 };
    return { rows: 64, columns: 64, flags };
  }
  const lanes = on.subgroup;
  const ROWS = rowsPerSubgroup(M, transA, transB, lanes);
  const HELD = transA ? Math.min(lanes / 4, ROWS / 4) : Math.min(lanes, ROWS);
  const LOADS = (transA ? ROWS / 4 : ROWS) / HELD;
  const flags = { subgroups: true, ROWS, LANES: lanes, HELD, LOADS, LAST: ROWS - 1 };
  return { rows: ROWS, columns: 4 * lanes, flags };
}

const TABLE = {
  accumulate: alone,
  activation: alone,
  attention,
  broadcast: alone,
  conv1d: alone,
  convert: alone,
  cross_entropy: (on: DeviceInfo, { V }: { V: number }) => (V <= 32 ? THREADS_8 : byRow(on)),
  ctc: byRow,
  // A walk has steps that wait for one another: more threads than a frame needs.
  "ctc.lattice": (on: DeviceInfo) => (narrow(on) ? THREADS_8 : THREADS_256),
  dropout: alone,
  elementwise: alone,
  embedding: byRow,
  frames: alone,
  group_norm: byRow,
  layer_norm: byRow,
  "layer_norm.backward_params": (_: DeviceInfo, { N }: { N: number }) => ({ parts: partsOf(N) }),
  matmul,
  mse: alone,
  /** Quads that one workgroup adds up. */
  "mse.sums": () => ({ step: 1024 }),
  optimizer: (on: DeviceInfo) => (narrow(on) ? THREADS_8 : THREADS_256),
  /** The same for all sizes: the sums of many tensors lie side by side. */
  "optimizer.squares": () => ({ parts: 64 }),
  reduce: byRow,
  "reduce.columns": (_: DeviceInfo, { rows }: { rows: number }) => ({ parts: partsOf(rows) }),
  "reduce.dots": (_: DeviceInfo, { size }: { size: number }) => ({
    parts: Math.max(1, Math.min(256, Math.ceil(size / 4096))),
  }),
  sigmoid_gate: alone,
  softmax: byRow,
  softplus: alone,
  weight_norm: alone,
  "weight_norm.dots": (_: DeviceInfo, { rows }: { rows: number }) => ({
    parts: Math.min(64, Math.ceil(rows / 64)),
  }),
};

type Table = typeof TABLE;
type Choice = keyof Table;
/** A kernel of the package: each has its entry in the table. */
export type KernelName = Exclude<Choice, `${string}.${string}`>;

/** The package's kernels, each a file kernels/NAME.wgsl. */
export const KERNELS = Object.keys(TABLE).filter((name) => !name.includes(".")) as readonly KernelName[];

/** What a choice depends on besides the device: sizes by name, for most nothing. */
type Sizes<C extends Choice> = Parameters<Table[C]> extends [unknown, infer S] ? [sizes: S] : [];

/** How to launch `choice`, a kernel or an entry point of one, on this device. */
export function launch<C extends Choice>(
  device: { readonly info: DeviceInfo },
  choice: C,
  ...sizes: Sizes<C>
): ReturnType<Table[C]> {
  const choose = TABLE[choice] as (on: DeviceInfo, sizes?: unknown) => ReturnType<Table[C]>;
  return choose(device.info, sizes[0]);
}

/**
 * Workgroups for `threads` threads in workgroups of `size`, folded into x and y where one dimension is too short: the
 * kernel finds its thread with linear_id() of lib/grid.wgsl and compares it with what there is to do.
 */
export function gridFor(threads: number, size: number): Grid {
  const groups = Math.ceil(threads / size);
  if (groups <= 65535) return [groups];
  const x = Math.ceil(Math.sqrt(groups));
  return [x, Math.ceil(groups / x)];
}
