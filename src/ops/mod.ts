/** All operators, each the twin of a kernel file. */
export { type ActivationKind, activation, gelu, sigmoid, tanh } from "./activation.ts";
export { crossAttention, selfAttention } from "./attention.ts";
export { conv1d, packWeight } from "./conv1d.ts";
export { convert, halved } from "./convert.ts";
export { crossEntropy } from "./cross_entropy.ts";
export { ctcLoss } from "./ctc.ts";
export { dropout } from "./dropout.ts";
export { add, full, multiply, reshape, scale } from "./elementwise.ts";
export { embedding } from "./embedding.ts";
export { concat, maskRows, slice, transpose } from "./frames.ts";
export { groupNorm } from "./group_norm.ts";
export { layerNorm } from "./layer_norm.ts";
export { linear, matmul } from "./matmul.ts";
export { maskedMean } from "./reduce.ts";
export { blend, join } from "./sigmoid_gate.ts";
export { softmax } from "./softmax.ts";
export { weightNorm } from "./weight_norm.ts";
