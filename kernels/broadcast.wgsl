// broadcast: arithmetic of a large operand and a small one that is repeated, four elements a thread.
//   add         large (N) small (n) -> y (N) = large·alpha + small·beta, small being repeated N/n times
//   mul         large (N) small (n) -> y (N) = large·small
//   div         large (N) small (n) -> y (N) = large/small
//   reciprocal  large (N) small (n) -> y (N) = small/large
override WG: u32 = 64;

struct Dims { quads: u32, n: u32, alpha: f32, beta: f32 }

@group(0) @binding(0) var<storage, read> large: array<vec4f>;
@group(0) @binding(1) var<storage, read> small: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> d: Dims;

#include "lib/grid.wgsl"

// The small operand beside quad i. One division for four: each next place is one further, or the first again.
fn beside(i: u32) -> vec4f {
  let p = (4u * i) % d.n;
  let q = select(p + 1u, 0u, p + 1u == d.n);
  let r = select(q + 1u, 0u, q + 1u == d.n);
  let s = select(r + 1u, 0u, r + 1u == d.n);
  return vec4f(small[p], small[q], small[r], small[s]);
}

@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = large[i] * d.alpha + beside(i) * d.beta; }
}

@compute @workgroup_size(WG)
fn mul(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = large[i] * beside(i); }
}

@compute @workgroup_size(WG)
fn div(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = large[i] / beside(i); }
}

@compute @workgroup_size(WG)
fn reciprocal(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = beside(i) / large[i]; }
}
