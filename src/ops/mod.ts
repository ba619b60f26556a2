/** All operators, each the twin of a kernel file. */
export { type ActivationKind, activation, exp, gelu, log, relu, sigmoid, tanh } from "./activation.ts";
export { additiveScores } from "./additive_attention.ts";
export {
  type AttentionOptions,
  crossAttention,
  crossAttentionWithProbabilities,
  selfAttention,
  selfAttentionWithProbabilities,
} from "./attention.ts";
export { type ConvOptions, conv1d, packWeight } from "./conv1d.ts";
export { cast, convert, halved, type GpuStoredDType } from "./convert.ts";
export { type CrossEntropyOptions, crossEntropy } from "./cross_entropy.ts";
export { type CtcOptions, ctcLoss, type Reduction } from "./ctc.ts";
export { dropout } from "./dropout.ts";
export { add, div, full, mul, reshape, scale, sub } from "./elementwise.ts";
export { type EmbeddingOptions, embedding } from "./embedding.ts";
export { concat, maskRows, slice } from "./frames.ts";
export { groupNorm } from "./group_norm.ts";
export { layerNorm } from "./layer_norm.ts";
export { type LstmOptions, type LstmOutput, type LstmState, type LstmWeights, lstm } from "./lstm.ts";
export { type LinearOptions, linear, type MatmulOptions, matmul } from "./matmul.ts";
export { type MseOptions, mse } from "./mse.ts";
export { maskedMean, mean, type SumOptions, sum } from "./reduce.ts";
export { concatPair, gatedConcat } from "./sigmoid_gate.ts";
export type { Clip } from "./optimizer.ts";
export { attentionProbabilities, logSoftmax, type SoftmaxOptions, softmax } from "./softmax.ts";
export { softplus } from "./softplus.ts";
export { transpose } from "./transpose.ts";
export { weightNorm } from "./weight_norm.ts";
