/**
 * How every kernel of the package is launched: threads of a workgroup, tiles, parts of a long sum. All such choices stand
 * in one table, by kernel, and by entry point where one differs. They change speed and, as sums run in another order, the
 * last bits of results; never more than that.
 */
import type { DeviceInfo } from "./adapter.ts";
import { ATTENTION_TILES, attentionSlices, type AttentionTile, attentionTile } from "./attention_tile.ts";
import type { Choices, LaunchValue } from "./choices.ts";
import { checkTile, GEMM_TILES, type GemmTile, tileFlags } from "./gemm_tile.ts";
import type { Grid, Variant } from "./kernel.ts";
import { MATRIX_TILES, type MatrixTile, matrixTile } from "./matrix_tile.ts";
import type { Flags } from "./wgsl.ts";

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

/**
 * What hands all lanes the value of one whose number is constant. llvmpipe shuffles 8 lanes in one instruction, and others one
 * by one; a broadcast is three, as Dawn makes it zeros where the subgroup lacks the lane. Products take 0.9 of the time so.
 */
const fromLane = (lanes: number) => (lanes === 8 ? "subgroupShuffle" : "subgroupBroadcast");

/** Threads of a workgroup: the kernels' override WG. */
export type Threads = { readonly WG: number };

const THREADS_8: Threads = { WG: 8 };
const THREADS_64: Threads = { WG: 64 };
const THREADS_256: Threads = { WG: 256 };

/** Whether workgroups are narrow: for adapters that run each on one core. */
export const narrow = ({ path, cpu }: DeviceInfo): boolean => path === "cpu" || (path === "subgroups" && cpu);

/** Kernels in which each thread computes values of its own. */
const alone = () => THREADS_64;

/** Quads from which there are enough for every thread of a GPU to take several: their loads are then under way together. */
const MANY_QUADS = 2 ** 15;
const QUADS_A_THREAD = 4;

/** Threads of a workgroup, and the quads that each takes. */
type Quads = Threads & { readonly QUADS: number };

/** Kernels in which each thread computes quads of its own, QUADS of them. */
const pointwise = (on: DeviceInfo, { quads }: { quads: number }, chosen?: Quads): Quads =>
  chosen ?? { ...THREADS_64, QUADS: narrow(on) || quads < MANY_QUADS ? 1 : QUADS_A_THREAD };
/** Kernels in which a workgroup computes one row. */
const byRow = (on: DeviceInfo) => (narrow(on) ? THREADS_8 : THREADS_64);

/** N rows of C numbers. */
type Rows = { readonly N: number; readonly C: number };

/** Elements of a row that a GPU's thread keeps in registers at most: vec4s of which Intel, of 32 lanes, spills none. */
const MOST_HELD = 4;

/** As byRow(); a GPU holds a row of C numbers in registers, by vec4 if `vec`, where it is short enough. */
function heldRow(on: DeviceInfo, C: number, vec: boolean, most = MOST_HELD, chosen?: Threads) {
  const { WG } = chosen ?? byRow(on);
  const each = Math.ceil((vec ? C / 4 : C) / WG);
  return { overrides: { WG }, flags: { vec, HELD: narrow(on) || each > most ? 0 : each } };
}

/** Parts that a sum is split into, each of workgroups of its own. */
type Parts = { readonly parts: number };

/** Parts of a sum over `rows` rows: enough workgroups where there are many rows. A GPU needs more to be busy. */
const partsOf = (on: DeviceInfo, rows: number): number => {
  const [few, each] = narrow(on) ? [256, 64] : [64, 16];
  return rows > few ? Math.min(64, Math.ceil(rows / each)) : 1;
};

/** Keys or queries that attention without tiles takes at once; its kernels have as many registers for their scores. */
const ATTENTION_KEYS = 16;
/** Flags of a body that is not taken: at one value they cost no further module, and at none a profile leaves them out. */
function unused<F extends Flags>(flags: F): F {
  const none = { number: 0, boolean: false, string: "" };
  const entries = Object.entries(flags).map(([name, value]) => [
    name,
    none[typeof value as keyof typeof none],
  ]);
  return Object.fromEntries(entries) as F;
}

type Overrides = Readonly<Record<string, number>>;
const NONE: Overrides = {};
const NO_TILES = unused(attentionSlices(ATTENTION_TILES[0], 8).flags);

/** Heads of D numbers, of all samples together, in each of which Tq queries meet Tk keys. */
type Heads = { readonly D: number; readonly heads?: number; readonly Tq?: number; readonly Tk?: number };

/**
 * Attention with heads as wide as `D`. `rows`: queries or keys that a workgroup takes; `slices`: workgroups that share a head;
 * `kv`: 2 where the gradients of keys and of values are workgroups of their own.
 */
function attention(on: DeviceInfo, { D }: Heads, chosen?: AttentionTile) {
  if (on.path === "portable") {
    const tile = chosen ?? attentionTile(on);
    const { slices, flags } = attentionSlices(tile, Math.ceil(D / 4));
    return {
      ...{ rows: 32, slices, kv: 2, overrides: NONE },
      enables: tile.subgroup ? ["subgroups", "subgroup_size_control"] : [],
      flags: { tiled: true, subgroups: false, FROM_LANE: "", HELD: 0, HOLDS: 0, ...flags },
    };
  }
  const subgroups = on.path === "subgroups";
  const { WG } = subgroups ? { WG: on.subgroup } : byRow(on);
  const HELD = Math.min(WG, ATTENTION_KEYS);
  return {
    ...{ rows: WG, slices: 1, kv: 1, overrides: { WG } as Overrides },
    enables: subgroups ? ["subgroups"] : [],
    flags: {
      ...{ tiled: false, subgroups, FROM_LANE: subgroups ? fromLane(WG) : "" },
      ...{ HELD, HOLDS: ATTENTION_KEYS / HELD, ...NO_TILES },
    },
  };
}

/**
 * Rows of A that one subgroup takes, measured on lavapipe: 32 take 0.8 of the time of 16 for each row that there is. More spill,
 * and wider subgroups (LP_NATIVE_VECTOR_WIDTH=512 on AVX-512) compile twice as long for a tenth of the time.
 */
function rowsPerSubgroup(M: number): number {
  const taken = (rows: number) => Math.ceil(M / rows) * rows;
  return 0.8 * taken(32) < taken(16) ? 32 : 16;
}

/**
 * k's of a round. Two are half the code of four: llvmpipe compiles it in 0.6 of the time, and runs it in 0.7 to 0.95. Not where
 * rows of B run along K too: then so many lines of a cache lie in one set that coming back for the rest takes 1.1 to 1.5.
 */
const stepOf = ({ transB }: Product): number => (transB ? 4 : 2);

/** Rows that are stored before the others move up: about the root of ROWS, for fewest moves. */
const STORED = 4;

/** A product for which a tile, or rows, are chosen. */
export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch?: number;
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** In place of the choice. */
  readonly tile?: GemmTile;
  /** What B is stored as. */
  readonly W?: string;
}

/** How the rows of A come into the lanes of a subgroup, by HELD at a time. */
export function lanesOf(lanes: number, ROWS: number) {
  const HELD = Math.min(lanes, ROWS);
  return { HELD, LOADS: ROWS / HELD };
}

/** Workgroups that keep a GPU busy, and the fewest k's that repay adding up one more slice. */
export const BUSY = 128;
const FEWEST_K = 256;

/** Lanes of Intel's smallest subgroups, whose threads have the most registers each, where a kernel can ask for them. */
const fewestLanes = ({ vendor, subgroupSizes }: DeviceInfo): number | undefined =>
  vendor === "intel" && subgroupSizes.length > 0 ? Math.min(...subgroupSizes) : undefined;

/**
 * The tile of a product. On GPUs it goes by the machine code that drivers make: 8 × 4 sums a thread, 8 × 8 where the workgroups
 * are enough even so, 4 × 4 in its smallest subgroups on Intel, whose registers hold no more. Few rows go by flat tiles, unless
 * there are enough workgroups without and no more rows of theirs are empty. K goes in slices where workgroups are few.
 */
export function gemmTile(on: DeviceInfo, { M, N, K, batch = 1 }: Product): GemmTile {
  if (on.cpu || narrow(on)) return M <= 32 ? GEMM_TILES.cpuFlat : GEMM_TILES.cpu;
  const intel = on.vendor === "intel";
  const groupsOf = ({ BM, BN }: GemmTile) => Math.ceil(M / BM) * Math.ceil(N / BN) * batch;
  const rowsOf = ({ BM }: GemmTile) => Math.ceil(M / BM) * BM;
  const { flat, usual, large, smallFlat, small } = GEMM_TILES;
  const [low, tall] = intel ? [smallFlat, small] : [flat, usual];
  const many = (tile: GemmTile) => groupsOf(tile) >= 2 * BUSY;
  const choose = (): GemmTile => {
    if (M <= 128) return many(tall) && rowsOf(tall) === rowsOf(low) ? tall : low;
    return !intel && N >= 4096 && many(large) ? large : tall;
  };
  const tile = choose();
  const splitK = Math.max(1, Math.min(8, Math.ceil(BUSY / groupsOf(tile)), Math.floor(K / FEWEST_K)));
  const subgroup = fewestLanes(on);
  return { ...tile, ...(subgroup && { subgroup }), splitK };
}

/** Of the body by lanes: M by `ROWS`, and what follows from that. */
const laneFlags = (lanes: number, ROWS: number, product: Product) => ({
  ...{ FROM_LANE: fromLane(lanes), STEP: stepOf(product), ROWS, LANES: lanes, ...lanesOf(lanes, ROWS) },
  ...{ GROUP: STORED, GROUP_LAST: STORED - 1, LATER: ROWS - STORED },
});
const NO_LANES = unused(laneFlags(8, 16, { M: 1, N: 1, K: 1 }));
const NO_TILE = unused(tileFlags(GEMM_TILES.usual));

/** Y (M, N) by workgroups that compute `rows` × `columns` of it each, over `splits` slices of K, `sliceK` long. */
function matmul(on: DeviceInfo, product: Product, chosen?: GemmTile | { readonly ROWS: number }) {
  const { M, K } = product;
  if (on.path !== "subgroups") {
    if (product.tile) checkTile(product.tile, on.subgroupSizes);
    const tile = product.tile ?? (chosen && "BM" in chosen ? chosen : gemmTile(on, product));
    const sliceK = Math.max(1, Math.ceil(K / tile.splitK / tile.BK)) * tile.BK;
    const splits = Math.max(1, Math.ceil(K / sliceK));
    return {
      ...{ rows: tile.BM, columns: tile.BN, splits, sliceK },
      enables: tile.subgroup ? ["subgroups", "subgroup_size_control"] : [],
      flags: { subgroups: false, ...NO_LANES, ...tileFlags({ ...tile, splitK: splits }) },
    };
  }
  if (product.tile)
    throw new Error("Cannot take a tile on path subgroups: lanes hold its products, path portable has tiles");
  const lanes = on.subgroup;
  const ROWS = chosen && "ROWS" in chosen ? chosen.ROWS : rowsPerSubgroup(M);
  return {
    ...{ rows: ROWS, columns: 4 * lanes, splits: 1, sliceK: K },
    enables: ["subgroups"],
    flags: { ...NO_TILE, subgroups: true, ...laneFlags(lanes, ROWS, product) },
  };
}

/** Workgroups that occupy a large GPU: fewer, and a smaller tile is faster although it reads operands more often. */
const ENOUGH_WORKGROUPS = 128;

export interface Matrices {
  readonly M: number;
  readonly N: number;
  readonly K?: number;
  readonly batch?: number;
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** As Product.W. */
  readonly W?: string;
}

/** As matmul(), by subgroup matrices. */
function matmulMatrices(on: DeviceInfo, sizes: Matrices, chosen?: MatrixTile) {
  const { M, N, batch = 1 } = sizes;
  const config = on.matrices[0];
  const groups = ({ SM, SN, rows, columns }: MatrixTile) =>
    batch * Math.ceil(M / (SM * rows)) * Math.ceil(N / (SN * columns));
  const tile =
    chosen ??
    MATRIX_TILES.find((each) => groups(each) >= ENOUGH_WORKGROUPS) ??
    MATRIX_TILES[MATRIX_TILES.length - 1];
  return matrixTile(on, config, tile, sizes);
}

/** WG: threads that reduce one group. A tile is LANES vectors of a frame by HELD frames for each row of a tile's threads. */
function groupNorm(on: DeviceInfo) {
  const flags = narrow(on) ? { tiled: false, HELD: 1, LANES: 1 } : { tiled: true, HELD: 4, LANES: 16 };
  return { ...byRow(on), flags, tile: THREADS_256 };
}

/** Samples that a workgroup of an LSTM takes: each number compiles a module. A GPU has more workgroups instead. */
function lstmRows(on: DeviceInfo, B: number): number {
  if (!narrow(on) || B <= 4) return 4;
  return B <= 8 ? 8 : 16;
}

/**
 * An LSTM of H units in D directions: `rows` samples and `units` units a tile. `whole`: one workgroup goes through all tiles
 * and steps of its samples, in one dispatch. On lavapipe that is faster up to 64 units, or 128 where two workgroups do it.
 */
function lstm(on: DeviceInfo, { B, D, H }: { B: number; D: number; H: number }) {
  const rows = lstmRows(on, B);
  const vec = H % 4 === 0;
  const wide = vec ? 4 : 1;
  const lanes = narrow(on);
  const subgroups = on.path === "subgroups";
  const LANES = lanes ? (subgroups ? on.subgroup : THREADS_8.WG) : 0;
  const HELD = Math.min(LANES, rows);
  const own = LANES * wide;
  const subgroup = lanes ? undefined : fewestLanes(on);
  const extensions = subgroup ? ["subgroups", "subgroup_size_control"] : subgroups ? ["subgroups"] : [];
  return {
    rows,
    units: lanes ? { forward: own, backward: own } : { forward: 8, backward: 2 * wide },
    whole: lanes && H <= 64 * Math.min(2, D * Math.ceil(B / rows)),
    flags: {
      enables: extensions.map((e) => `enable ${e};`).join(" "),
      subgroupSize: subgroup ? `@subgroup_size(${subgroup})` : "",
      ...{ lanes, subgroups, vec, V: vec ? "vec4f" : "f32", ROWS: rows },
      FROM_LANE: subgroups ? fromLane(LANES) : "",
      ...{ LANES, HELD, LOADS: lanes ? rows / HELD : 0, LAST: lanes ? rows - 1 : 0 },
    },
  };
}

const TABLE = {
  accumulate: pointwise,
  activation: pointwise,
  additive_attention: byRow,
  attention,
  broadcast: pointwise,
  conv1d: alone,
  convert: pointwise,
  cross_entropy: (on: DeviceInfo, { V }: { V: number }) => (V <= 32 ? THREADS_8 : byRow(on)),
  ctc: byRow,
  // A walk has steps that wait for one another: more threads than a frame needs.
  "ctc.lattice": (on: DeviceInfo, { S }: { S: number }) => {
    const { WG } = narrow(on) ? THREADS_8 : THREADS_256;
    const each = Math.ceil(S / WG);
    return { overrides: { WG }, HELD: narrow(on) || each > MOST_HELD ? 0 : each };
  },
  dropout: pointwise,
  elementwise: pointwise,
  embedding: byRow,
  frames: alone,
  group_norm: groupNorm,
  layer_norm: (on: DeviceInfo, { C }: Rows, chosen?: Threads) =>
    heldRow(on, C, C % 4 === 0, MOST_HELD, chosen),
  "layer_norm.backward_params": (on: DeviceInfo, { N }: { N: number }, chosen?: Parts) =>
    chosen ?? { parts: partsOf(on, N) },
  lstm,
  matmul,
  matmul_matrices: matmulMatrices,
  mse: pointwise,
  /** Quads that one workgroup adds up. */
  "mse.sums": () => ({ step: 1024 }),
  /**
   * Adam has four values an element: half as many quads a thread as elsewhere, in one round. On a CPU what a thread begins with
   * takes longer than a quad: there it has many rounds, and narrow workgroups, whose rounds follow one another in memory.
   */
  optimizer: (on: DeviceInfo, sizes: { quads: number }, chosen?: Quads): Quads & { rounds: number } => ({
    ...(narrow(on)
      ? { ...THREADS_8, QUADS: 1, rounds: 32 }
      : { ...THREADS_256, QUADS: Math.max(1, pointwise(on, sizes).QUADS / 2), rounds: 1 }),
    ...chosen,
  }),
  /** Parts of a sum of squares, each of a workgroup. A GPU gets by size what keeps it busy; `vec` adds quads. */
  "optimizer.squares": (on: DeviceInfo, { quads }: { quads: number }) =>
    narrow(on)
      ? { ...THREADS_8, parts: Math.max(1, Math.min(64, Math.ceil(quads / 256))), vec: false }
      : { ...THREADS_256, parts: Math.max(1, Math.min(256, Math.ceil(quads / 4096))), vec: true },
  reduce: byRow,
  "reduce.columns": (on: DeviceInfo, { rows }: { rows: number }, chosen?: Parts) =>
    chosen ?? { parts: partsOf(on, rows) },
  "reduce.dots": (_: DeviceInfo, { size }: { size: number }, chosen?: Parts) =>
    chosen ?? { parts: Math.max(1, Math.min(256, Math.ceil(size / 4096))) },
  sigmoid_gate: alone,
  softmax: (on: DeviceInfo, { C }: Rows, chosen?: Threads) =>
    heldRow(on, C, C % 4 === 0 && !narrow(on), 2, chosen),
  softplus: pointwise,
  transpose: byRow,
  weight_norm: alone,
  "weight_norm.dots": (_: DeviceInfo, { rows }: { rows: number }, chosen?: Parts) =>
    chosen ?? { parts: Math.min(64, Math.ceil(rows / 64)) },
};

type Table = typeof TABLE;
/** An entry of the table. */
export type Choice = keyof Table;
/** A kernel of the package: each has its entry in the table. */
export type KernelName = Exclude<Choice, `${string}.${string}`>;

/** The package's kernels, each a file kernels/NAME.wgsl. */
export const KERNELS = Object.keys(TABLE).filter((name) => !name.includes(".")) as readonly KernelName[];

/** What a choice depends on besides the device: sizes by name, for most nothing. */
type Sizes<C extends Choice> = Parameters<Table[C]> extends [unknown, infer S, unknown?] ? [sizes: S] : [];

/** How to launch `choice`, a kernel or an entry point of one, on this device: by the device's choices, or by default. */
export function launch<C extends Choice>(
  { info, choices }: { readonly info: DeviceInfo; readonly choices?: Pick<Choices, "valueFor"> },
  choice: C,
  ...sizes: Sizes<C>
): ReturnType<Table[C]> {
  const choose = TABLE[choice] as (
    on: DeviceInfo,
    sizes?: unknown,
    chosen?: LaunchValue,
  ) => ReturnType<Table[C]>;
  return choose(info, sizes[0], choices?.valueFor(choice, sizes[0]));
}

/** Grid and variant of a kernel whose threads take QUADS quads each, WG apart; see lib/quads.wgsl. */
export function overQuads(
  quads: number,
  { WG, QUADS }: Quads,
  flags: Flags = {},
): { readonly grid: Grid; readonly variant: Variant } {
  return { grid: gridFor(quads, WG * QUADS), variant: { flags: { QUADS, ...flags }, overrides: { WG } } };
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
