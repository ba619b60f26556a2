// optimizer: one step of a parameter in place, and the norm over all gradients.
//   adam     g (N) clip -> p m v (N)    decoupled: AdamW (Loshchilov & Hutter); else decay is added to the gradient (Adam with L2)
//   sgd      g (N) clip -> p m (N)      m = momentum·m + g, p -= rate·m; the first step sets m = g
//   squares  gradient (N)    -> sums (S) from `slot` on: Σ g² of each split; one workgroup of S a split
//   settle   summed (count)  -> clipOut: [scale, norm, 1 if all finite]
//   scale    g (N) clip      -> p (N) = g·clip[0]
//
// clip[0] multiplies every gradient: min(1, maxNorm/(norm + 1e-6)) as torch's clip_grad_norm_, times `unscale` that undoes
// a loss scale; 0 if a gradient is not finite, and then adam and sgd change nothing.
// rest1 = 1 - beta1 and rest2 = 1 - beta2 come from the CPU's f64: in f32 the difference would be off by 1e-5.
// QUADS: quads that a thread of adam, sgd and scale takes in each of its rounds.   vec: squares goes by quads.
override WG: u32 = 64;
const BLOCK = 128u;

struct Dims {
  N: u32, quads: u32, rounds: u32, slot: u32, count: u32, first: u32, decoupled: u32,
  rate: f32, beta1: f32, beta2: f32, eps: f32, decay: f32, rest1: f32, rest2: f32, correction1: f32, correction2: f32, maxNorm: f32, unscale: f32,
}

@group(0) @binding(0) var<storage, read> g: array<vec4f>;
@group(0) @binding(1) var<storage, read> clip: array<f32>;
@group(0) @binding(2) var<storage, read_write> p: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(5) var<uniform> d: Dims;
#if ${vec}
@group(0) @binding(6) var<storage, read> gradient: array<vec4f>;
#else
@group(0) @binding(6) var<storage, read> gradient: array<f32>;
#endif
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;
@group(0) @binding(8) var<storage, read> summed: array<f32>;
@group(0) @binding(9) var<storage, read_write> clipOut: array<f32>;

#include "lib/sum.wgsl"
#include "lib/grid.wgsl"

// The quads of a workgroup: its first, and the one after its last.
fn quads_of(wg: vec3u, groups: vec3u) -> vec2u {
  let count = d.rounds * ${QUADS}u * WG;
  let first = linear_id(wg, groups, 0u, count);
  return vec2u(first, min(first + count, d.quads));
}

@compute @workgroup_size(WG)
fn adam(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  if (clip[2] == 0.0) { return; }
  let factor = clip[0];
  let keep = 1.0 - d.rate * d.decay;
  let rate = d.rate / d.correction1;
  let root = sqrt(d.correction2);
  let span = quads_of(wg, groups);
  for (var i = span.x + t; i < span.y; i += ${QUADS}u * WG) {
#unroll q QUADS
    let at_$q = min(i + $qu * WG, d.quads - 1u);
    let p_$q = p[at_$q];
    let g_$q = g[at_$q];
    let m_$q = m[at_$q];
    let v_$q = v[at_$q];
#endunroll
#unroll q QUADS
    if (i + $qu * WG < d.quads) {
      var x = p_$q;
      var grad = g_$q * factor;
      if (d.decoupled != 0u) { x *= keep; } else { grad += d.decay * x; }
      let m1 = d.beta1 * m_$q + d.rest1 * grad;
      let v1 = d.beta2 * v_$q + d.rest2 * grad * grad;
      m[at_$q] = m1;
      v[at_$q] = v1;
      p[at_$q] = x - rate * m1 / (sqrt(v1) / root + d.eps);
    }
#endunroll
  }
}

@compute @workgroup_size(WG)
fn sgd(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  if (clip[2] == 0.0) { return; }
  let factor = clip[0];
  let span = quads_of(wg, groups);
  for (var i = span.x + t; i < span.y; i += ${QUADS}u * WG) {
#unroll q QUADS
    let at_$q = min(i + $qu * WG, d.quads - 1u);
    let p_$q = p[at_$q];
    let g_$q = g[at_$q];
    let m_$q = m[at_$q];
#endunroll
#unroll q QUADS
    if (i + $qu * WG < d.quads) {
      let grad = g_$q * factor + d.decay * p_$q;
      let m1 = select(d.beta1 * m_$q + grad, grad, d.first != 0u);
      m[at_$q] = m1;
      p[at_$q] = p_$q - d.rate * m1;
    }
#endunroll
  }
}

// In blocks: word embeddings have millions of terms in a split, and one by one they would lose what they add.
@compute @workgroup_size(WG)
fn squares(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  var sum = 0.0;
#if ${vec}
  let step = (d.quads + groups.x - 1u) / groups.x;
  let last = min(d.quads, (wg.x + 1u) * step);
  var sums4 = vec4f(0.0);
  for (var i = wg.x * step + t; i < last; i += 8u * WG) {
    var part = vec4f(0.0);
#unroll q 8
    let at_$q = i + $qu * WG;
    let g_$q = gradient[min(at_$q, d.quads - 1u)];
#endunroll
#unroll q 8
    // Of the last quad what lies past the end is anything.
    let in_$q = vec4<bool>(at_$q < last) & (4u * at_$q + vec4u(0u, 1u, 2u, 3u) < vec4u(d.N));
    part += select(vec4f(0.0), g_$q * g_$q, in_$q);
#endunroll
    sums4 += part;
  }
  sum = (sums4.x + sums4.y) + (sums4.z + sums4.w);
#else
  let step = (d.N + groups.x - 1u) / groups.x;
  let last = min(d.N, (wg.x + 1u) * step);
  for (var block = wg.x * step + t; block < last; block += WG * BLOCK) {
    var part = 0.0;
    for (var i = block; i < min(last, block + WG * BLOCK); i += WG) { part = fma(gradient[i], gradient[i], part); }
    sum += part;
  }
#endif
  let all = workgroup_sum(t, sum);
  if (t == 0u) { sums[d.slot + wg.x] = all; }
}

@compute @workgroup_size(WG)
fn settle(@builtin(local_invocation_index) t: u32) {
  var sum = 0.0;
  for (var i = t; i < d.count; i += WG) { sum += summed[i]; }
  let all = workgroup_sum(t, sum);
  if (t == 0u) {
    // By the exponent's bits: comparisons with an infinity or a NaN may be folded away.
    let finite = (bitcast<u32>(all) & 0x7f800000u) != 0x7f800000u;
    let norm = sqrt(all) * d.unscale;
    clipOut[0] = select(0.0, min(1.0, d.maxNorm / (norm + 1e-6)) * d.unscale, finite);
    clipOut[1] = norm;
    clipOut[2] = select(0.0, 1.0, finite);
  }
}

@compute @workgroup_size(WG)
fn scale(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let factor = clip[0];
  let span = quads_of(wg, groups);
  for (var i = span.x + t; i < span.y; i += ${QUADS}u * WG) {
#unroll q QUADS
    let at_$q = min(i + $qu * WG, d.quads - 1u);
    let g_$q = g[at_$q];
#endunroll
#unroll q QUADS
    if (i + $qu * WG < d.quads) { p[at_$q] = g_$q * factor; }
#endunroll
  }
}
