// optimizer: one step of a parameter in place, and the norm over all gradients.
//   adam     g (N) clip -> p m v (N)    decoupled: AdamW (Loshchilov & Hutter); else decay is added to the gradient (Adam with L2)
//   sgd      g (N) clip -> p m (N)      m = momentum·m + g, p -= rate·m; the first step sets m = g
//   squares  gradient (N)    -> sums (SPLITS) from `slot` on: Σ g² of each split; one workgroup a split
//   settle   summed (count)  -> clipOut: [scale, norm, 1 if all finite]
//   scale    g (N) clip      -> p (N) = g·clip[0]
//
// clip[0] multiplies every gradient: min(1, maxNorm/(norm + 1e-6)) as torch's clip_grad_norm_, times `unscale` that undoes
// a loss scale; 0 if a gradient is not finite, and then adam and sgd change nothing.
// rest1 = 1 - beta1 and rest2 = 1 - beta2 come from the CPU's f64: in f32 the difference would be off by 1e-5.
override WG: u32 = 64;
const SPLITS = 64u;
const BLOCK = 128u;

struct Dims {
  N: u32, quads: u32, slot: u32, count: u32, first: u32, decoupled: u32,
  rate: f32, beta1: f32, beta2: f32, eps: f32, decay: f32, rest1: f32, rest2: f32, correction1: f32, correction2: f32, maxNorm: f32, unscale: f32,
}

@group(0) @binding(0) var<storage, read> g: array<vec4f>;
@group(0) @binding(1) var<storage, read> clip: array<f32>;
@group(0) @binding(2) var<storage, read_write> p: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(5) var<uniform> d: Dims;
@group(0) @binding(6) var<storage, read> gradient: array<f32>;
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;
@group(0) @binding(8) var<storage, read> summed: array<f32>;
@group(0) @binding(9) var<storage, read_write> clipOut: array<f32>;

#include "lib/workgroup_sum.wgsl"
#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn adam(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads || clip[2] == 0.0) { return; }
  var x = p[i];
  var grad = g[i] * clip[0];
  if (d.decoupled != 0u) { x *= 1.0 - d.rate * d.decay; } else { grad += d.decay * x; }
  let m1 = d.beta1 * m[i] + d.rest1 * grad;
  let v1 = d.beta2 * v[i] + d.rest2 * grad * grad;
  m[i] = m1;
  v[i] = v1;
  p[i] = x - (d.rate / d.correction1) * m1 / (sqrt(v1) / sqrt(d.correction2) + d.eps);
}

@compute @workgroup_size(WG)
fn sgd(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads || clip[2] == 0.0) { return; }
  let x = p[i];
  let grad = g[i] * clip[0] + d.decay * x;
  let m1 = select(d.beta1 * m[i] + grad, grad, d.first != 0u);
  m[i] = m1;
  p[i] = x - d.rate * m1;
}

@compute @workgroup_size(WG)
fn squares(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let step = (d.N + SPLITS - 1u) / SPLITS;
  let last = min(d.N, (wg.x + 1u) * step);
  // In blocks: word embeddings have millions of terms in a split, and one by one they would lose what they add.
  var sum = 0.0;
  for (var block = wg.x * step + t; block < last; block += WG * BLOCK) {
    var part = 0.0;
    for (var i = block; i < min(last, block + WG * BLOCK); i += WG) { part = fma(gradient[i], gradient[i], part); }
    sum += part;
  }
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
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { p[i] = g[i] * clip[0]; }
}
