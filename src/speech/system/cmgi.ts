/**
 * CmGI, cross-modal gated interaction: acoustic frames and subwords attend to themselves, then to each other, and for every
 * frame and subword a gate weighs its own modality against the other.
 *
 *   s = SelfAttn(x)   c = CrossAttn(own s, other s)   G = gate(concat(s, c))   out = concat(s ⊙ G, c ⊙ (1 − G))
 *
 * Names end in S for speech and in T for text. The ablations of the paper's tables are options: interaction and gate.
 */
import * as v from "valibot";
import { keysOf, mismatch, object, parse } from "../../io/schema.ts";
import { CrossAttention, SelfAttention } from "../../nn/attention.ts";
import { Linear } from "../../nn/linear.ts";
import type { Mode } from "../../nn/mode.ts";
import type { WeightScope } from "../../nn/weights.ts";
import { sigmoid } from "../../ops/activation.ts";
import { reshape, sub } from "../../ops/elementwise.ts";
import { concat } from "../../ops/frames.ts";
import { maskedMean } from "../../ops/reduce.ts";
import { concatPair, gatedConcat } from "../../ops/sigmoid_gate.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { extent } from "../../models/config.ts";

/** Config of the fusion head, as `cmgi` in config.json has it. */
export interface CmgiConfig {
  /** Width of the attention. */
  readonly d: number;
  /** Width of the acoustic frames: HuBERT's hidden_size. */
  readonly dS: number;
  /** Width of the subwords: BERT's hidden_size. */
  readonly dT: number;
  /** Number of emotions. */
  readonly classes: number;
  /** Attention heads. */
  readonly heads: number;
  /** "none": pooled features concatenated. "self", "cross": the output of that attention alone. "cmgi": both, gated. */
  readonly interaction: "none" | "self" | "cross" | "cmgi";
  /**
   * Of "cmgi", between s and c of each modality: "temporal", a gate for every frame; "pooled", one for the utterance; "none", s
   * and c concatenated. Of "self" and "cross": "modal", one for the utterance between the modalities; any other is none.
   */
  readonly gate: "none" | "pooled" | "temporal" | "modal";
  /** False: G = f(σ(concat)), as the paper prints it. True: G = σ(f(concat)), which stays within 0 and 1. */
  readonly bounded: boolean;
}

const schema = object({
  d: extent(),
  d_s: extent(),
  d_t: extent(),
  num_classes: v.nullish(extent(), 4),
  heads: v.nullish(extent(), 1),
  interaction: v.nullish(v.picklist(["none", "self", "cross", "cmgi"]), "cmgi"),
  gate: v.nullish(v.picklist(["none", "pooled", "temporal", "modal"]), "temporal"),
  bounded: v.nullish(v.boolean(), false),
});

/** The keys that cmgiConfig() reads. */
export const CMGI_KEYS = keysOf(schema);

/** Reads the config of a fusion head; `source` names it in errors. */
export function cmgiConfig(json: unknown, source: string): CmgiConfig {
  const c = parse(schema, json, source);
  if (c.d % c.heads !== 0) throw mismatch(source, "heads", c.heads, `a divisor of d, ${c.d}`);
  if (c.gate === "modal" && c.interaction !== "self" && c.interaction !== "cross")
    throw mismatch(source, "interaction", c.interaction, 'self or cross, with the gate "modal"');
  return {
    d: c.d,
    dS: c.d_s,
    dT: c.d_t,
    classes: c.num_classes,
    heads: c.heads,
    interaction: c.interaction,
    gate: c.gate,
    bounded: c.bounded,
  };
}

/** The projections to queries, keys and values have no biases, and there is no output projection. */
const attention = { names: { qkv: ["w_q", "w_k", "w_v"] }, bias: false } as const;

/** Input of CmGI. */
export interface CmgiInput {
  /** Acoustic frames (B, U, dS). */
  readonly xS: Tensor;
  /** Subwords (B, T, dT). */
  readonly xT: Tensor;
  /** (B, U) u32, 1 = a real frame. */
  readonly maskS: Tensor;
  /** (B, T) u32, 1 = a real subword. */
  readonly maskT: Tensor;
}

/** Output of CmGI. */
export interface CmgiOutput {
  /** (B, classes), f32 */
  readonly logits: Tensor;
  /**
   * The gates of frames (B, U, d) and of subwords (B, T, d), the weight of the own features against the crossed ones; (B, 1, d)
   * where the gate is pooled. With the gate "modal" G and 1 − G (B, 1, d), the weight of the own modality against the other.
   */
  readonly gates?: { readonly s: Tensor; readonly t: Tensor };
}

/** The fusion head: self-attention, cross-attention, gates, means over time and a classifier. */
export class CmGI {
  /** What it was built from. */
  readonly config: CmgiConfig;
  readonly #self: { s: SelfAttention; t: SelfAttention } | undefined;
  readonly #cross: { s: CrossAttention; t: CrossAttention } | undefined;
  readonly #gate: { s: Linear; t: Linear } | undefined;
  readonly #modalGate: Linear | undefined;
  readonly #classifier: Linear;

  /** Takes its parameters from `weights`. */
  constructor(weights: WeightScope, config: CmgiConfig) {
    const { d, dS, dT, classes, heads, interaction, gate } = config;
    this.config = config;
    if (interaction !== "none") {
      this.#self = {
        s: new SelfAttention(weights.at("sa_s"), d, { ...attention, heads, inputWidth: dS }),
        t: new SelfAttention(weights.at("sa_t"), d, { ...attention, heads, inputWidth: dT }),
      };
    }
    if (interaction === "cross" || interaction === "cmgi") {
      this.#cross = {
        s: new CrossAttention(weights.at("ca_s"), d, { ...attention, heads }),
        t: new CrossAttention(weights.at("ca_t"), d, { ...attention, heads }),
      };
    }
    if (interaction === "cmgi" && gate !== "none") {
      this.#gate = {
        s: new Linear(weights.at("gate_s"), 2 * d, d),
        t: new Linear(weights.at("gate_t"), 2 * d, d),
      };
    }
    if (gate === "modal") this.#modalGate = new Linear(weights.at("gate"), 2 * d, d);
    const widths = { none: dS + dT, self: 2 * d, cross: 2 * d, cmgi: 4 * d };
    this.#classifier = new Linear(weights.at("classifier"), widths[interaction], classes);
  }

  /** Frames and subwords → logits. */
  forward(input: CmgiInput, mode: Mode = {}): CmgiOutput {
    const { xS, xT, maskS, maskT } = input;
    const observed = (name: string, x: Tensor) => {
      mode.observe?.(name, x);
      return x;
    };
    const s = this.#self ? observed("s_s", this.#self.s.forward(xS, { mask: maskS })) : xS;
    const t = this.#self ? observed("s_t", this.#self.t.forward(xT, { mask: maskT })) : xT;
    let [outS, outT] = [s, t];
    let gates: CmgiOutput["gates"];
    if (this.#cross) {
      const cS = observed("c_s", this.#cross.s.forward(s, t, { mask: maskT }));
      const cT = observed("c_t", this.#cross.t.forward(t, s, { mask: maskS }));
      [outS, outT] = [cS, cT];
      if (this.config.interaction === "cmgi") {
        const a = this.#weigh(this.#gate?.s, s, cS, maskS);
        const b = this.#weigh(this.#gate?.t, t, cT, maskT);
        [outS, outT] = [observed("output_s", a.out), observed("output_t", b.out)];
        if (a.gate && b.gate) gates = { s: observed("gate_s", a.gate), t: observed("gate_t", b.gate) };
      }
    }
    const pooledS = observed("pooled_s", maskedMean(outS, maskS));
    const pooledT = observed("pooled_t", maskedMean(outT, maskT));
    let features = concat([pooledS, pooledT]);
    if (this.#modalGate) {
      const fused = this.#fuse(this.#modalGate, pooledS, pooledT);
      features = observed("fused", fused.out);
      gates = { s: observed("gate_s", fused.s), t: observed("gate_t", fused.t) };
    }
    const logits = observed("logits", this.#classifier.forward(features, { dtype: "f32" }));
    return { logits, gates };
  }

  /**
   * Gated fusion over modalities: concat(s ⊙ G, t ⊙ (1 − G)) with one G for the utterance, from the means over time (B, d). The
   * mean over time of x ⊙ G is that of x, times G, so nothing but means is weighed.
   */
  #fuse(gate: Linear, s: Tensor, t: Tensor): { out: Tensor; s: Tensor; t: Tensor } {
    const { bounded, d } = this.config;
    const [B] = s.shape;
    const single = (x: Tensor) => reshape(x, [B, 1, d]);
    const g = single(gate.forward(concatPair(s, t, !bounded)));
    const out = reshape(gatedConcat(single(s), single(t), g, bounded), [B, 2 * d]);
    const own = bounded ? sigmoid(g) : g;
    return { out, s: own, t: sub(1, own) };
  }

  /** concat(s ⊙ G, c ⊙ (1 − G)), or concat(s, c) without a gate. */
  #weigh(gate: Linear | undefined, s: Tensor, c: Tensor, mask: Tensor): { out: Tensor; gate?: Tensor } {
    if (!gate) return { out: concatPair(s, c) };
    const { gate: kind, bounded, d } = this.config;
    const [B] = s.shape;
    const [ownPart, crossPart] = kind === "pooled" ? [maskedMean(s, mask), maskedMean(c, mask)] : [s, c];
    const g = gate.forward(concatPair(ownPart, crossPart, !bounded));
    const placed = kind === "pooled" ? reshape(g, [B, 1, d]) : g;
    return { out: gatedConcat(s, c, placed, bounded), gate: bounded ? sigmoid(placed) : placed };
  }
}
