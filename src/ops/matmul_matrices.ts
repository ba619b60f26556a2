/** Products by subgroup matrices: the twin of kernels/matmul_matrices.wgsl, which gemm() goes by. Has no gradient. */
import type { Device } from "../gpu/device.ts";
import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { type Tensor, unread } from "../tensor/tensor.ts";
import { activationCode } from "./activation.ts";
import type { Gemm } from "./matmul.ts";

const k = twin("matmul_matrices");

/** Whether gemm() rounds the operands to f16 and multiplies them by subgroup matrices: where one is f16 already. */
export const usesMatrices = (device: Device, b: Tensor, { allowF16 }: Gemm): boolean =>
  device.info.matrices.length > 0 && (b.dtype === "f16" || allowF16 === true);

/** gemm() where usesMatrices(). Operands beyond f16, 65504, become infinite. */
export function matrixGemm(y: Tensor, a: Tensor, b: Tensor, p: Gemm): void {
  const { M, N, K, batch = 1 } = p;
  const strides = {
    aRowStride: p.a.rowStride,
    aBatchStride: p.a.batchStride ?? 0,
    aSegmentStride: p.a.segmentStride ?? 0,
    bRowStride: p.b.rowStride,
    bBatchStride: p.b.batchStride ?? 0,
    bSegmentStride: p.b.segmentStride ?? 0,
    yRowStride: p.y.rowStride,
    yBatchStride: p.y.batchStride ?? 0,
  };
  const { transA = false, transB = false } = p;
  const contiguous = [N, transA ? M : K, transB ? K : N];
  const vec = [...Object.values(strides), ...contiguous].every((n) => n % 4 === 0);
  const { rows, columns, flags } = launch(y.device, "matmul_matrices", p);
  k.run(
    "forward",
    { a, b, bias: p.bias ?? unread(a), residual: p.residual ?? unread(a), y },
    {
      M,
      N,
      K,
      ...strides,
      aSegmentRows: p.a.segmentRows ?? M,
      bSegmentRows: p.b.segmentRows ?? K,
      activation: activationCode("linear", p.activation),
      hasBias: p.bias ? 1 : 0,
      hasResidual: p.residual ? 1 : 0,
      biasBatchStride: p.bias && batch > 1 ? N : 0,
      accumulate: p.accumulate ? 1 : 0,
      alpha: p.alpha ?? 1,
    },
    [Math.ceil(N / columns), Math.ceil(M / rows), batch],
    {
      flags: {
        vec,
        wholeQuads: vec && !transA,
        ...{ X: a.dtype, W: b.dtype, Y: y.dtype },
        ...{ transA, transB, mappedB: p.b.segmentRows !== undefined },
        ...flags,
      },
    },
  );
}
