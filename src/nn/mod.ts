/** Layers, and the parameters that they are made of. */
export { type AttentionConfig, type AttentionInput, CrossAttention, SelfAttention } from "./attention.ts";
export {
  AdditiveAttention,
  type AdditiveAttentionConfig,
  type Attended,
  AttentionPooling,
  type AttentionPoolingConfig,
} from "./attention_pooling.ts";
export { Constant } from "./constant.ts";
export { Conv1d, WeightNormConv1d } from "./conv.ts";
export { Embedding, type EmbeddingConfig } from "./embedding.ts";
export { FeedForward } from "./feed_forward.ts";
export { type Init, kaimingNormal, kaimingUniform, xavierUniform } from "./init.ts";
export { Linear, type LinearConfig, PackedLinear } from "./linear.ts";
export { type LogMelConfig, LogMelSpectrogram } from "./log_mel.ts";
export { Lstm, LstmCell, type LstmConfig, type LstmInput } from "./lstm.ts";
export { activationsOf, type Mode, replayable, type Training } from "./mode.ts";
export { ChannelNorm, LayerNorm } from "./norm.ts";
export { Derived, Parameter, type Part } from "./parameter.ts";
export { WeightScope, Weights, type WeightSource, type WeightsOptions } from "./weights.ts";
