import { type Costed, moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { checkF32, checkFloat, elementFlags, type Tensor } from "../tensor/tensor.ts";
import { columnSum } from "./reduce.ts";

/** Scores, and numbers that each of them is a sum of. */
function work({ dims: { B, Q, T }, size }: Costed) {
  const A = size("weight");
  return { terms: B * Q * T * A, shape: { B, Q, T, A } };
}

const k = twin("additive_attention", {
  // +, tanh, ·, + of a term.
  forward: (given) => {
    const { terms, shape } = work(given);
    return { shape, flops: 4 * terms, bytes: moved(given.bytes, "query", "key", "weight", "scores") };
  },
  // +; the slope 1 − tanh², · and +; tanh, · and +.
  backward_query: (given) => {
    const { terms, shape } = work(given);
    const bytes = moved(given.bytes, "query", "key", "weight", "dscores", "dquery", "dweightPart");
    return { shape, flops: 8 * terms + given.size("query"), bytes };
  },
  backward_key: (given) => {
    const { terms, shape } = work(given);
    const bytes = moved(given.bytes, "query", "key", "weight", "dscores", "dkey");
    return { shape, flops: 6 * terms + given.size("key"), bytes };
  },
});

/**
 * Scores of additive attention (Bahdanau et al. 2014): scores[b, q, t] = Σₐ v[a]·tanh(query[b, q, a] + key[b, t, a]),
 * sums of (B, Q, T, A) terms that are never in memory.
 *
 *   query (B, Q, A) f32 or f16   key (B, T, A) alike   v (A) f32   →   scores (B, Q, T) of their dtype      saved: all three
 */
export function additiveScores(query: Tensor, key: Tensor, v: Tensor): Tensor {
  checkShape("additiveScores", "query", query.shape, [-1, -1, -1]);
  const [B, Q, A] = query.shape;
  checkShape("additiveScores", "key", key.shape, [B, -1, A]);
  checkShape("additiveScores", "v", v.shape, [A]);
  checkFloat("additiveScores", { query, key });
  checkF32("additiveScores", { v });
  const T = key.shape[1];
  const vec = A % 4 === 0;
  const dims = { B, Q, T, A: vec ? A / 4 : A };
  const { WG } = launch(query.device, "additive_attention");
  const variant = { flags: { vec, ...elementFlags(query) }, overrides: { WG } };
  const scores = query.like([B, Q, T], query.dtype);
  k.run("forward", { query, key, weight: v, scores }, dims, gridFor(B * Q * T, 1), variant);
  return record("additiveScores", [query, key, v], scores, [query, key, v], (dscores, needs) => {
    const given = { query, key, weight: v, dscores };
    const dquery = query.like(query.shape, query.dtype);
    const dweightPart = query.like([B * Q, A]);
    if (needs[0] || needs[2])
      k.run("backward_query", { ...given, dquery, dweightPart }, dims, gridFor(B * Q * dims.A, WG), variant);
    const dkey = needs[1] ? key.like(key.shape, key.dtype) : undefined;
    if (dkey) k.run("backward_key", { ...given, dkey }, dims, gridFor(B * T * dims.A, WG), variant);
    return [needs[0] ? dquery : undefined, dkey, needs[2] ? columnSum(dweightPart) : undefined];
  });
}
