// group_norm: channels-last; one workgroup for each (sample, group), variance in a second pass.
//   forward          x (B,T,C) w b (C)                       -> y (B,T,C) mean rstd (B,G)
//   backward         dy x (B,T,C) w (C) mean rstd (B,G)      -> dx (B,T,C)
//   backward_params  dy x (B,T,C) mean rstd (B,G)            -> dw db (B,C)     one thread a channel of a sample
// The statistics run over T and the C/G channels of the group, and all is counted from the group's first element (`mean`
// too), so that a large mean costs no precision.   WG: threads a group, a power of two.
override WG: u32 = 8;

struct Dims { B: u32, T: u32, C: u32, G: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<uniform> d: Dims;
@group(0) @binding(7) var<storage, read> dy: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;
@group(0) @binding(9) var<storage, read> savedMean: array<f32>;
@group(0) @binding(10) var<storage, read> savedRstd: array<f32>;
@group(0) @binding(11) var<storage, read_write> dw: array<f32>;
@group(0) @binding(12) var<storage, read_write> db: array<f32>;

#include "lib/workgroup_sum.wgsl"

// Element i of group g of sample s, counted over time and then the group's channels.
fn at(s: u32, g: u32, i: u32) -> u32 {
  let each = d.C / d.G;
  return (s * d.T + i / each) * d.C + g * each + i % each;
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let g = wg.x;
  let s = wg.y;
  let each = d.C / d.G;
  let n = d.T * each;
  let origin = x[at(s, g, 0u)];
  var sum = 0.0;
  for (var i = t; i < n; i += WG) { sum += x[at(s, g, i)] - origin; }
  let mu = workgroup_sum(t, sum) / f32(n);
  var squares = 0.0;
  for (var i = t; i < n; i += WG) { let v = x[at(s, g, i)] - origin - mu; squares += v * v; }
  let r = 1.0 / sqrt(workgroup_sum(t, squares) / f32(n) + d.eps);
  for (var i = t; i < n; i += WG) {
    let c = g * each + i % each;
    let j = at(s, g, i);
    y[j] = (x[j] - origin - mu) * r * w[c] + b[c];
  }
  if (t == 0u) {
    mean[s * d.G + g] = mu;
    rstd[s * d.G + g] = r;
  }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let g = wg.x;
  let s = wg.y;
  let each = d.C / d.G;
  let n = d.T * each;
  let origin = x[at(s, g, 0u)];
  let mu = savedMean[s * d.G + g];
  let r = savedRstd[s * d.G + g];
  var sum = 0.0;
  var along = 0.0;
  for (var i = t; i < n; i += WG) {
    let j = at(s, g, i);
    let v = dy[j] * w[g * each + i % each];
    sum += v;
    along += v * (x[j] - origin - mu) * r;
  }
  let meanG = workgroup_sum(t, sum) / f32(n);
  let meanAlong = workgroup_sum(t, along) / f32(n);
  for (var i = t; i < n; i += WG) {
    let j = at(s, g, i);
    dx[j] = r * (dy[j] * w[g * each + i % each] - meanG - (x[j] - origin - mu) * r * meanAlong);
  }
}

@compute @workgroup_size(WG)
fn backward_params(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  let s = wg.y;
  if (c >= d.C) { return; }
  let group = c / (d.C / d.G);
  let g = s * d.G + group;
  let origin = x[at(s, group, 0u)];
  var sumW = 0.0;
  var sumB = 0.0;
  for (var i = 0u; i < d.T; i++) {
    let j = (s * d.T + i) * d.C + c;
    sumW += dy[j] * (x[j] - origin - savedMean[g]) * savedRstd[g];
    sumB += dy[j];
  }
  dw[s * d.C + c] = sumW;
  db[s * d.C + c] = sumB;
}
