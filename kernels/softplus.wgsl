// softplus: ln(1 + e^x), pointwise, QUADS times four elements a thread.
//   forward   x (N)      -> y (N)
//   backward  x dy (N)   -> dx (N)      dx = dy·sigmoid(x)
// X: element type of all buffers.   WG: threads a workgroup.
${enables}
override WG: u32 = 64;

struct Dims { quads: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<${X}>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<${X}>>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<${X}>>;
@group(0) @binding(4) var<uniform> d: Dims;

#include "lib/exp.wgsl"
#include "lib/quads.wgsl"
#include "lib/sigmoid.wgsl"

fn load_x(i: u32) -> vec4f { return vec4f(x[min(i, d.quads - 1u)]); }
fn load_dy(i: u32) -> vec4f { return vec4f(dy[min(i, d.quads - 1u)]); }
fn store(i: u32, v: vec4f) {
  if (i < d.quads) { y[i] = vec4<${X}>(v); }
}
fn store_dx(i: u32, v: vec4f) {
  if (i < d.quads) { dx[i] = vec4<${X}>(v); }
}

// ln(1 + u) for u from 0 to 1, as 2·atanh(u/(2 + u)): the built-in log is not exact enough near 1.
fn log1p(u: vec4f) -> vec4f {
  let s = u / (2.0 + u);
  let z = s * s;
  let tail = z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z * (1.0 / 13.0))))));
  return 2.0 * (s + s * tail);
}

// e^-|x| never overflows, and what is far below 0 is not lost beside 1.
fn value(x: vec4f) -> vec4f { return max(x, vec4f(0.0)) + log1p(accurate_exp(-abs(x))); }

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let x_$q = load_x(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, value(x_$q));
#endunroll
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let x_$q = load_x(i + $qu * WG);
  let dy_$q = load_dy(i + $qu * WG);
#endunroll
#unroll q QUADS
  store_dx(i + $qu * WG, dy_$q * sigmoid(x_$q));
#endunroll
}
