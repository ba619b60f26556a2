// reduce: sums over rows, in fixed order: same bits every run.
//   columns   x (rows, C)            -> y (S, C)     split s sums rows s·step … (s+1)·step - 1
//   mean_time x (B,T,C) mask (B,T)   -> y (B, C)     mean over the frames whose mask is 1
//   spread    x (B,C) mask (B,T)    -> y (B,T,C)    the gradient of mean_time
//   dots      x m (rows·C)           -> y (S)       Σ x·m over a split of `step` elements; one workgroup a split
//   sums      x (rows, C)            -> y (rows, S) Σ x / divisor over a split of `step` elements; one workgroup a split
//   repeat    x (rows)               -> y (rows, C) x / divisor: the gradient of sums
// A thread owns one column, but in dots, sums and repeat.   X: element type of x and m, Y: of y.
${enables}
override WG: u32 = 8;

#include "lib/grid.wgsl"
#include "lib/sum.wgsl"

struct Dims { rows: u32, C: u32, step: u32, B: u32, T: u32, splits: u32, divisor: f32 }

@group(0) @binding(0) var<storage, read> x: array<${X}>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<${Y}>;
@group(0) @binding(3) var<uniform> d: Dims;
@group(0) @binding(4) var<storage, read> m: array<${X}>;

@compute @workgroup_size(WG)
fn columns(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = (wg.z * groups.x + wg.x) * WG + t; // z where x is too short
  if (c >= d.C) { return; }
  let last = min(d.rows, (wg.y + 1u) * d.step);
  var sum = 0.0;
  for (var r = wg.y * d.step; r < last; r++) { sum += f32(x[r * d.C + c]); }
  y[wg.y * d.C + c] = ${Y}(sum);
}

@compute @workgroup_size(WG)
fn mean_time(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  let b = wg.y;
  if (c >= d.C) { return; }
  var sum = 0.0;
  var count = 0.0;
  for (var i = 0u; i < d.T; i++) {
    if (mask[b * d.T + i] != 0u) {
      sum += f32(x[(b * d.T + i) * d.C + c]);
      count += 1.0;
    }
  }
  y[b * d.C + c] = ${Y}(sum / max(count, 1.0));
}

@compute @workgroup_size(WG)
fn spread(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  let b = wg.y;
  if (c >= d.C) { return; }
  var count = 0.0;
  for (var i = 0u; i < d.T; i++) { count += select(0.0, 1.0, mask[b * d.T + i] != 0u); }
  let g = f32(x[b * d.C + c]) / max(count, 1.0);
  for (var i = 0u; i < d.T; i++) { y[(b * d.T + i) * d.C + c] = ${Y}(select(0.0, g, mask[b * d.T + i] != 0u)); }
}

@compute @workgroup_size(WG)
fn dots(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let last = min(d.rows, (wg.x + 1u) * d.step);
  var sum = 0.0;
  for (var i = wg.x * d.step + t; i < last; i += WG) { sum = fma(f32(x[i]), f32(m[i]), sum); }
  let all = workgroup_sum(t, sum);
  if (t == 0u) { y[wg.x] = ${Y}(all); }
}

@compute @workgroup_size(WG)
fn sums(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let g = linear_id(wg, groups, 0u, 1u);
  let row = g / d.splits;
  if (row >= d.rows) { return; }
  let split = g % d.splits;
  let last = row * d.C + min(d.C, (split + 1u) * d.step);
  var sum = 0.0;
  for (var i = row * d.C + split * d.step + t; i < last; i += 16u * WG) {
    // Sixteen apart, then their sum: fewer roundings one upon the other than in one long run.
    var few = 0.0;
    for (var j = i; j < min(last, i + 16u * WG); j += WG) { few += f32(x[j]); }
    sum += few;
  }
  let all = workgroup_sum(t, sum);
  if (t == 0u) { y[g] = ${Y}(all / d.divisor); }
}

@compute @workgroup_size(WG)
fn repeat(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.rows * d.C) { y[i] = ${Y}(f32(x[i / d.C]) / d.divisor); }
}
