// softplus: ln(1 + e^x), pointwise, four elements a thread.
//   forward   x (N)      -> y (N)
//   backward  x dy (N)   -> dx (N)      dx = dy·sigmoid(x)
// WG: threads a workgroup.
override WG: u32 = 64;

struct Dims { quads: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f>;
@group(0) @binding(4) var<uniform> d: Dims;

#include "lib/exp.wgsl"
#include "lib/grid.wgsl"
#include "lib/sigmoid.wgsl"

// ln(1 + u) for u from 0 to 1, as 2·atanh(u/(2 + u)): the built-in log is not exact enough near 1.
fn log1p(u: vec4f) -> vec4f {
  let s = u / (2.0 + u);
  let z = s * s;
  let tail = z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z * (1.0 / 13.0))))));
  return 2.0 * (s + s * tail);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  // e^-|x| never overflows, and what is far below 0 is not lost beside 1.
  y[i] = max(x[i], vec4f(0.0)) + log1p(accurate_exp(-abs(x[i])));
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  dx[i] = dy[i] * sigmoid(x[i]);
}
