// layer_norm: one workgroup a row. The mean is kept as a sum of two floats, as in group_norm, so that neither a large mean
// nor one far from the row's first element costs precision.
//   forward          x (N,C) w b (C)               -> y (N,C) mean (N,2) rstd (N)     y = act((x - mean)·rstd·w + b)
//   backward         dy x (N,C) w (C) mean rstd    -> dx (N,C)
//   backward_params  dy x (N,C) mean rstd          -> dw db (S,C)   split s sums rows s·step … (s+1)·step - 1
//
// backward: with xh = (x - mean)·rstd and g = dy·w,  dx = rstd·(g - mean(g) - xh·mean(g·xh)).
// ACTIVATION: of lib/gelu.wgsl, 0 none.   vec: C is a multiple of 4 and an element E is a vec4.   X: element type of x, y, dy and dx.
// HELD: elements of a row that a thread keeps in registers, so that the row is read once; 0: rows of any length, read once a pass.
// WG: threads a row, a power of two.
${enables}
override WG: u32 = 8;

#if ${vec}
alias E = vec4f;
alias S = vec4<${X}>;
fn total(v: E) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn first_of(v: E) -> f32 { return v.x; }
#else
alias E = f32;
alias S = ${X};
fn total(v: E) -> f32 { return v; }
fn first_of(v: E) -> f32 { return v; }
#endif

// C counts elements E; width counts floats.
struct Dims { N: u32, C: u32, width: f32, eps: f32, step: u32 }

@group(0) @binding(0) var<storage, read> x: array<S>;
@group(0) @binding(1) var<storage, read> w: array<E>;
@group(0) @binding(2) var<storage, read> b: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<S>;
@group(0) @binding(4) var<storage, read_write> mean: array<vec2f>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<uniform> d: Dims;
@group(0) @binding(7) var<storage, read> dy: array<S>;
@group(0) @binding(8) var<storage, read_write> dx: array<S>;
@group(0) @binding(9) var<storage, read> savedMean: array<vec2f>;
@group(0) @binding(10) var<storage, read> savedRstd: array<f32>;
@group(0) @binding(11) var<storage, read_write> dw: array<E>;
@group(0) @binding(12) var<storage, read_write> db: array<E>;

// What x is from its row's mean.
fn centred(v: E, m: vec2f) -> E { return (v - m.x) - m.y; }

#if ${ACTIVATION}
#include "lib/gelu.wgsl"
#if ${vec}
fn finished(v: E) -> E { return activate(${ACTIVATION}u, v); }
#else
fn finished(v: E) -> E { return activate(${ACTIVATION}u, vec4f(v)).x; }
#endif
#else
fn finished(v: E) -> E { return v; }
#endif

#include "lib/sum.wgsl"
#include "lib/sum2.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = n * d.C;
  let origin = first_of(E(x[row]));
  var sum = E(0.0);
  var deviations = E(0.0);
  var squares = E(0.0);
#if ${HELD}
#unroll h HELD
  let c_$h = min(t + $hu * WG, d.C - 1u);
  let in_$h = t + $hu * WG < d.C;
  let x_$h = E(x[row + c_$h]);
#endunroll
#unroll h HELD
  sum += select(E(0.0), x_$h - origin, in_$h);
#endunroll
  let first = origin + workgroup_sum(t, total(sum)) / d.width;
#unroll h HELD
  let v_$h = select(E(0.0), x_$h - first, in_$h);
  deviations += v_$h;
  squares += v_$h * v_$h;
#endunroll
#else
  for (var c = t; c < d.C; c += WG) { sum += E(x[row + c]) - origin; }
  let first = origin + workgroup_sum(t, total(sum)) / d.width;
  for (var c = t; c < d.C; c += WG) {
    let v = E(x[row + c]) - first;
    deviations += v;
    squares += v * v;
  }
#endif
  let sums = workgroup_sum2(t, vec2f(total(deviations), total(squares)));
  let m = vec2f(first, sums.x / d.width);
  let variance = max(0.0, sums.y / d.width - m.y * m.y);
  let r = 1.0 / sqrt(variance + d.eps);
#if ${HELD}
#unroll h HELD
  if (in_$h) { y[row + c_$h] = S(finished(centred(x_$h, m) * r * w[c_$h] + b[c_$h])); }
#endunroll
#else
  for (var c = t; c < d.C; c += WG) { y[row + c] = S(finished(centred(E(x[row + c]), m) * r * w[c] + b[c])); }
#endif
  if (t == 0u) {
    mean[n] = m;
    rstd[n] = r;
  }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = n * d.C;
  let m = savedMean[n];
  let r = savedRstd[n];
  var sum = E(0.0);
  var along = E(0.0);
#if ${HELD}
#unroll h HELD
  let c_$h = min(t + $hu * WG, d.C - 1u);
  let in_$h = t + $hu * WG < d.C;
  let g_$h = E(dy[row + c_$h]) * w[c_$h];
  let xh_$h = centred(E(x[row + c_$h]), m) * r;
#endunroll
#unroll h HELD
  sum += select(E(0.0), g_$h, in_$h);
  along += select(E(0.0), g_$h * xh_$h, in_$h);
#endunroll
#else
  for (var c = t; c < d.C; c += WG) {
    let g = E(dy[row + c]) * w[c];
    sum += g;
    along += g * centred(E(x[row + c]), m) * r;
  }
#endif
  let means = workgroup_sum2(t, vec2f(total(sum), total(along))) / d.width;
#if ${HELD}
#unroll h HELD
  if (in_$h) { dx[row + c_$h] = S(r * (g_$h - means.x - xh_$h * means.y)); }
#endunroll
#else
  for (var c = t; c < d.C; c += WG) {
    let xh = centred(E(x[row + c]), m) * r;
    dx[row + c] = S(r * (E(dy[row + c]) * w[c] - means.x - xh * means.y));
  }
#endif
}

@compute @workgroup_size(WG)
fn backward_params(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let c = wg.x * WG + t;
  if (c >= d.C) { return; }
  let last = min(d.N, (wg.y + 1u) * d.step);
  var sumW = E(0.0);
  var sumB = E(0.0);
  for (var n = wg.y * d.step; n < last; n++) {
    let g = E(dy[n * d.C + c]);
    sumW += g * centred(E(x[n * d.C + c]), savedMean[n]) * savedRstd[n];
    sumB += g;
  }
  dw[wg.y * d.C + c] = sumW;
  db[wg.y * d.C + c] = sumB;
}
