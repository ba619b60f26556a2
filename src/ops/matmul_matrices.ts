/** Products by subgroup matrices: the twin of kernels/matmul_matrices.wgsl, which gemm() goes by. */
import type { Device } from "../gpu/device.ts";
import { twin } from "../gpu/kernel.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Gemm, operandBytes, sizeOfFlag, tailCost } from "./gemm.ts";

export const matrices = twin("matmul_matrices", {
  forward: (given) => {
    const { M, N, K } = given.dims;
    const batch = given.grid[2];
    const tail = tailCost(given, batch, sizeOfFlag(given, "Y"));
    return {
      flops: 2 * batch * M * N * K + tail.flops,
      bytes: operandBytes(given, batch) + tail.bytes,
      shape: { ...(batch > 1 && { batch }), M, N, K },
      unit: "matrix",
    };
  },
});

/** Whether gemm() rounds the operands to f16 and multiplies them by subgroup matrices: where one is f16 already. */
export const usesMatrices = (device: Device, b: Tensor, { allowF16 }: Pick<Gemm, "allowF16">): boolean =>
  device.info.matrices.length > 0 && (b.dtype === "f16" || allowF16 === true);
