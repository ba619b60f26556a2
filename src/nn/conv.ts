import { type ConvOptions, conv1d, packWeight } from "../ops/conv1d.ts";
import { weightNorm } from "../ops/weight_norm.ts";
import { isTracked } from "../tensor/tape.ts";
import type { Tensor, WeightDType } from "../tensor/tensor.ts";
import type { Init } from "./init.ts";
import { Derived, type Parameter } from "./parameter.ts";
import type { WeightSource } from "./weights.ts";

/** A convolution over frames.   x (B, T, C) → (B, To, O) */
export class Conv1d {
  /** (O, C/groups, k), as torch.nn.Conv1d's. */
  readonly weight: Parameter;
  /** (O) */
  readonly bias: Parameter | undefined;
  readonly #packed: Derived;
  readonly #options: ConvOptions;

  /** `C` channels in, `O` out, a kernel of `k` frames. */
  constructor(
    weights: WeightSource,
    C: number,
    O: number,
    k: number,
    bias: boolean,
    { init, ...options }: ConvOptions & { readonly init?: Init },
  ) {
    const groups = options.groups ?? 1;
    // Kaiming's normal rule, as in Hugging Face's _init_weights for convolutions.
    const usual: Init = { kind: "normal", std: Math.sqrt(2 / ((C / groups) * k)) };
    this.weight = weights.get("weight", [O, C / groups, k], init ?? usual);
    this.bias = bias
      ? weights.get("bias", [O], { kind: "uniform", bound: Math.sqrt(groups / (C * k)) })
      : undefined;
    this.#options = options;
    this.#packed = new Derived([this.weight], () => packWeight(this.weight.value, groups));
  }

  /** x (B, T, C) → (B, To, O) of `dtype`, by default that of x; see ops.conv1d for To. */
  forward(x: Tensor, dtype?: WeightDType): Tensor {
    const packed = this.#packed.get(isTracked(this.weight.value));
    return conv1d(x, this.weight.value, this.bias?.value, { ...this.#options, dtype }, packed);
  }
}

/** A convolution whose weight is g·v/‖v‖, the norm over all axes but the last: torch's weight_norm with dim = 2. */
export class WeightNormConv1d {
  /** (1, 1, k) */
  readonly g: Parameter;
  /** (O, C/groups, k) */
  readonly v: Parameter;
  /** (O) */
  readonly bias: Parameter;
  readonly #weight: Derived;
  readonly #packed: Derived;
  readonly #options: ConvOptions;

  /** `C` channels in, `O` out, a kernel of `k` frames. */
  constructor(weights: WeightSource, C: number, O: number, k: number, options: ConvOptions) {
    const groups = options.groups ?? 1;
    const std = 2 * Math.sqrt(1 / (k * C));
    this.g = weights.get("weight_g", [1, 1, k], { kind: "ones" });
    this.v = weights.get("weight_v", [O, C / groups, k], { kind: "normal", std });
    this.bias = weights.get("bias", [O], { kind: "zeros" });
    this.#options = options;
    const make = () => weightNorm(this.v.value, this.g.value);
    this.#weight = new Derived([this.g, this.v], make);
    this.#packed = new Derived([this.g, this.v], () => packWeight(this.#weight.get(false), groups));
  }

  /** x (B, T, C) → (B, To, O) */
  forward(x: Tensor): Tensor {
    const tracked = isTracked(this.g.value) || isTracked(this.v.value);
    const weight = this.#weight.get(tracked);
    const packed = tracked ? packWeight(weight, this.#options.groups) : this.#packed.get(false);
    return conv1d(x, weight, this.bias.value, this.#options, packed);
  }
}
