// convert: storage types of a checkpoint to f32 or f16, two values a thread.
//   forward  x (ceil(N/2) words)  -> y (N) f32, or ceil(N/2) words of f16
// kind: 0 bf16, 1 f16, 2 f32 (x is then N words).   to16: the result is f16.   Rounds to nearest.
override WG: u32 = 64;

struct Dims { pairs: u32, kind: u32, to16: u32 }

alias Bits = u32; // of any type

@group(0) @binding(0) var<storage, read> x: array<Bits>;
@group(0) @binding(1) var<storage, read_write> y: array<Bits>;
@group(0) @binding(2) var<uniform> d: Dims;

#include "lib/grid.wgsl"

// All by bits: unpack2x16float may flush subnormals, pack2x16float may round towards zero, and a float on its way through
// a register may be flushed too.
fn from_half(h: u32) -> u32 {
  let magnitude = (h & 0x7fffu) << 13u;
  let sign = (h & 0x8000u) << 16u;
  if ((h & 0x7c00u) == 0x7c00u) { return sign | 0x7f800000u | (magnitude & 0x7fffffu); }
  if ((h & 0x7c00u) == 0u) {
    return sign | bitcast<u32>(f32(h & 0x3ffu) * 5.9604644775390625e-8);
  }
  return sign | (magnitude + 0x38000000u);
}

// To the nearest half, ties to even.
fn to_half(f: u32) -> u32 {
  let sign = (f >> 16u) & 0x8000u;
  let magnitude = f & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
  if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }
  if (magnitude < 0x38800000u) { return sign | u32(round(bitcast<f32>(magnitude) * 16777216.0)); }
  return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.pairs) { return; }
  var a: u32;
  var b: u32;
  if (d.kind == 0u) {
    a = x[i] << 16u;
    b = x[i] & 0xffff0000u;
  } else if (d.kind == 1u) {
    a = from_half(x[i] & 0xffffu);
    b = from_half(x[i] >> 16u);
  } else {
    a = x[2u * i];
    b = x[2u * i + 1u];
  }
  if (d.to16 != 0u) {
    y[i] = to_half(a) | (to_half(b) << 16u);
  } else {
    y[2u * i] = a;
    y[2u * i + 1u] = b;
  }
}
