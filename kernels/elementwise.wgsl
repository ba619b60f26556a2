// elementwise: arithmetic and fills, QUADS times four elements a thread.
//   add    a b (N) -> y = a·alpha + b·beta
//   mul    a b (N) -> y = a·b
//   div    a b (N) -> y = a/b
//   scale  a (N)   -> y = a·alpha
//   shift  a (N)   -> y = a·alpha + beta
//   fill           -> y = alpha
// X: element type of all buffers.   Past the end the last quad is read again, so that all loads are under way at once.
${enables}
override WG: u32 = 64;

struct Dims { quads: u32, alpha: f32, beta: f32 }

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
fn add(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let a_$q = load_a(i + $qu * WG);
  let b_$q = load_b(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, a_$q * d.alpha + b_$q * d.beta);
#endunroll
}

@compute @workgroup_size(WG)
fn scale(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let a_$q = load_a(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, a_$q * d.alpha);
#endunroll
}

@compute @workgroup_size(WG)
fn mul(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let a_$q = load_a(i + $qu * WG);
  let b_$q = load_b(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, a_$q * b_$q);
#endunroll
}

@compute @workgroup_size(WG)
fn div(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let a_$q = load_a(i + $qu * WG);
  let b_$q = load_b(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, a_$q / b_$q);
#endunroll
}

@compute @workgroup_size(WG)
fn shift(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let a_$q = load_a(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, a_$q * d.alpha + d.beta);
#endunroll
}

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  store(i + $qu * WG, vec4f(d.alpha));
#endunroll
}
