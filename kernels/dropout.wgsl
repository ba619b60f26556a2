// dropout: y = x·keep where the counter-based generator says so, else 0. The mask is a function of (seed, index): the
// backward is this same kernel on dy.   One thread four elements.
override WG: u32 = 64;

struct Dims { quads: u32, seed: u32, dropBelow: u32, keep: f32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> d: Dims;

#include "lib/random.wgsl"
#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  let bits = vec4u(random_bits(d.seed, 4u * i), random_bits(d.seed, 4u * i + 1u), random_bits(d.seed, 4u * i + 2u), random_bits(d.seed, 4u * i + 3u));
  y[i] = select(vec4f(0.0), x[i] * d.keep, bits >= vec4u(d.dropBelow));
}
