// activation: pointwise functions, QUADS times four elements a thread.
//   forward   x (N)      -> y (N)
//   backward  x dy (N)   -> dx (N)      x is the value before the activation
//   exponential, logarithm  x (N)  -> y (N)
// ACTIVATION: which, by lib/gelu.wgsl. A flag: llvmpipe would run all of them, under masks.
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
#include "lib/gelu.wgsl"
#include "lib/quads.wgsl"

fn load_x(i: u32) -> vec4f { return vec4f(x[min(i, d.quads - 1u)]); }
fn load_dy(i: u32) -> vec4f { return vec4f(dy[min(i, d.quads - 1u)]); }
fn store(i: u32, v: vec4f) {
  if (i < d.quads) { y[i] = vec4<${X}>(v); }
}
fn store_dx(i: u32, v: vec4f) {
  if (i < d.quads) { dx[i] = vec4<${X}>(v); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let x_$q = load_x(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, activate(${ACTIVATION}u, x_$q));
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
  store_dx(i + $qu * WG, dy_$q * activation_slope(${ACTIVATION}u, x_$q));
#endunroll
}

// ln x within 1 ulp (fdlibm): the built-in may be off by 2^-21 near 1, where ln x is small.
fn accurate_log(x: vec4f) -> vec4f {
  let given = bitcast<vec4u>(x);
  // Subnormal numbers are whole multiples of 2^-149; x itself may have been flushed to 0.
  let tiny = given < vec4u(0x00800000u);
  let bits = select(given, bitcast<vec4u>(vec4f(given)), tiny);
  let m = bitcast<vec4f>((bits & vec4u(0x007fffffu)) | vec4u(0x3f800000u));
  let big = m > vec4f(1.41421356);
  let e = vec4f(bits >> vec4u(23u)) - 127.0 + select(vec4f(0.0), vec4f(1.0), big) - select(vec4f(0.0), vec4f(149.0), tiny);
  let f = select(m, 0.5 * m, big) - 1.0;
  let s = f / (2.0 + f);
  let z = s * s;
  let tail = z * (0.66666662693 + z * (0.40000972152 + z * (0.28498786688 + z * 0.24279078841)));
  let h = 0.5 * f * f;
  let y = e * 0.69313812256 - ((h - (s * (h + tail) + e * 9.0580006145e-6)) - f);
  // 0, infinity, NaN and all below 0.
  return select(y, log(x), (given == vec4u(0u)) | (given >= vec4u(0x7f800000u)));
}

@compute @workgroup_size(WG)
fn exponential(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let x_$q = load_x(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, accurate_exp(x_$q));
#endunroll
}

@compute @workgroup_size(WG)
fn logarithm(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let x_$q = load_x(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, accurate_log(x_$q));
#endunroll
}
