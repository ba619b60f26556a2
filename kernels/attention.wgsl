// attention: softmax(scale·q·kᵀ) v without a T×T matrix; padded keys masked out; queries and keys of any two lengths.
//   forward         q (B,Tq,·) k v (B,Tk,·) mask (B,Tk)  -> o (B,Tq,H·D) lse (B,H,Tq)
//   probabilities   q k mask lse                         -> p (B,H,Tq,Tk)    only for those who ask to see it
//   by tiles
//   backward_delta  o do (B,Tq,H·D)                      -> delta (B,H,Tq)
//   backward_q      q k v mask lse delta do              -> dq, laid out as q
//   backward_kv     q k v mask lse delta do              -> dk and dv in one buffer, laid out as k and v
//   by lanes
//   backward_scores scores = scale·q·k, dP = do·v, mask, lse  -> P∘ in place of scores, ds in place of dP
//
// Two bodies: lib/attention_tiles.wgsl, 32 queries × 32 keys a workgroup in workgroup memory, for GPUs;
// lib/attention_lanes.wgsl, a query a thread, for CPU adapters, where workgroup memory is no faster than global memory.
//
// Softmax is online (Milakov & Gimelshein 2018; Dao 2022): m the largest score so far, l the sum of exp(s - m), and
// lse = m + ln l, from which the backward rebuilds p = exp(s - lse). With P∘ the dropped-out p and delta = do·o:
//   dv = P∘ᵀ do     ds = p·(keep·(do·v) - delta)     dq = scale·ds k     dk = scale·dsᵀ q
// A masked key scores LOWEST: its weight is 0 unless all keys are masked, when all weigh the same, as in transformers.
// vec: D and every row length are multiples of 4 and an element is a vec4.  X: storage type of q, k, v, o and gradients.
${enables}
const LOWEST = -3.0e38;

struct Dims {
  B: u32, H: u32, Tq: u32, Tk: u32, D: u32, quads: u32,
  qRow: u32, qStart: u32, kRow: u32, kStart: u32, vRow: u32, vStart: u32,
  hasMask: u32, scale: f32,
  seed: u32, dropBelow: u32, keep: f32,
  first: u32, count: u32,
}

#if ${vec}
alias E = vec4<${X}>;
#else
alias E = ${X};
#endif
@group(0) @binding(0) var<storage, read> q: array<E>;
@group(0) @binding(1) var<storage, read> k: array<E>;
@group(0) @binding(2) var<storage, read> v: array<E>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> o: array<E>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<uniform> d: Dims;
@group(0) @binding(7) var<storage, read> savedLse: array<f32>;
@group(0) @binding(8) var<storage, read> savedO: array<E>;
@group(0) @binding(9) var<storage, read> dO: array<E>;
@group(0) @binding(10) var<storage, read_write> dq: array<E>;
@group(0) @binding(11) var<storage, read_write> delta: array<f32>;
@group(0) @binding(12) var<storage, read> savedDelta: array<f32>;
@group(0) @binding(13) var<storage, read_write> dkv: array<E>;
@group(0) @binding(15) var<storage, read_write> p: array<f32>;

#include "lib/random.wgsl"

// Where head h of row t begins, in floats; `start` skips to q, k or v inside a packed row.
fn place(b: u32, t: u32, T: u32, row: u32, start: u32, h: u32) -> u32 {
  return (b * T + min(t, T - 1u)) * row + start + h * d.D;
}

fn chain(x: vec4f, y: vec4f, sum: f32) -> f32 {
  return fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, sum))));
}

// 1 if key t may be looked at.
fn open(b: u32, t: u32) -> f32 {
  if (d.hasMask == 0u) { return 1.0; }
  return select(0.0, 1.0, mask[b * d.Tk + min(t, d.Tk - 1u)] != 0u);
}

// What dropout makes of the weight of (query, key): 0, or 1/(1 - rate).
fn drawn(b: u32, h: u32, tq: u32, tk: u32) -> f32 {
  let index = ((b * d.H + h) * d.Tq + tq) * d.Tk + tk;
  return select(0.0, d.keep, random_bits(d.seed, index) >= d.dropBelow);
}

// The weight of a key by its score, rebuilt from lse. In a sample without an open key lse is LOWEST too (the log is lost
// in so large a number), and the difference would say 1.
fn weigh(score: f32, z: f32) -> f32 {
  return select(exp(score - z), 1.0 / f32(d.Tk), z <= LOWEST);
}

#if ${tiled}
#include "lib/attention_tiles.wgsl"
#else
#include "lib/attention_lanes.wgsl"
#endif
