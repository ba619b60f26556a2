/** Tensors, who frees them, and automatic differentiation. */
export { scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export { type Backward, type Gradients, grad, isTracked, noGradient, record } from "./tape.ts";
export { type DType, Tensor } from "./tensor.ts";
