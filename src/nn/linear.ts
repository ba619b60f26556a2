import { type LinearOptions, linear } from "../ops/matmul.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Init } from "./init.ts";
import type { Parameter } from "./parameter.ts";
import type { WeightScope } from "./weights.ts";

export interface LinearConfig {
  readonly bias?: boolean;
  /** Of the weight; normal with a deviation of 0.02 by default, as in Hugging Face's transformers. */
  readonly init?: Init;
}

/** y = x·wᵀ + b.   x (…, K) → y (…, N) */
export class Linear {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  constructor(weights: WeightScope, K: number, N: number, config: LinearConfig = {}) {
    this.weight = weights.pack(["weight"], [N, K], config.init ?? { kind: "normal", std: 0.02 }, true);
    this.bias = config.bias === false ? undefined : weights.get("bias", [N], { kind: "zeros" });
  }

  forward(x: Tensor, options?: LinearOptions): Tensor {
    return linear(x, this.weight.operand, this.bias?.value, options);
  }
}

/** Several linear maps of one input as one product.   x (…, K) → y (…, names·N), the maps' results side by side */
export class PackedLinear {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  constructor(
    weights: WeightScope,
    names: readonly string[],
    K: number,
    N: number,
    config: LinearConfig = {},
  ) {
    const named = (what: string) => names.map((n) => `${n}.${what}`);
    this.weight = weights.pack(named("weight"), [N, K], config.init ?? { kind: "normal", std: 0.02 }, true);
    this.bias = config.bias === false ? undefined : weights.pack(named("bias"), [N], { kind: "zeros" });
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight.operand, this.bias?.value);
  }
}
