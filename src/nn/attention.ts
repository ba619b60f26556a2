import { redrawn } from "../gpu/capture.ts";
import type { Device } from "../gpu/device.ts";
import { checkNumber, checkOptions, describeValue, keysOf } from "../io/checks.ts";
import { crossAttention, selfAttention, selfAttentionWithProbabilities } from "../ops/attention.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Linear, PackedLinear } from "./linear.ts";
import type { Mode } from "./mode.ts";
import type { WeightSource } from "./weights.ts";

/** What an attention layer is made with. */
export interface AttentionConfig {
  /** They share C among them. */
  readonly heads: number;
  /** Of the probabilities, while training; 0 by default. */
  readonly dropout?: number;
  /** Width of the input; that of the output, C, by default. */
  readonly inputWidth?: number;
  /** Whether the projections have one; true by default. */
  readonly bias?: boolean;
  /** Keys of the projections; without `out` there is none after the heads. As in PyTorch's MultiheadAttention by default. */
  readonly names?: { readonly qkv: readonly [string, string, string]; readonly out?: string };
}

/** What a forward pass of attention takes besides its input. */
export interface AttentionInput {
  /** (B, keys) u32, 1 = may be looked at. */
  readonly mask?: Tensor;
  /** How the forward pass runs; inference by default. */
  readonly mode?: Mode;
  /** The name under which Mode.observe is shown the probabilities; "attention" by default. */
  readonly name?: string;
  /** Added to the result. */
  readonly residual?: Tensor;
}

const KEYS = keysOf<AttentionConfig>({
  ...{ heads: true, dropout: true, inputWidth: true, bias: true, names: true },
});

/** Throws where a config does not fit a width of C. */
function checkConfig(name: string, C: number, config: AttentionConfig): void {
  const action = `make ${name}`;
  checkOptions(action, config, KEYS);
  const { heads, dropout = 0 } = config;
  const divides = (x: number) => Number.isSafeInteger(x) && x > 0 && C % x === 0;
  checkNumber(action, "heads", heads, `a whole number that divides the width, ${C}`, divides);
  checkNumber(action, "dropout", dropout, "from 0 and less than 1", (x) => x >= 0 && x < 1);
}

const NAMES = { qkv: ["q_proj", "k_proj", "v_proj"], out: "out_proj" } as const;

function dropoutOf(device: Device, rate: number, { training }: Mode) {
  if (!training || rate === 0) return undefined;
  if (typeof training.next !== "function")
    throw new TypeError(
      `Cannot run attention: mode.training is ${describeValue(training)} but should be a stream of seeds, as trainingStream() makes`,
    );
  return { rate, seed: redrawn(device, () => training.next()) };
}

/**
 * Multi-head self-attention (Vaswani et al. 2017) with one product for query, key and value.   x (B, T, inputWidth) →
 * (B, T, C)
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const attention = new SelfAttention(weights.at("attention"), 64, { heads: 4, dropout: 0.1 });
 * await weights.initialize();
 * const x = Tensor.from(device, new Float32Array(2 * 3 * 64).fill(0.5), [2, 3, 64]);
 * const mask = Tensor.from(device, Uint32Array.of(1, 1, 1, 1, 1, 0), [2, 3]); // the second sample has two frames
 * const y = scope(device, () => attention.forward(x, { mask, residual: x }));
 * console.log(y.shape); // [2, 3, 64]
 * console.log(weights.parameters.flatMap(({ parts }) => parts.map(({ key }) => key)).slice(0, 3).join(", "));
 * // attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
 * ```
 */
export class SelfAttention {
  readonly #qkv: PackedLinear;
  readonly #out: Linear | undefined;
  readonly #config: AttentionConfig;

  /** Declares its parameters under `weights`. `C` is the width of the output. */
  constructor(weights: WeightSource, C: number, config: AttentionConfig) {
    checkConfig("SelfAttention", C, config);
    const { names = NAMES, inputWidth = C, bias } = config;
    this.#qkv = new PackedLinear(weights, names.qkv, inputWidth, C, { bias });
    this.#out = names.out === undefined ? undefined : new Linear(weights.at(names.out), C, C, { bias });
    this.#config = config;
  }

  /** x (B, T, inputWidth) → (B, T, C) */
  forward(x: Tensor, { mask, mode = {}, name = "attention", residual }: AttentionInput = {}): Tensor {
    const qkv = this.#qkv.forward(x);
    const { heads, dropout = 0 } = this.#config;
    const options = { heads, mask, dropout: dropoutOf(x.device, dropout, mode) };
    let y: Tensor;
    if (mode.probabilities) {
      const seen = selfAttentionWithProbabilities(qkv, options);
      mode.observe?.(name, seen.probabilities);
      y = seen.y;
    } else {
      y = selfAttention(qkv, options);
    }
    return project(this.#out, y, residual);
  }
}

/** Multi-head attention of x (queries) to other (keys and values).   x (B, Tq, W), other (B, Tk, W) → (B, Tq, C) */
export class CrossAttention {
  readonly #q: PackedLinear;
  readonly #kv: PackedLinear;
  readonly #out: Linear | undefined;
  readonly #config: AttentionConfig;

  /** Declares its parameters under `weights`. `C` is the width of the output. */
  constructor(weights: WeightSource, C: number, config: AttentionConfig) {
    checkConfig("CrossAttention", C, config);
    const { names = NAMES, inputWidth = C, bias } = config;
    const [q, ...kv] = names.qkv;
    this.#q = new PackedLinear(weights, [q], inputWidth, C, { bias });
    this.#kv = new PackedLinear(weights, kv, inputWidth, C, { bias });
    this.#out = names.out === undefined ? undefined : new Linear(weights.at(names.out), C, C, { bias });
    this.#config = config;
  }

  /** x (B, Tq, W), other (B, Tk, W) → (B, Tq, C). `mask` is that of `other`. */
  forward(x: Tensor, other: Tensor, { mask, mode = {}, residual }: AttentionInput = {}): Tensor {
    const { heads, dropout = 0 } = this.#config;
    const options = { heads, mask, dropout: dropoutOf(x.device, dropout, mode) };
    const y = crossAttention(this.#q.forward(x), this.#kv.forward(other), options);
    return project(this.#out, y, residual);
  }
}

function project(out: Linear | undefined, y: Tensor, residual: Tensor | undefined): Tensor {
  if (out) return out.forward(y, { residual });
  if (residual) throw new TypeError("Cannot add a residual: this attention has no output projection");
  return y;
}
