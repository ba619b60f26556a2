// softmax: p = softmax(scale·x) over the last axis, or its log; one workgroup a row.
//   forward   logits (N,C) mask       -> probsOut (N,C)
//   backward  probs dprobs (N,C)      -> dlogits (N,C)    dx = scale·p·(dp - Σ p·dp);  of the log: scale·(dp - p·Σ dp)
//
// masked: element c of row n is out if mask[n / maskShare % maskRows, c], as a truth, is `excludes`. A row that is out
// wholly gives the uniform distribution, or NaN if `blocking`: the mask then stands for -inf, which lets no gradient
// through. inf and NaN are made of bits only: of u32 in f32 buffers, and of f32 on its way to f16.
// vec: C is a multiple of 4 and an element E is a vec4; C counts elements.   X: element type of all but the mask; half: it is
// f16.   HELD: elements of a row that a thread keeps in registers, so that the row is read once; 0: rows of any length.
// WG: threads a row, a power of two.
${enables}
override WG: u32 = 8;

struct Dims { N: u32, C: u32, scale: f32, maskShare: u32, maskRows: u32, excludes: u32, blocking: u32 }

alias Bits = u32; // of f32

#if ${vec}
alias E = vec4f;
alias S = vec4<${X}>;
alias U = vec4<Bits>;
alias M = vec4u;
alias Q = vec4<bool>;
fn total(v: E) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn most(v: E) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
#else
alias E = f32;
alias S = ${X};
alias U = Bits;
alias M = u32;
alias Q = bool;
fn total(v: E) -> f32 { return v; }
fn most(v: E) -> f32 { return v; }
#endif

@group(0) @binding(0) var<storage, read> logits: array<S>;
@group(0) @binding(1) var<storage, read> mask: array<M>;
#if ${half}
@group(0) @binding(2) var<storage, read_write> probsOut: array<S>;
@group(0) @binding(4) var<storage, read> probs: array<S>;
const LEAST = -65504.0;
#else
@group(0) @binding(2) var<storage, read_write> probsOut: array<U>;
@group(0) @binding(4) var<storage, read> probs: array<U>;
const LEAST = -3.4028234e38;
#endif
@group(0) @binding(3) var<uniform> d: Dims;
@group(0) @binding(5) var<storage, read> dprobs: array<S>;
@group(0) @binding(6) var<storage, read_write> dlogits: array<S>;

#include "lib/max.wgsl"
#include "lib/sum.wgsl"

const LOWEST = -3.4028234e38;
const NAN_BITS = 0x7fc00000u;
const MINUS_INF_BITS = 0xff800000u;

fn out(n: u32, c: u32) -> Q {
#if ${masked}
  return (mask[n / d.maskShare % d.maskRows * d.C + c] != M(0u)) == Q(d.excludes != 0u);
#else
  return Q(false);
#endif
}

fn keep_bits(i: u32, bits: U) {
#if ${half}
  probsOut[i] = S(bitcast<E>(bits));
#else
  probsOut[i] = bits;
#endif
}

fn kept_bits(i: u32) -> U {
#if ${half}
  return bitcast<U>(E(probs[i]));
#else
  return probs[i];
#endif
}

// The bits of an element whose value over the peak is v.
fn result(v: E, gone: Q, sum: f32, empty: bool) -> U {
#if ${logarithm}
#if ${half}
  let l = v - log(sum);
  var bits = bitcast<U>(select(l, E(LEAST), l < E(LEAST))); // f16 would make it -inf
#else
  var bits = bitcast<U>(v - log(sum));
#endif
  if (!empty) { bits = select(bits, U(select(bitcast<u32>(f32(LEAST)), MINUS_INF_BITS, d.blocking != 0u)), gone); }
#else
  var bits = bitcast<U>(exp(v) / sum);
  if (!empty) { bits = select(bits, U(0u), gone); }
#endif
  return select(bits, U(NAN_BITS), empty && d.blocking != 0u);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = n * d.C;
  var highestHere = LOWEST;
  var kept = 0;
#if ${HELD}
#unroll h HELD
  let c_$h = min(t + $hu * WG, d.C - 1u);
  let x_$h = d.scale * E(logits[row + c_$h]);
  let gone_$h = out(n, c_$h) | Q(t + $hu * WG >= d.C);
#endunroll
#unroll h HELD
  highestHere = max(highestHere, most(select(x_$h, E(LOWEST), gone_$h)));
  kept = select(kept, 1, any(!gone_$h));
#endunroll
#else
  for (var c = t; c < d.C; c += WG) {
    let gone = out(n, c);
    highestHere = max(highestHere, most(select(d.scale * E(logits[row + c]), E(LOWEST), gone)));
    kept = select(kept, 1, any(!gone));
  }
#endif
  let peak = workgroup_max(t, highestHere);
  var empty = false;
#if ${masked}
  empty = workgroup_max_i(t, kept) == 0;
#endif
  var sums = E(0.0);
#if ${HELD}
#unroll h HELD
  let v_$h = select(x_$h - peak, E(0.0), empty);
  let open_$h = select(!gone_$h, Q(t + $hu * WG < d.C), empty);
  sums += select(E(0.0), exp(v_$h), open_$h);
#endunroll
#else
  for (var c = t; c < d.C; c += WG) {
    let e = select(exp(d.scale * E(logits[row + c]) - peak), E(0.0), out(n, c));
    sums += select(e, E(1.0), empty);
  }
#endif
  let sum = workgroup_sum(t, total(sums));
#if ${HELD}
#unroll h HELD
  if (t + $hu * WG < d.C) { keep_bits(row + c_$h, result(v_$h, gone_$h, sum, empty)); }
#endunroll
#else
  for (var c = t; c < d.C; c += WG) {
    let v = select(d.scale * E(logits[row + c]) - peak, E(0.0), empty);
    keep_bits(row + c, result(v, out(n, c), sum, empty));
  }
#endif
}

// A mask that blocks has left its traces: NaN, and -inf in a logarithm.
fn blocked(bits: U) -> Q {
  return Q(d.blocking != 0u) & ((bits & U(0x7f800000u)) == U(0x7f800000u));
}

fn probability(bits: U) -> E {
#if ${logarithm}
  return select(exp(bitcast<E>(bits)), E(0.0), blocked(bits));
#else
  return select(bitcast<E>(bits), E(0.0), blocked(bits));
#endif
}

// What an element adds to the sum of its row.
fn along(p: E, dp: E) -> E {
#if ${logarithm}
  return dp;
#else
  return p * dp;
#endif
}

fn gradient(p: E, dp: E, sum: f32) -> E {
#if ${logarithm}
  return d.scale * (dp - p * sum);
#else
  return d.scale * (p * (dp - sum));
#endif
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = n * d.C;
  var sums = E(0.0);
#if ${HELD}
#unroll h HELD
  let c_$h = min(t + $hu * WG, d.C - 1u);
  let bits_$h = kept_bits(row + c_$h);
  let dp_$h = E(dprobs[row + c_$h]);
#endunroll
#unroll h HELD
  let p_$h = probability(bits_$h);
  sums += select(E(0.0), along(p_$h, dp_$h), t + $hu * WG < d.C);
#endunroll
#else
  for (var c = t; c < d.C; c += WG) { sums += along(probability(kept_bits(row + c)), E(dprobs[row + c])); }
#endif
  let sum = workgroup_sum(t, total(sums));
#if ${HELD}
#unroll h HELD
  if (t + $hu * WG < d.C) { dlogits[row + c_$h] = S(select(gradient(p_$h, dp_$h, sum), E(0.0), blocked(bits_$h))); }
#endunroll
#else
  for (var c = t; c < d.C; c += WG) {
    let bits = kept_bits(row + c);
    dlogits[row + c] = S(select(gradient(probability(bits), E(dprobs[row + c]), sum), E(0.0), blocked(bits)));
  }
#endif
}
