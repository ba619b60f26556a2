/** Long short-term memory, with the keys and the weight layout of torch.nn.LSTM and torch.nn.LSTMCell. */
import { checkNumber, checkOptions, keysOf } from "../io/checks.ts";
import { cast } from "../ops/convert.ts";
import { dropout } from "../ops/dropout.ts";
import { reshape } from "../ops/elementwise.ts";
import { type LstmState, lstm } from "../ops/lstm.ts";
import { checkShape } from "../tensor/shape.ts";
import type { Tensor, WeightDType } from "../tensor/tensor.ts";
import type { Init } from "./init.ts";
import type { Mode } from "./mode.ts";
import type { Parameter } from "./parameter.ts";
import type { WeightSource } from "./weights.ts";

/** What an LSTM is made with. */
export interface LstmConfig {
  /** One on top of the other; 1 by default. */
  readonly layers?: number;
  /** Whether each layer reads the frames in both directions. */
  readonly bidirectional?: boolean;
  /** Whether there are any; true by default. */
  readonly bias?: boolean;
  /** Rate of the dropout between layers; 0 by default. */
  readonly dropout?: number;
  /** Of all parameters; uniform up to 1/√H by default, as in torch. */
  readonly init?: Init;
}

/** What an LSTM is run on, besides x. */
export interface LstmInput {
  /** Frames of each sample, from 1 to T; all T by default. */
  readonly lengths?: readonly number[];
  /** Of each layer, (D, B, H); zeros by default. */
  readonly states?: readonly LstmState[];
}

const KEYS = keysOf<LstmConfig>({ layers: true, bidirectional: true, bias: true, dropout: true, init: true });
const INPUT = keysOf<LstmInput>({ lengths: true, states: true });

/** The parameters of one layer in all its directions, or of a cell. */
class Gates {
  readonly weightIh: Parameter;
  readonly weightHh: Parameter;
  readonly biasIh: Parameter | undefined;
  readonly biasHh: Parameter | undefined;

  /** Keys end with `suffixes`, one a direction. */
  constructor(
    weights: WeightSource,
    suffixes: readonly string[],
    K: number,
    H: number,
    { bias = true, init = { kind: "uniform", bound: 1 / Math.sqrt(H) } }: LstmConfig,
  ) {
    const pack = (name: string, shape: readonly number[]) =>
      weights.pack(
        suffixes.map((suffix) => name + suffix),
        shape,
        init,
      );
    this.weightIh = pack("weight_ih", [4 * H, K]);
    this.weightHh = pack("weight_hh", [4 * H, H]);
    this.biasIh = bias ? pack("bias_ih", [4 * H]) : undefined;
    this.biasHh = bias ? pack("bias_hh", [4 * H]) : undefined;
  }

  run(x: Tensor, lengths: readonly number[] | undefined, state: LstmState | undefined) {
    const [weightIh, weightHh] = [this.weightIh.value, this.weightHh.value];
    const weights = { weightIh, weightHh, biasIh: this.biasIh?.value, biasHh: this.biasHh?.value };
    return lstm(cast(x, "f32"), weights, { lengths, state });
  }
}

/**
 * An LSTM over padded sequences, as torch.nn.LSTM with `batch_first` on packed ones: its keys are weight_ih_l0, weight_hh_l0,
 * bias_ih_l0, bias_hh_l0, weight_ih_l0_reverse and so on. For decoders that feed back what they say there is LstmCell.
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const encoder = new Lstm(weights.at("encoder"), 40, 16, { layers: 2, bidirectional: true });
 * await weights.initialize();
 * const x = Tensor.from(device, new Float32Array(2 * 5 * 40).fill(0.1), [2, 5, 40]);
 * const { y, states } = encoder.forward(x, { lengths: [5, 3] });
 * console.log(y.shape, states[1].h.shape); // [2, 5, 32] [2, 2, 16]
 * console.log((await y.read()).slice(-32).every((v) => v === 0)); // true
 * ```
 */
export class Lstm {
  /** Directions, 1 or 2. */
  readonly D: number;
  /** Units of a layer in one direction. */
  readonly H: number;
  readonly #layers: readonly Gates[];
  readonly #dropout: number;

  /** `K` features in, `H` units in each direction. */
  constructor(weights: WeightSource, K: number, H: number, config: LstmConfig = {}) {
    checkOptions("make Lstm", config, KEYS);
    const { layers = 1, bidirectional = false, dropout: rate = 0 } = config;
    const whole = (n: number) => Number.isInteger(n) && n >= 1;
    checkNumber("make Lstm", "layers", layers, "a whole number from 1", whole);
    checkNumber("make Lstm", "dropout", rate, "a rate from 0 to 1", (x) => x >= 0 && x <= 1);
    this.D = bidirectional ? 2 : 1;
    this.H = H;
    this.#dropout = rate;
    this.#layers = Array.from({ length: layers }, (_, l) => {
      const suffixes = bidirectional ? [`_l${l}`, `_l${l}_reverse`] : [`_l${l}`];
      return new Gates(weights, suffixes, l === 0 ? K : this.D * H, H, config);
    });
  }

  /**
   * x (B, T, K) → y (B, T, D·H) of the last layer, and every layer's state after its last step: h and c (D, B, H), f32. Frames
   * from a sample's length on are 0 in y. An f16 x is computed in f32, and y is f16.
   */
  forward(
    x: Tensor,
    input: LstmInput = {},
    mode: Mode = {},
  ): { readonly y: Tensor; readonly states: readonly LstmState[] } {
    checkOptions("run Lstm", input, INPUT, "input");
    const { lengths, states } = input;
    if (states && states.length !== this.#layers.length)
      throw new TypeError(
        `Cannot run Lstm: there are ${states.length} states, expected ${this.#layers.length}, one for each layer`,
      );
    let y = x;
    const after: LstmState[] = [];
    for (const [i, layer] of this.#layers.entries()) {
      const given = i === 0 ? y : dropout(y, this.#dropout, mode.training);
      const out = layer.run(given, lengths, states?.[i]);
      y = out.y;
      after.push({ h: out.h, c: out.c });
    }
    return { y: cast(y, x.dtype as WeightDType), states: after };
  }
}

/**
 * One step of an LSTM, for decoders whose input depends on the step before; gradients go through the steps. As
 * torch.nn.LSTMCell, with its keys: weight_ih, weight_hh, bias_ih, bias_hh.
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const cell = new LstmCell(weights.at("decoder"), 8, 16);
 * await weights.initialize();
 * const x = Tensor.from(device, new Float32Array(3 * 8).fill(0.1), [3, 8]);
 * const first = cell.forward(x);
 * const second = cell.forward(x, first); // h is what the step gives
 * console.log(second.h.shape, second.c.shape); // [3, 16] [3, 16]
 * ```
 */
export class LstmCell {
  /** Units. */
  readonly H: number;
  readonly #gates: Gates;

  /** `K` features in, `H` units. */
  constructor(weights: WeightSource, K: number, H: number, config: Pick<LstmConfig, "bias" | "init"> = {}) {
    checkOptions("make LstmCell", config, ["bias", "init"]);
    this.H = H;
    this.#gates = new Gates(weights, [""], K, H, config);
  }

  /** x (B, K), and a state of h and c (B, H) or zeros → the state after the step: h and c (B, H), f32. */
  forward(x: Tensor, state?: LstmState): LstmState {
    checkShape("LstmCell", "x", x.shape, [-1, -1]);
    const [B, K] = x.shape;
    const { H } = this;
    for (const name of ["h", "c"] as const)
      if (state) checkShape("LstmCell", name, state[name].shape, [B, H]);
    const { h, c } = this.#gates.run(
      reshape(x, [B, 1, K]),
      undefined,
      state && { h: reshape(state.h, [1, B, H]), c: reshape(state.c, [1, B, H]) },
    );
    return { h: reshape(h, [B, H]), c: reshape(c, [B, H]) };
  }
}
