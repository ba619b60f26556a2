// sigmoid_gate: the pointwise parts of a CmGI gate; the linear map between them is matmul.wgsl.
//   join            s c (N,C)        -> y (N,2C) = f(concat(s, c))       f: sigmoid if `squash`, else nothing
//   join_backward   s c dy (N,2C)    -> ds dc (N,C)
//   blend           s c g (N,C)      -> y (N,2C) = concat(s·G, c·(1 - G))   G: sigmoid(g) if `squash`, else g
//   blend_backward  s c g dy (N,2C)  -> ds dc dg (N,C)
//   sum_time        g (N,C)          -> y (N/gPeriod,C)     the gradient of a pooled gate
// As the paper prints it, G = Linear(sigmoid(concat(s, c))): squash in join, not in blend; then G is not bounded to 0..1.
// The bounded reading, G = sigmoid(Linear(concat(s, c))), is the other way round.
// gPeriod: rows of g, where one gate serves a run of rows (a pooled gate): row n uses row n / gPeriod.
// WG: threads a workgroup; one thread an element of (N,C).
override WG: u32 = 64;

struct Dims { N: u32, C: u32, squash: u32, gPeriod: u32 }

@group(0) @binding(0) var<storage, read> s: array<f32>;
@group(0) @binding(1) var<storage, read> c: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> d: Dims;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> ds: array<f32>;
@group(0) @binding(7) var<storage, read_write> dc: array<f32>;
@group(0) @binding(8) var<storage, read_write> dg: array<f32>;

#include "lib/sigmoid.wgsl"
#include "lib/grid.wgsl"

fn squashed(x: f32) -> f32 {
  if (d.squash == 0u) { return x; }
  return sigmoid(vec4f(x)).x;
}

// 1 - squashed(x), and its slope: by the sigmoid of -x, which keeps the precision that the difference would lose.
fn rest(x: f32) -> f32 {
  return select(1.0 - x, squashed(-x), d.squash != 0u);
}

fn slope(x: f32) -> f32 {
  return select(1.0, squashed(x) * squashed(-x), d.squash != 0u);
}

@compute @workgroup_size(WG)
fn join(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let at = (i / d.C) * 2u * d.C + i % d.C;
  y[at] = squashed(s[i]);
  y[at + d.C] = squashed(c[i]);
}

@compute @workgroup_size(WG)
fn join_backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let at = (i / d.C) * 2u * d.C + i % d.C;
  ds[i] = dy[at] * slope(s[i]);
  dc[i] = dy[at + d.C] * slope(c[i]);
}

@compute @workgroup_size(WG)
fn blend(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let n = i / d.C;
  let at = n * 2u * d.C + i % d.C;
  let gate = g[(n / d.gPeriod) * d.C + i % d.C];
  y[at] = s[i] * squashed(gate);
  y[at + d.C] = c[i] * rest(gate);
}

@compute @workgroup_size(WG)
fn blend_backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let n = i / d.C;
  let at = n * 2u * d.C + i % d.C;
  let gate = g[(n / d.gPeriod) * d.C + i % d.C];
  ds[i] = dy[at] * squashed(gate);
  dc[i] = dy[at + d.C] * rest(gate);
  dg[i] = (dy[at] * s[i] - dy[at + d.C] * c[i]) * slope(gate);
}

@compute @workgroup_size(WG)
fn sum_time(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= (d.N / d.gPeriod) * d.C) { return; }
  let first = (i / d.C) * d.gPeriod;
  var sum = 0.0;
  for (var n = 0u; n < d.gPeriod; n++) { sum += g[(first + n) * d.C + i % d.C]; }
  y[i] = sum;
}
