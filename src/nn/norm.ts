import { checkNumber } from "../io/checks.ts";
import type { ActivationKind } from "../ops/activation.ts";
import { groupNorm } from "../ops/group_norm.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Parameter } from "./parameter.ts";
import type { WeightSource } from "./weights.ts";

/** Layer norm over the last axis, of width C. */
export class LayerNorm {
  /** (C) */
  readonly weight: Parameter;
  /** (C) */
  readonly bias: Parameter;
  /** Added to the variance: 1e-12 for BERT, 1e-5 for HuBERT. */
  readonly eps: number;

  /** Over a last axis of `C`. */
  constructor(weights: WeightSource, C: number, eps: number) {
    checkNumber("make LayerNorm", "eps", eps, "a finite number from 0, as 1e-5", (x) => x >= 0 && x < 1e38);
    this.weight = weights.get("weight", [C], { kind: "ones" });
    this.bias = weights.get("bias", [C], { kind: "zeros" });
    this.eps = eps;
  }

  /** x (…, C) → (…, C) */
  forward(x: Tensor, activation?: ActivationKind): Tensor {
    return layerNorm(x, this.weight.value, this.bias.value, this.eps, activation);
  }
}

/** Group norm with one group a channel, over time.   x (B, T, C) → (B, T, C) */
export class ChannelNorm {
  /** (C) */
  readonly weight: Parameter;
  /** (C) */
  readonly bias: Parameter;
  /** Channels. */
  readonly C: number;

  /** Over `C` channels. */
  constructor(weights: WeightSource, C: number) {
    this.weight = weights.get("weight", [C], { kind: "ones" });
    this.bias = weights.get("bias", [C], { kind: "zeros" });
    this.C = C;
  }

  /** x (B, T, C) → (B, T, C) */
  forward(x: Tensor): Tensor {
    return groupNorm(x, this.weight.value, this.bias.value, this.C, 1e-5);
  }
}
