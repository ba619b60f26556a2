/** Tiles of a matrix product: what kernels/lib/matmul_tiles.wgsl can be generated for. */
import type { Flags } from "./wgsl.ts";

/**
 * How kernels/lib/matmul_tiles.wgsl divides a product: workgroups compute BM × BN of Y, BK of K at a time, threads TM × TN.
 * All are powers of two, TM and TN at least 4.
 */
export interface GemmTile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TM: number;
  readonly TN: number;
  /** Slices of K whose sums are added up in a second dispatch, in order; 1 for none. */
  readonly splitK: number;
  /** Lanes of a subgroup, where the kernel is to ask for so many. */
  readonly subgroup?: number;
}

/**
 * Tiles to choose among, none split. The first suits most; what they become on GPUs is in the notes of each: share of FMA in
 * the loop over K, for x·wᵀ.
 */
export const GEMM_TILES = [
  { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4, splitK: 1 },
  { BM: 128, BN: 64, BK: 16, TM: 8, TN: 8, splitK: 1 },
  { BM: 64, BN: 64, BK: 16, TM: 4, TN: 4, splitK: 1 },
  { BM: 32, BN: 64, BK: 16, TM: 8, TN: 4, splitK: 1 },
] as const satisfies readonly GemmTile[];

/** Threads of a workgroup. */
export const threadsOf = ({ BM, BN, TM, TN }: GemmTile): number => (BM / TM) * (BN / TN);

/** Bytes of workgroup memory at most. An operand that is contiguous in k takes a quad more a row than its numbers. */
export const workgroupBytes = ({ BM, BN, BK }: GemmTile): number => (BM + BN) * (BK + 4) * 4;

/** The values of the kernel's flags. */
export function tileFlags(tile: GemmTile): Flags {
  const { BM, BN, BK, TM, TN, splitK, subgroup } = tile;
  const threads = threadsOf(tile);
  const [QUADS_M, QUADS_N] = [TM / 4, TN / 4];
  return {
    ...{ BM, BN, BK, TM, QUADS_M, QUADS_N },
    ...{ KQ: BK / 4, LOADS_A: (BM * BK) / 4 / threads, LOADS_B: (BN * BK) / 4 / threads },
    ...{ SUMS: TM * QUADS_N, REST: (TM - 1) * QUADS_N },
    split: splitK > 1,
    subgroupSize: subgroup ? `@subgroup_size(${subgroup})` : "",
  };
}
