// additive_attention: scores of Bahdanau et al. 2014, scores[b,q,t] = Σ_a weight[a]·tanh(query[b,q,a] + key[b,t,a]).
//   forward         query (B,Q,A) key (B,T,A) weight (A)    -> scores (B,Q,T)   one workgroup a score
//   backward_query  query key weight dscores (B,Q,T)        -> dquery (B,Q,A)   dweightPart (B,Q,A): to be summed over B, Q
//   backward_key    query key weight dscores                -> dkey (B,T,A)
// tanh is computed anew in the backward: (B,Q,T,A) is never in memory.
// vec: A is a multiple of 4 and an element E is a vec4; A counts elements.   X: element type of query, key, scores and their
// gradients; weight and dweightPart are f32.   WG: threads a workgroup, a power of two; in the backward each has an element of its own.
${enables}
override WG: u32 = 8;

struct Dims { B: u32, Q: u32, T: u32, A: u32 }

#if ${vec}
alias E = vec4f;
alias S = vec4<${X}>;
fn total(v: E) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn tanh_of(x: E) -> E { return tanh_safe(x); }
fn slope_of(x: E) -> E { return tanh_slope(x); }
#else
alias E = f32;
alias S = ${X};
fn total(v: E) -> f32 { return v; }
fn tanh_of(x: E) -> E { return tanh_safe(vec4f(x)).x; }
fn slope_of(x: E) -> E { return tanh_slope(vec4f(x)).x; }
#endif

@group(0) @binding(0) var<storage, read> query: array<S>;
@group(0) @binding(1) var<storage, read> key: array<S>;
@group(0) @binding(2) var<storage, read> weight: array<E>;
@group(0) @binding(3) var<storage, read_write> scores: array<${X}>;
@group(0) @binding(4) var<uniform> d: Dims;
@group(0) @binding(5) var<storage, read> dscores: array<${X}>;
@group(0) @binding(6) var<storage, read_write> dquery: array<S>;
@group(0) @binding(7) var<storage, read_write> dweightPart: array<E>;
@group(0) @binding(8) var<storage, read_write> dkey: array<S>;

#include "lib/gelu.wgsl"
#include "lib/grid.wgsl"
#include "lib/sum.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let row = linear_id(wg, groups, 0u, 1u);
  if (row >= d.B * d.Q * d.T) { return; }
  let bq = row / d.T;
  let q = bq * d.A;
  let k = (bq / d.Q * d.T + row % d.T) * d.A;
  var sum = E(0.0);
  for (var a = t; a < d.A; a += WG) { sum += weight[a] * tanh_of(E(query[q + a]) + E(key[k + a])); }
  let all = workgroup_sum(t, total(sum));
  if (t == 0u) { scores[row] = ${X}(all); }
}

@compute @workgroup_size(WG)
fn backward_query(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.B * d.Q * d.A) { return; }
  let bq = i / d.A;
  let a = i % d.A;
  let x = E(query[i]);
  let k = bq / d.Q * d.T * d.A + a;
  var slopes = E(0.0);
  var values = E(0.0);
  for (var j = 0u; j < d.T; j++) {
    let u = x + E(key[k + j * d.A]);
    let g = f32(dscores[bq * d.T + j]);
    slopes += g * slope_of(u);
    values += g * tanh_of(u);
  }
  dquery[i] = S(weight[a] * slopes);
  dweightPart[i] = values;
}

@compute @workgroup_size(WG)
fn backward_key(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.B * d.T * d.A) { return; }
  let bt = i / d.A;
  let a = i % d.A;
  let b = bt / d.T;
  let x = E(key[i]);
  var slopes = E(0.0);
  for (var j = 0u; j < d.Q; j++) {
    let bq = b * d.Q + j;
    slopes += f32(dscores[bq * d.T + bt % d.T]) * slope_of(x + E(query[bq * d.A + a]));
  }
  dkey[i] = S(weight[a] * slopes);
}
