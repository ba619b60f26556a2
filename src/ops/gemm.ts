/** What a matrix product is told, and what it costs: shared by the kernels that compute one. */
import type { Costed } from "../gpu/cost.ts";
import type { GemmTile } from "../gpu/gemm_tile.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type ActivationKind, activationFlops, slopeFlops } from "./activation.ts";

/**
 * Where an operand lies, in elements: row r of product z begins at z·batchStride + r·rowStride.
 *
 * Rows that come in segments, as the frames of each sample: (r / segmentRows)·segmentStride + (r % segmentRows)·rowStride.
 */
export interface Layout {
  readonly rowStride: number;
  /** From one product of a batch to the next. */
  readonly batchStride?: number;
  readonly segmentRows?: number;
  readonly segmentStride?: number;
  /** Of the first product. With `heads` alone. */
  readonly start?: number;
  /** From one group of `heads` products to the next; heads · batchStride by default. */
  readonly groupStride?: number;
}

export interface Gemm {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Number of products, one by default. */
  readonly batch?: number;
  /** Products of a group of the batch: the heads of a sample, whose rows are packed. Not by subgroup matrices. */
  readonly heads?: number;
  /** A is stored (K, M). */
  readonly transA?: boolean;
  /** Rows of A go on with zeros up to a multiple of four. */
  readonly paddedA?: boolean;
  /** B is stored (N, K), as a Linear weight. */
  readonly transB?: boolean;
  readonly a: Layout;
  readonly b: Layout;
  readonly y: Layout;
  readonly alpha?: number;
  readonly bias?: Tensor;
  readonly activation?: ActivationKind;
  readonly residual?: Tensor;
  /** Is given the slopes of the activation, where y is: of its layout and dtype. */
  readonly slopes?: Tensor;
  /** Adds to what y holds. */
  readonly accumulate?: boolean;
  /** In place of the one that launch() chooses; not on path subgroups, which has none. */
  readonly tile?: GemmTile;
  /** The operands may be rounded to f16 although neither is: one of the product that this is a gradient of was. */
  readonly allowF16?: boolean;
}

/** The tail of `outputs` results: bias, activation, residual and store. */
export function tailCost(
  { dims, bytes, variant }: Costed,
  batch: number,
  y: number,
): { flops: number; bytes: number } {
  const { M, N, activation, hasBias, hasResidual, accumulate, alpha } = dims;
  const outputs = batch * M * N;
  const slope = variant.flags?.slope === true;
  const activated = activationFlops(activation) + (slope ? slopeFlops(activation) : 0);
  const perOutput = hasBias + activated + hasResidual + accumulate + Number(alpha !== 1);
  const bias = hasBias ? Math.min(4 * batch * N, bytes("bias")) : 0;
  return {
    flops: perOutput * outputs,
    bytes: bias + y * outputs * (1 + hasResidual + accumulate + Number(slope)),
  };
}

/** Bytes of a storage type that a flag names. */
export const sizeOfFlag = ({ variant }: Costed, flag: string): number =>
  variant.flags?.[flag] === "f16" ? 2 : 4;

/** Both operands. Rows of A may overlap, as in a convolution, and one B may serve all products: no more is read than there is. */
export function operandBytes(given: Costed, batch: number): number {
  const { bytes, same, dims } = given;
  const { M, N, K } = dims;
  const readA = Math.min(sizeOfFlag(given, "X") * batch * M * K, bytes("a"));
  return readA + (same("a", "b") ? 0 : Math.min(sizeOfFlag(given, "W") * batch * K * N, bytes("b")));
}
