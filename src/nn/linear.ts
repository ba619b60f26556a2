import { checkOptions, keysOf } from "../io/checks.ts";
import { type LinearOptions, linear } from "../ops/matmul.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Init } from "./init.ts";
import type { Parameter } from "./parameter.ts";
import type { WeightSource } from "./weights.ts";

/** What a linear layer is made with. */
export interface LinearConfig {
  /** Whether there is one; true by default. It begins as zeros. */
  readonly bias?: boolean;
  /** Of the weight; normal with a deviation of 0.02 by default, as in Hugging Face's transformers. */
  readonly init?: Init;
}

const KEYS = keysOf<LinearConfig>({ bias: true, init: true });

/**
 * y = x·wᵀ + b, as torch.nn.Linear.   x (…, K) → y (…, N)
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const up = new Linear(weights.at("up"), 2, 16, { init: kaimingUniform(2) });
 * const down = new Linear(weights.at("down"), 16, 1, { bias: false });
 * await weights.initialize();
 * const x = Tensor.from(device, Float32Array.of(1, 2, 3, 4, 5, 6), [3, 2]);
 * const y = scope(device, () => down.forward(up.forward(x, { activation: "relu" })));
 * console.log(y.shape); // [3, 1]
 * console.log(weights.parameters.map(({ key, shape }) => `${key} (${shape})`).join(" "));
 * // up.weight (16,2) up.bias (16) down.weight (1,16)
 * ```
 */
export class Linear {
  /** (N, K), as torch.nn.Linear's. */
  readonly weight: Parameter;
  /** (N) */
  readonly bias: Parameter | undefined;

  /** `K` features in, `N` out. */
  constructor(weights: WeightSource, K: number, N: number, config: LinearConfig = {}) {
    checkOptions("make Linear", config, KEYS);
    this.weight = weights.pack(["weight"], [N, K], config.init ?? { kind: "normal", std: 0.02 }, true);
    this.bias = config.bias === false ? undefined : weights.get("bias", [N], { kind: "zeros" });
  }

  /** x (…, K) → (…, N); an activation and a residual cost no further dispatch. */
  forward(x: Tensor, options?: LinearOptions): Tensor {
    return linear(x, this.weight.operand, this.bias?.value, options);
  }
}

/** Several linear maps of one input as one product.   x (…, K) → y (…, names·N), the maps' results side by side */
export class PackedLinear {
  /** (names·N, K): the maps' weights one below the other, each with its own key in a checkpoint. */
  readonly weight: Parameter;
  /** (names·N) */
  readonly bias: Parameter | undefined;

  /** A map of `K` features to `N` for each of `names`. */
  constructor(
    weights: WeightSource,
    names: readonly string[],
    K: number,
    N: number,
    config: LinearConfig = {},
  ) {
    checkOptions("make PackedLinear", config, KEYS);
    const named = (what: string) => names.map((n) => `${n}.${what}`);
    this.weight = weights.pack(named("weight"), [N, K], config.init ?? { kind: "normal", std: 0.02 }, true);
    this.bias = config.bias === false ? undefined : weights.pack(named("bias"), [N], { kind: "zeros" });
  }

  /** x (…, K) → (…, names·N) */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight.operand, this.bias?.value);
  }
}
