// weight_norm: w = g·v/‖v‖, the norm over all axes but the last, as the positional convolution's (dim = 2).
// v is seen as (R, k): R = O·Cg rows, one column a tap.
//   dots      v u (R,k)                 -> y (S,k)    Σ over a split of the rows of v·u
//   forward   v (R,k) g (k) dots (k)    -> y (R,k)    dots = ‖v‖²
//   backward  v dy (R,k) g dots along (k)  -> dv (R,k)    along = Σ v·dy:  dv = g/‖v‖·(dy - v·along/‖v‖²)
//   gain      dots along (k)            -> y (k)      dg = along/‖v‖
override WG: u32 = 64;

struct Dims { R: u32, k: u32, step: u32 }

@group(0) @binding(0) var<storage, read> v: array<f32>;
@group(0) @binding(1) var<storage, read> u: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> squares: array<f32>;
@group(0) @binding(4) var<storage, read> along: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> d: Dims;

#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn dots(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  if (c >= d.k) { return; }
  let last = min(d.R, (wg.y + 1u) * d.step);
  var sum = 0.0;
  for (var r = wg.y * d.step; r < last; r++) { sum = fma(v[r * d.k + c], u[r * d.k + c], sum); }
  y[wg.y * d.k + c] = sum;
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.R * d.k) { return; }
  y[i] = v[i] * (g[i % d.k] / sqrt(squares[i % d.k]));
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.R * d.k) { return; }
  let c = i % d.k;
  y[i] = g[c] / sqrt(squares[c]) * (u[i] - v[i] * along[c] / squares[c]);
}

@compute @workgroup_size(WG)
fn gain(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  if (c < d.k) { y[c] = along[c] / sqrt(squares[c]); }
}
