// elementwise: arithmetic and fills, four elements a thread.
//   add    a b (N) -> y = a·alpha + b·beta
//   mul    a b (N) -> y = a·b
//   div    a b (N) -> y = a/b
//   scale  a (N)   -> y = a·alpha
//   shift  a (N)   -> y = a·alpha + beta
//   fill           -> y = alpha
override WG: u32 = 64;

struct Dims { quads: u32, alpha: f32, beta: f32 }

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<uniform> d: Dims;

#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = a[i] * d.alpha + b[i] * d.beta; }
}

@compute @workgroup_size(WG)
fn scale(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = a[i] * d.alpha; }
}

@compute @workgroup_size(WG)
fn mul(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = a[i] * b[i]; }
}

@compute @workgroup_size(WG)
fn div(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = a[i] / b[i]; }
}

@compute @workgroup_size(WG)
fn shift(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = a[i] * d.alpha + d.beta; }
}

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.quads) { y[i] = vec4f(d.alpha); }
}
