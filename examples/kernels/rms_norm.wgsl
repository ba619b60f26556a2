// RMSNorm of the rows of x (N, C): y = x / sqrt(mean(x²) + eps) · w. A workgroup takes a row.
override WG: u32 = 64;

struct Dims { C: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> d: Dims;

#include "lib/workgroup_sum.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let row = wg.x * d.C;
  var squares = 0.0;
  for (var c = t; c < d.C; c += WG) {
    squares += x[row + c] * x[row + c];
  }
  let scale = inverseSqrt(workgroup_sum(t, squares) / f32(d.C) + d.eps);
  for (var c = t; c < d.C; c += WG) {
    y[row + c] = x[row + c] * scale * w[c];
  }
}
