/** Tiles of a matrix product: what kernels/lib/matmul_tiles.wgsl is generated for. */
import type { Flags } from "./wgsl.ts";

/**
 * How a product is divided: a workgroup computes BM × BN of Y, BK of K at a time, a thread TM × TN of that.
 *
 * All are powers of two, TM and TN at least 4; the threads of a workgroup bring both operands in whole rounds of 4-element
 * loads. checkTile() says what does not fit.
 */
export interface GemmTile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TM: number;
  readonly TN: number;
  /** Slices of K, whose sums a second dispatch adds up in order; 1 for none. */
  readonly splitK: number;
  /** Lanes of the subgroup that the kernel asks for; without it the driver chooses. */
  readonly subgroup?: number;
}

/** Tiles to choose among on a GPU; splitK may be any other. None takes more than 15 KiB of workgroup memory. */
export const GEMM_TILES = {
  /** For most. */
  usual: { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4, splitK: 1 },
  /** For results that fill a GPU even so: the most multiplications a load. */
  large: { BM: 128, BN: 64, BK: 16, TM: 8, TN: 8, splitK: 1 },
  /** For few rows. */
  flat: { BM: 32, BN: 64, BK: 16, TM: 4, TN: 8, splitK: 1 },
  /** For few registers, as Intel's GPUs have. */
  small: { BM: 64, BN: 64, BK: 16, TM: 4, TN: 4, splitK: 1 },
  /** For few rows and few registers. */
  smallFlat: { BM: 32, BN: 64, BK: 16, TM: 4, TN: 4, splitK: 1 },
  /** For CPUs, which compile long texts slowly and have few cores to share the work. */
  cpu: { BM: 64, BN: 64, BK: 4, TM: 8, TN: 8, splitK: 1 },
  cpuFlat: { BM: 32, BN: 64, BK: 4, TM: 8, TN: 8, splitK: 1 },
} as const satisfies Readonly<Record<string, GemmTile>>;

/** Threads of a workgroup. */
export const threadsOf = ({ BM, BN, TM, TN }: GemmTile): number => (BM / TM) * (BN / TN);

/** Most bytes of workgroup memory: an operand that is contiguous in k takes four numbers a row more than it has. */
export const workgroupBytes = ({ BM, BN, BK }: GemmTile): number => 4 * (BM + BN) * (BK + 4);

/** Throws where the kernel cannot be generated for a tile, with the sizes of subgroups that a device can be asked for. */
export function checkTile(tile: GemmTile, subgroupSizes: readonly number[] = []): void {
  const { BM, BN, BK, TM, TN, splitK, subgroup } = tile;
  const refuse = (why: string): never => {
    throw new RangeError(`Cannot take tile ${JSON.stringify(tile)}: ${why}`);
  };
  for (const [name, size] of Object.entries({ BM, BN, BK, TM, TN }))
    if (!(size >= 4 && Math.log2(size) % 1 === 0))
      refuse(`${name} is ${size}, a power of two of at least 4 expected`);
  if (!(Number.isInteger(splitK) && splitK >= 1))
    refuse(`splitK is ${splitK}, a whole number of at least 1 expected`);
  if (subgroup !== undefined && !subgroupSizes.includes(subgroup))
    refuse(`subgroups have ${subgroupSizes.join(", ") || "no size that can be asked for"}`);
  const threads = threadsOf(tile);
  if (BM < TM || BN < TN) refuse("a thread computes more of it than a workgroup");
  for (const [operand, rows] of [
    ["A", BM],
    ["B", BN],
  ] as const)
    if (threads > (rows * BK) / 4 || threads < Math.max(rows, BK) / 4)
      refuse(`${threads} threads cannot share the ${(rows * BK) / 4} loads of ${operand}`);
}

/** The values of the kernel's flags. */
export function tileFlags({ BM, BN, BK, TM, TN, splitK, subgroup }: GemmTile) {
  const threads = (BM / TM) * (BN / TN);
  const [QUADS_M, QUADS_N] = [TM / 4, TN / 4];
  return {
    ...{ BM, BN, BK, TM, QUADS_M, QUADS_N },
    ...{ KQ: BK / 4, LOADS_A: (BM * BK) / 4 / threads, LOADS_B: (BN * BK) / 4 / threads },
    ...{ SUMS: TM * QUADS_N, REST: (TM - 1) * QUADS_N },
    split: splitK > 1,
    subgroupSize: subgroup === undefined ? "" : `@subgroup_size(${subgroup})`,
  } satisfies Flags;
}
