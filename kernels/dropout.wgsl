// dropout: y = x·keep where the counter-based generator says so, else 0. The mask is a function of (seed, index): the
// backward is this same kernel on dy.   QUADS times four elements a thread.   X: element type of both buffers.
${enables}
override WG: u32 = 64;

struct Dims { quads: u32, seed: u32, dropBelow: u32, keep: f32 }

@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<${X}>>;
@group(0) @binding(2) var<uniform> d: Dims;

#include "lib/random.wgsl"
#include "lib/quads.wgsl"

fn load_x(i: u32) -> vec4f { return vec4f(x[min(i, d.quads - 1u)]); }
fn store(i: u32, v: vec4f) {
  if (i < d.quads) { y[i] = vec4<${X}>(v); }
}

fn kept(i: u32) -> vec4<bool> {
  let bits = vec4u(random_bits(d.seed, 4u * i), random_bits(d.seed, 4u * i + 1u), random_bits(d.seed, 4u * i + 2u), random_bits(d.seed, 4u * i + 3u));
  return bits >= vec4u(d.dropBelow);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let x_$q = load_x(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, select(vec4f(0.0), x_$q * d.keep, kept(i + $qu * WG)));
#endunroll
}
