// accumulate: the sum of two gradients, QUADS times four elements a thread.
//   forward  a b (N) -> y = a + b
// X: element type of all buffers.
${enables}
override WG: u32 = 64;

struct Dims { quads: u32 }

@group(0) @binding(0) var<storage, read> a: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<${X}>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<${X}>>;
@group(0) @binding(3) var<uniform> d: Dims;

#include "lib/quads.wgsl"

fn load_a(i: u32) -> vec4f { return vec4f(a[min(i, d.quads - 1u)]); }
fn load_b(i: u32) -> vec4f { return vec4f(b[min(i, d.quads - 1u)]); }
fn store(i: u32, v: vec4f) {
  if (i < d.quads) { y[i] = vec4<${X}>(v); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let a_$q = load_a(i + $qu * WG);
  let b_$q = load_b(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, a_$q + b_$q);
#endunroll
}
