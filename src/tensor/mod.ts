/** Tensors, who frees them, and automatic differentiation. */
export { scope } from "./scope.ts";
export { checkShape, type Shape } from "./shape.ts";
export {
  type Differentiable,
  type ValueAndGrad,
  type ValueAndGradOptions,
  type Vjp,
  valueAndGrad,
  vjp,
} from "./autograd.ts";
export { type GradcheckOptions, gradcheck, type Movable } from "./gradcheck.ts";
export { capture, type Captured, type CaptureOptions } from "./capture.ts";
export { checkpoint } from "./checkpoint.ts";
export {
  type Backward,
  type BackwardOfAll,
  isTracked,
  noGrad,
  notDifferentiable,
  record,
  recordAll,
} from "./tape.ts";
export { checkF32, checkFloat, type DType, type Memory, Tensor, type WeightDType } from "./tensor.ts";
