/** What a tuner may change of the launch table, and to what; all else stays as the table has it. */
import type { DeviceInfo } from "./adapter.ts";
import type { ChosenLaunch, LaunchSizes, LaunchValue } from "./choices.ts";
import { GEMM_TILES, threadsOf, workgroupBytes } from "./gemm_tile.ts";
import {
  BUSY,
  type Choice,
  gemmTile,
  lanesOf,
  launch,
  type Matrices,
  narrow,
  type Product,
} from "./launch.ts";
import { ATTENTION_TILES, attentionTile } from "./attention_tile.ts";
import { MATRIX_TILES } from "./matrix_tile.ts";

/** A choice that is open to tuning. */
interface Open {
  /** The sizes that tell its classes of shapes apart. */
  readonly by: readonly string[];
  /** What its entry in the table takes in place of the default. */
  readonly candidates: (on: Limited, sizes: never) => readonly LaunchValue[];
}

/** What candidates depend on: some are for what not every adapter has. */
export interface Limited {
  readonly info: DeviceInfo;
  readonly limits: Pick<
    GPUSupportedLimits,
    "maxComputeWorkgroupStorageSize" | "maxComputeInvocationsPerWorkgroup"
  >;
}

/** Quads from which a launch is long enough for its workgroups to matter. */
const FEWEST_QUADS = 2 ** 10;

/** Threads, and quads of each. */
function quads({ info, limits }: Limited, sizes: { readonly quads: number }): LaunchValue[] {
  if (sizes.quads < FEWEST_QUADS) return [];
  const [threads, each] = info.cpu
    ? [
        [8, 64, 256],
        [1, 2, 4],
      ]
    : [
        [64, 128, 256],
        [1, 2, 4, 8],
      ];
  const fitting = threads.filter((WG) => WG <= limits.maxComputeInvocationsPerWorkgroup);
  return fitting.flatMap((WG) => each.map((QUADS) => ({ WG, QUADS })));
}

/** Threads of a row. */
const rows = ({ info, limits }: Limited): LaunchValue[] =>
  (info.cpu || narrow(info) ? [8, 16, 64] : [32, 64, 128, 256])
    .filter((WG) => WG <= limits.maxComputeInvocationsPerWorkgroup)
    .map((WG) => ({ WG }));

/** Parts of a sum over `by` rows, none of fewer than 16. */
const parts =
  (by: string, most: number): Open["candidates"] =>
  (_, { [by]: length }: Readonly<Record<string, number>>) =>
    [1, 4, 16, 64, 256]
      .filter((count) => count <= most && count * 16 <= Math.max(16, length))
      .map((count) => ({ parts: count }));

/** Rows on path subgroups; elsewhere tiles, with K in slices where workgroups would be few. */
function products({ info, limits }: Limited, product: Product): LaunchValue[] {
  const { M, N, K, batch = 1, transA = false } = product;
  if (info.path === "subgroups") {
    const whole = (ROWS: number) => Number.isInteger(lanesOf(info.subgroup, ROWS).LOADS);
    // Columns of A become rows first: what is chosen for those counts.
    return transA ? [] : [16, 24, 32].filter(whole).map((ROWS) => ({ ROWS }));
  }
  const { cpu, cpuFlat, ...gpu } = GEMM_TILES;
  const { subgroup } = gemmTile(info, product);
  return Object.values(info.cpu || narrow(info) ? { cpu, cpuFlat } : gpu)
    .filter((tile) => threadsOf(tile) <= limits.maxComputeInvocationsPerWorkgroup)
    .filter((tile) => workgroupBytes(tile) <= limits.maxComputeWorkgroupStorageSize)
    .flatMap((tile) => {
      const groups = Math.ceil(M / tile.BM) * Math.ceil(N / tile.BN) * batch;
      const splits = [1, 2, 4, 8].filter((n) => n === 1 || (K >= 128 * n && groups * n <= 8 * BUSY));
      return splits.map((splitK) => ({ ...tile, splitK, ...(subgroup && { subgroup }) }));
    });
}

const matrices = (_: Limited, __: Matrices): LaunchValue[] => MATRIX_TILES.map((tile) => ({ ...tile }));

/** Fewer registers by parts, so that more workgroups run at once. A CPU adapter, which compiles each for a minute, has no choice. */
function attention({ info }: Limited): LaunchValue[] {
  if (info.path !== "portable" || info.cpu) return [];
  const { subgroup } = attentionTile(info);
  const [large, small] = ATTENTION_TILES;
  const tiles = [
    large,
    { ...large, ahead: false },
    { ...large, quads: 2 },
    { ...small, rolled: false },
    small,
  ];
  return tiles.map((tile) => ({ ...tile, ...(subgroup && { subgroup }) }));
}

const PRODUCT = ["M", "N", "K", "batch", "transA", "transB", "W"];

const POINTWISE = { by: ["quads"], candidates: quads };
const ROWS = { by: ["N", "C"], candidates: rows };

const OPEN = {
  accumulate: POINTWISE,
  activation: POINTWISE,
  attention: { by: ["D", "heads", "Tq", "Tk"], candidates: attention },
  broadcast: POINTWISE,
  convert: POINTWISE,
  dropout: POINTWISE,
  elementwise: POINTWISE,
  layer_norm: ROWS,
  "layer_norm.backward_params": { by: ["N"], candidates: parts("N", 64) },
  matmul: { by: PRODUCT, candidates: products },
  matmul_matrices: { by: PRODUCT, candidates: matrices },
  mse: POINTWISE,
  optimizer: POINTWISE,
  "reduce.columns": { by: ["rows"], candidates: parts("rows", 64) },
  "reduce.dots": { by: ["size"], candidates: parts("size", 256) },
  softmax: ROWS,
  softplus: POINTWISE,
  "weight_norm.dots": { by: ["rows"], candidates: parts("rows", 64) },
} satisfies { readonly [C in Choice]?: Open };

/** A choice that can be tuned. */
export type Tunable = keyof typeof OPEN;

/** All of them. */
export const TUNABLE = Object.keys(OPEN) as readonly Tunable[];

/** Whether a choice can be tuned. */
export const isTunable = (choice: string): choice is Tunable => Object.hasOwn(OPEN, choice);

/** The sizes that a choice is made by, without all else that it was asked with. */
export function sizesOf(choice: Tunable, asked: LaunchSizes): LaunchSizes {
  const named = OPEN[choice].by.map((name) => [name, asked[name]] as const);
  return Object.fromEntries(named.filter(([, value]) => value !== undefined && value !== false));
}

/** The class of shapes for which one value is chosen, as "M256 N1024 K1024 transB": sizes to the nearest power of 2. */
export function shapeClass(choice: Tunable, sizes: LaunchSizes): string {
  let name: string = choice;
  for (const size of OPEN[choice].by) {
    const value = sizes[size];
    if (value === undefined || value === false) continue;
    if (value === true) name += ` ${size}`;
    else if (typeof value === "string") name += ` ${size}=${value}`;
    else if (value > 1) name += ` ${size}${2 ** Math.round(Math.log2(value))}`;
  }
  return name;
}

/** What may be chosen in place of the default, each another launch. */
export function candidatesOf(on: Limited, choice: Tunable, sizes: LaunchSizes): readonly LaunchValue[] {
  const launched = (value?: LaunchValue) =>
    JSON.stringify(launch({ info: on.info, choices: { valueFor: () => value } }, choice, sizes as never));
  const seen = new Set([launched()]);
  return OPEN[choice].candidates(on, sizes as never).filter((value) => {
    const made = launched(value);
    return !seen.has(made) && seen.add(made);
  });
}

/** Whether what was chosen, perhaps by another version, is among what may be chosen. */
export function isCandidate(on: Limited, { choice, sizes, value }: ChosenLaunch): boolean {
  const wanted = Object.entries(value);
  const same = (each: LaunchValue) =>
    Object.keys(each).length === wanted.length && wanted.every(([name, v]) => each[name] === v);
  return OPEN[choice].candidates(on, sizes as never).some(same);
}
