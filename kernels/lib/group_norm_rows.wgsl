// group_norm where a workgroup goes through one group of a sample by itself.
//   forward          x (B,T,C) w b (C)                       -> y (B,T,C) mean (B,G,2) rstd (B,G)
//   backward         dy x (B,T,C) w (C) mean rstd            -> dx (B,T,C)
//   backward_params  dy x (B,T,C) mean rstd                  -> dw db (B,C)     one thread a channel of a sample
//
// T goes into the tens of thousands, and a sum of n terms one by one is off by the root of n roundings. All sums but the
// first mean's go by blocks of BLOCK terms instead.   WG: threads a group, a power of two.
const BLOCK = 128u;

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
  let origin = f32(x[at(s, g, 0u)]);
  var sum = 0.0;
  for (var i = t; i < n; i += WG) { sum += f32(x[at(s, g, i)]) - origin; }
  let first = origin + workgroup_sum(t, sum) / f32(n);
  // Deviations from the first mean, and their squares.
  var sums = vec2f(0.0);
  for (var block = t; block < n; block += WG * BLOCK) {
    let end = min(n, block + WG * BLOCK);
    var part = vec2f(0.0);
    for (var i = block; i < end; i += WG) {
      let v = f32(x[at(s, g, i)]) - first;
      part += vec2f(v, v * v);
    }
    sums += part;
  }
  let rest = workgroup_sum(t, sums.x) / f32(n);
  let variance = max(0.0, workgroup_sum(t, sums.y) / f32(n) - rest * rest);
  let r = 1.0 / sqrt(variance + d.eps);
  let m = vec2f(first, rest);
  for (var i = t; i < n; i += WG) {
    let c = g * each + i % each;
    let j = at(s, g, i);
    y[j] = S(centred(f32(x[j]), m) * r * w[c] + b[c]);
  }
  if (t == 0u) {
    mean[s * d.G + g] = m;
    rstd[s * d.G + g] = r;
  }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let g = wg.x;
  let s = wg.y;
  let each = d.C / d.G;
  let n = d.T * each;
  let m = savedMean[s * d.G + g];
  let r = savedRstd[s * d.G + g];
  // Sums of the gradient, and of the gradient along the normalised x.
  var sums = vec2f(0.0);
  for (var block = t; block < n; block += WG * BLOCK) {
    let end = min(n, block + WG * BLOCK);
    var part = vec2f(0.0);
    for (var i = block; i < end; i += WG) {
      let j = at(s, g, i);
      let v = f32(dy[j]) * w[g * each + i % each];
      part += vec2f(v, v * centred(f32(x[j]), m) * r);
    }
    sums += part;
  }
  let meanG = workgroup_sum(t, sums.x) / f32(n);
  let meanAlong = workgroup_sum(t, sums.y) / f32(n);
  for (var i = t; i < n; i += WG) {
    let j = at(s, g, i);
    dx[j] = S(r * (f32(dy[j]) * w[g * each + i % each] - meanG - centred(f32(x[j]), m) * r * meanAlong));
  }
}

@compute @workgroup_size(WG)
fn backward_params(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  let s = wg.y;
  if (c >= d.C) { return; }
  let g = s * d.G + c / (d.C / d.G);
  let m = savedMean[g];
  let r = savedRstd[g];
  var sums = vec2f(0.0);
  for (var block = 0u; block < d.T; block += BLOCK) {
    let end = min(d.T, block + BLOCK);
    var part = vec2f(0.0);
    for (var i = block; i < end; i++) {
      let j = (s * d.T + i) * d.C + c;
      part += f32(dy[j]) * vec2f(centred(f32(x[j]), m) * r, 1.0);
    }
    sums += part;
  }
  dw[s * d.C + c] = sums.x;
  db[s * d.C + c] = sums.y;
}
