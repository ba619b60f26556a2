// convert: storage types of a checkpoint to f32 or f16, QUADS times four values a thread.
//   forward  x (N)  -> y (N)
// half: x is bf16 or f16, and kind says which: 0 bf16, 1 f16; else x is f32.   to16: y is f16, else f32.   Rounds to nearest.
override WG: u32 = 64;

struct Dims { quads: u32, kind: u32 }

alias Bits = u32; // of any type

#if ${half}
@group(0) @binding(0) var<storage, read> x: array<vec2<Bits>>;
#else
@group(0) @binding(0) var<storage, read> x: array<vec4<Bits>>;
#endif
#if ${to16}
@group(0) @binding(1) var<storage, read_write> y: array<vec2<Bits>>;
#else
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Bits>>;
#endif
@group(0) @binding(2) var<uniform> d: Dims;

#include "lib/quads.wgsl"

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

// The bits of four f32.
fn load(i: u32) -> vec4u {
  let given = x[min(i, d.quads - 1u)];
#if ${half}
  if (d.kind == 0u) { return vec4u(given.x << 16u, given.x & 0xffff0000u, given.y << 16u, given.y & 0xffff0000u); }
  return vec4u(from_half(given.x & 0xffffu), from_half(given.x >> 16u), from_half(given.y & 0xffffu), from_half(given.y >> 16u));
#else
  return given;
#endif
}

fn store(i: u32, v: vec4u) {
  if (i >= d.quads) { return; }
#if ${to16}
  y[i] = vec2u(to_half(v.x) | (to_half(v.y) << 16u), to_half(v.z) | (to_half(v.w) << 16u));
#else
  y[i] = v;
#endif
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let v_$q = load(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, v_$q);
#endunroll
}
