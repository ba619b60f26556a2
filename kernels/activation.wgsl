// activation: pointwise functions by kind (see lib/gelu.wgsl), four elements a thread.
//   forward   x (N)      -> y (N)
//   backward  x dy (N)   -> dx (N)      x is the value before the activation
// WG: threads a workgroup.
override WG: u32 = 64;

struct Dims { quads: u32, kind: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f>;
@group(0) @binding(4) var<uniform> d: Dims;

#include "lib/gelu.wgsl"
#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  y[i] = activate(d.kind, x[i]);
}

fn slope(kind: u32, v: vec4f) -> vec4f {
  switch (kind) {
    case 1u: { return gelu_exact_slope(v); }
    case 2u: { return gelu_tanh_slope(v); }
    case 3u: { return tanh_slope(v); }
    case 4u: { return select(vec4f(0.0), vec4f(1.0), v > vec4f(0.0)); }
    case 5u: { return sigmoid(v) * sigmoid(-v); }
    default: { return vec4f(1.0); }
  }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  dx[i] = dy[i] * slope(d.kind, x[i]);
}
