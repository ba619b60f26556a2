// mse: squared errors and their gradient, four elements at a time.
//   forward   x truth (N)    -> y (N)       (x − truth)²
//   sums      x truth (N)    -> splitsOut (S) Σ (x − truth)² over a split of `step` quads; one workgroup a split
//   backward  x truth dy     -> dx (N)      (x − truth)·dy·factor; dy is (N) if dyStride is 1, one number if it is 0
// X: element type of x, truth and dx; losses are f32.   QUADS: quads a thread of forward and backward.
${enables}
override WG: u32 = 64;

struct Dims { N: u32, quads: u32, step: u32, dyStride: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read> truth: array<vec4<${X}>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> splitsOut: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<${X}>>;
@group(0) @binding(4) var<uniform> d: Dims;

#include "lib/quads.wgsl"
#include "lib/sum.wgsl"

fn load_error(i: u32) -> vec4f {
  let at = min(i, d.quads - 1u);
  return vec4f(x[at]) - vec4f(truth[at]);
}
fn load_dy(i: u32) -> vec4f {
  let g = dy[min(i, d.quads - 1u) * d.dyStride];
  return select(vec4f(g.x), g, d.dyStride == 1u);
}
fn store(i: u32, v: vec4f) {
  if (i < d.quads) { y[i] = v; }
}
fn store_dx(i: u32, v: vec4f) {
  if (i < d.quads) { dx[i] = vec4<${X}>(v); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let e_$q = load_error(i + $qu * WG);
#endunroll
#unroll q QUADS
  store(i + $qu * WG, e_$q * e_$q);
#endunroll
}

@compute @workgroup_size(WG)
fn sums(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let g = linear_id(wg, groups, 0u, 1u);
  let last = min(d.quads, (g + 1u) * d.step);
  var sum = 0.0;
  for (var i = g * d.step + t; i < last; i += 16u * WG) {
    // Sixteen apart, then their sum: fewer roundings one upon the other than in one long run.
    var few = 0.0;
    for (var j = i; j < min(last, i + 16u * WG); j += WG) {
      // What lies past the end in the last quad is anything.
      let e = select(vec4f(0.0), vec4f(x[j]) - vec4f(truth[j]), 4u * j + vec4u(0u, 1u, 2u, 3u) < vec4u(d.N));
      few += dot(e, e);
    }
    sum += few;
  }
  let all = workgroup_sum(t, sum);
  if (t == 0u && g * d.step < max(d.quads, 1u)) { splitsOut[g] = all; }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = first_quad(wg, groups, t);
#unroll q QUADS
  let e_$q = load_error(i + $qu * WG);
  let dy_$q = load_dy(i + $qu * WG);
#endunroll
#unroll q QUADS
  store_dx(i + $qu * WG, e_$q * dy_$q * d.factor);
#endunroll
}
