/** Tiles of a product by subgroup matrices: what kernels/matmul_matrices.wgsl is generated for. */
import type { DeviceInfo, MatrixConfig } from "./adapter.ts";

/** Sizes that a subgroup matrix must divide: those of the smallest part of a product that a subgroup takes. */
export const MATRICES_DIVIDE = { M: 16, N: 16, K: 32 } as const;

/** What the largest tile takes of workgroup memory, and of threads on subgroups of 64 lanes. */
export const MATRICES_NEED = { bytes: 28 * 1024, threads: 512 } as const;

/** How a workgroup shares a product by subgroup matrices: SM × SN subgroups, each with `rows` × `columns` of results. */
export interface MatrixTile {
  readonly SM: number;
  readonly SN: number;
  readonly rows: number;
  readonly columns: number;
  /** k's at a time. */
  readonly BK: number;
}

/** Largest first: 128×128, 64×64 and 32×32 of Y. */
export const MATRIX_TILES: readonly MatrixTile[] = [
  { SM: 2, SN: 4, rows: 64, columns: 32, BK: 32 },
  { SM: 2, SN: 2, rows: 32, columns: 32, BK: 32 },
  { SM: 2, SN: 2, rows: 16, columns: 16, BK: 64 },
];

/**
 * Lanes of a subgroup that multiplies matrices of N columns: the one size that there is, else 32; on Intel as many as there
 * are columns, the only size at which its matrices work.
 */
function matrixLanes({ subgroup, subgroupSizes, vendor }: DeviceInfo, N: number): number {
  if (subgroup > 0) return subgroup;
  const wanted = vendor === "intel" ? N : 32;
  return subgroupSizes.includes(wanted) ? wanted : subgroupSizes[0];
}

/** What the kernel must know of a tile. */
export function matrixTile(
  on: DeviceInfo,
  { M: MM, N: NN, K: KK }: MatrixConfig,
  { SM, SN, rows, columns, BK }: MatrixTile,
  { transA = false, transB = false }: { readonly transA?: boolean; readonly transB?: boolean },
) {
  const LANES = matrixLanes(on, NN);
  const [FM, FN] = [rows / MM, columns / NN];
  // A thread brings quads of k's, or 4×4 blocks where those of an operand do not lie side by side.
  const loads = (length: number, turned: boolean) => (length * BK) / (turned ? 16 : 4) / (SM * SN * LANES);
  return {
    rows: SM * rows,
    columns: SN * columns,
    flags: {
      ...{ MM, NN, KK, SM, SN, FM, FN, LANES, STEPS: BK / KK, LAST: FM * FN - 1 },
      ...{ LA: loads(SM * rows, transA), LB: loads(SN * columns, !transB) },
      sized: on.subgroup === 0,
    },
  };
}
