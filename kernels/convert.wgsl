// convert: storage types of a checkpoint to f32 or f16, two values a thread.
//   forward  x (ceil(N/2) words)  -> y (N) f32, or ceil(N/2) words of f16
// kind: 0 bf16, 1 f16, 2 f32 (x is then N words).   to16: the result is f16.   Rounds to nearest.
override WG: u32 = 64;

struct Dims { pairs: u32, kind: u32, to16: u32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> d: Dims;

#include "lib/grid.wgsl"

// Two halves to two floats by bits: unpack2x16float may flush subnormals.
fn from_half(h: u32) -> f32 {
  let magnitude = (h & 0x7fffu) << 13u;
  let sign = (h & 0x8000u) << 16u;
  if ((h & 0x7c00u) == 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | (magnitude & 0x7fffffu)); }
  if ((h & 0x7c00u) == 0u) {
    let small = f32(h & 0x3ffu) * 5.9604644775390625e-8;
    return select(small, -small, sign != 0u);
  }
  return bitcast<f32>(sign | (magnitude + 0x38000000u));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.pairs) { return; }
  var a: f32;
  var b: f32;
  if (d.kind == 0u) {
    a = bitcast<f32>(x[i] << 16u);
    b = bitcast<f32>(x[i] & 0xffff0000u);
  } else if (d.kind == 1u) {
    a = from_half(x[i] & 0xffffu);
    b = from_half(x[i] >> 16u);
  } else {
    a = bitcast<f32>(x[2u * i]);
    b = bitcast<f32>(x[2u * i + 1u]);
  }
  if (d.to16 != 0u) {
    y[i] = pack2x16float(vec2f(a, b));
  } else {
    y[2u * i] = bitcast<u32>(a);
    y[2u * i + 1u] = bitcast<u32>(b);
  }
}
