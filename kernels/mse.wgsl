// mse: squared errors and their gradient, four elements a thread.
//   forward   x truth (N)    -> y (N)       (x − truth)²
//   sums      x truth (N)    -> splitsOut (S) Σ (x − truth)² over a split of `step` quads; one workgroup a split
//   backward  x truth dy     -> dx (N)      (x − truth)·dy·factor; dy is (N) if dyStride is 1, one number if it is 0
override WG: u32 = 64;

struct Dims { N: u32, quads: u32, step: u32, dyStride: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> truth: array<vec4f>;
@group(0) @binding(2) var<storage, read> dy: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> splitsOut: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f>;
@group(0) @binding(4) var<uniform> d: Dims;

#include "lib/grid.wgsl"
#include "lib/workgroup_sum.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  let e = x[i] - truth[i];
  y[i] = e * e;
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
      let e = select(vec4f(0.0), x[j] - truth[j], 4u * j + vec4u(0u, 1u, 2u, 3u) < vec4u(d.N));
      few += dot(e, e);
    }
    sum += few;
  }
  let all = workgroup_sum(t, sum);
  if (t == 0u && g * d.step < max(d.quads, 1u)) { splitsOut[g] = all; }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.quads) { return; }
  let g = dy[i * d.dyStride];
  dx[i] = (x[i] - truth[i]) * select(vec4f(g.x), g, d.dyStride == 1u) * d.factor;
}
