// broadcast: arithmetic of a large operand and a small one that is repeated, QUADS times four elements a
// thread.
//   add         large (N) small (n) -> y (N) = large·alpha + small·beta, small being repeated N/n times
//   mul         large (N) small (n) -> y (N) = large·small
//   div         large (N) small (n) -> y (N) = large/small
//   reciprocal  large (N) small (n) -> y (N) = small/large
// X: element type of all buffers.
${enables}
override WG: u32 = 64;

struct Dims { quads: u32, n: u32, alpha: f32, beta: f32 }

@group(0) @binding(0) var<storage, read> large: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read> small: array<${X}>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<${X}>>;
@group(0) @binding(3) var<uniform> d: Dims;

#include "lib/quads.wgsl"

// The small operand beside quad i. One division for four: each next place is one further, or the first again.
fn beside(i: u32) -> vec4f {
  let p = (4u * i) % d.n;
  let q = select(p + 1u, 0u, p + 1u == d.n);
  let r = select(q + 1u, 0u, q + 1u == d.n);
  let s = select(r + 1u, 0u, r + 1u == d.n);
  return vec4f(vec4<${X}>(small[p], small[q], small[r], small[s]));
}

fn load_large(i: u32) -> vec4f { return vec4f(large[min(i, d.quads - 1u)]); }
fn load_small(i: u32) -> vec4f { return beside(min(i, d.quads - 1u)); }
fn store(i: u32, v: vec4f) {
  if (i < d.quads) { y[i] = vec4<${X}>(v); }
}

@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let large_$q = load_large(i + $qu * WG);
  let small_$q = load_small(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, large_$q * d.alpha + small_$q * d.beta);
#endunroll
}

@compute @workgroup_size(WG)
fn mul(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let large_$q = load_large(i + $qu * WG);
  let small_$q = load_small(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, large_$q * small_$q);
#endunroll
}

@compute @workgroup_size(WG)
fn div(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let large_$q = load_large(i + $qu * WG);
  let small_$q = load_small(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, large_$q / small_$q);
#endunroll
}

@compute @workgroup_size(WG)
fn reciprocal(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let large_$q = load_large(i + $qu * WG);
  let small_$q = load_small(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, small_$q / large_$q);
#endunroll
}
