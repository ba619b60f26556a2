/** All that products can go by: tiles of threads, and of subgroup matrices. */
import { checkTile, GEMM_TILES, type GemmTile } from "../../src/gpu/gemm_tile.ts";
import { MATRIX_TILES, matrixTile } from "../../src/gpu/matrix_tile.ts";
import type { Gemm } from "../../src/ops/gemm.ts";
import { gemm } from "../../src/ops/matmul.ts";
import { matrices } from "../../src/ops/matmul_matrices.ts";
import { type Tensor, unread } from "../../src/tensor/tensor.ts";

/** All tiles that this adapter takes, with K whole and in slices of at least 128. */
function tilesFor(K: number): { name: string; tile: GemmTile }[] {
  return Object.entries(GEMM_TILES).flatMap(([name, tile]: [string, GemmTile]) =>
    [1, 2, 4, 8]
      .filter((splitK) => splitK === 1 || K >= 128 * splitK)
      .map((splitK) => ({
        name: splitK === 1 ? name : `${name}, K in ${splitK}`,
        tile: { ...tile, splitK },
      })),
  );
}

/** Something to run: Y = A·B by one tile. */
export interface Way {
  readonly name: string;
  readonly record: () => void;
}

/** By tiles of threads. */
export function threadWays(y: Tensor, a: Tensor, b: Tensor, given: Gemm): Way[] {
  return tilesFor(given.K).map(({ name, tile }) => ({
    name,
    record() {
      checkTile(tile, y.device.info.subgroupSizes);
      gemm(y, a, b, { ...given, tile });
    },
  }));
}

/** By each configuration of subgroup matrices that the adapter has, and each tile of it. */
export function matrixWays(
  y: Tensor,
  a: Tensor,
  b: Tensor,
  { M, N, K, transA, transB, ...given }: Gemm,
): Way[] {
  const turned = { transA: transA ?? false, transB: transB ?? false };
  const rows = {
    aRowStride: given.a.rowStride,
    bRowStride: given.b.rowStride,
    yRowStride: given.y.rowStride,
  };
  const none = { aBatchStride: 0, bBatchStride: 0, yBatchStride: 0, aSegmentStride: 0, bSegmentStride: 0 };
  const tail = { activation: 0, hasBias: 0, hasResidual: 0, biasBatchStride: 0, accumulate: 0, alpha: 1 };
  const dims = { M, N, K, ...rows, ...none, ...tail, aSegmentRows: M, bSegmentRows: K };
  const types = { X: a.dtype, W: b.dtype, Y: y.dtype };
  const kinds = { vec: true, mappedB: false, slope: false, wholeQuads: !turned.transA, ...turned, ...types };
  return y.device.info.matrices.flatMap((config) =>
    MATRIX_TILES.map((tile) => {
      const { rows: high, columns: wide, flags } = matrixTile(y.device.info, config, tile, turned);
      return {
        name: `${high}×${wide} by ${config.M}×${config.N}×${config.K}`,
        record() {
          const grid = [Math.ceil(N / wide), Math.ceil(M / high), 1] as const;
          const buffers = { a, b, bias: unread(a), residual: unread(a), y };
          matrices.run("forward", buffers, dims, grid, { flags: { ...kinds, ...flags } });
        },
      };
    }),
  );
}
