// sigmoid_gate: the pointwise parts of a CmGI gate; the linear map between them is matmul.wgsl.
//   concat_pair            s c (N,C)        -> y (N,2C) = f(concat(s, c))       f: sigmoid if `useSigmoid`, else nothing
//   concat_pair_backward   s c dy (N,2C)    -> ds dc (N,C)
//   gated_concat           s c g (N,C)      -> y (N,2C) = concat(s·G, c·(1 - G))   G: sigmoid(g) if `useSigmoid`, else g
//   gated_concat_backward  s c g dy (N,2C)  -> ds dc dg (N,C)
//   sum_time        g (N,C)          -> y (N/gPeriod,C)     the gradient of a pooled gate
// As the paper prints it, G = Linear(sigmoid(concat(s, c))): a sigmoid in concat_pair, not in gated_concat; then G is not bounded to 0..1.
// The bounded reading, G = sigmoid(Linear(concat(s, c))), is the other way round.
// gPeriod: rows of g, where one gate serves a run of rows (a pooled gate): row n uses row n / gPeriod.
// WG: threads a workgroup; one thread an element of (N,C).   X: element type of all buffers.
${enables}
override WG: u32 = 64;

struct Dims { N: u32, C: u32, useSigmoid: u32, gPeriod: u32 }

@group(0) @binding(0) var<storage, read> s: array<${X}>;
@group(0) @binding(1) var<storage, read> c: array<${X}>;
@group(0) @binding(2) var<storage, read> g: array<${X}>;
@group(0) @binding(3) var<storage, read_write> y: array<${X}>;
@group(0) @binding(4) var<uniform> d: Dims;
@group(0) @binding(5) var<storage, read> dy: array<${X}>;
@group(0) @binding(6) var<storage, read_write> ds: array<${X}>;
@group(0) @binding(7) var<storage, read_write> dc: array<${X}>;
@group(0) @binding(8) var<storage, read_write> dg: array<${X}>;

#include "lib/sigmoid.wgsl"
#include "lib/grid.wgsl"

fn gate_of(x: f32) -> f32 {
  if (d.useSigmoid == 0u) { return x; }
  return sigmoid(vec4f(x)).x;
}

// 1 - gate_of(x), and its slope: by the sigmoid of -x, which keeps the precision that the difference would lose.
fn rest(x: f32) -> f32 {
  return select(1.0 - x, gate_of(-x), d.useSigmoid != 0u);
}

fn slope(x: f32) -> f32 {
  return select(1.0, gate_of(x) * gate_of(-x), d.useSigmoid != 0u);
}

@compute @workgroup_size(WG)
fn concat_pair(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let at = (i / d.C) * 2u * d.C + i % d.C;
  y[at] = ${X}(gate_of(f32(s[i])));
  y[at + d.C] = ${X}(gate_of(f32(c[i])));
}

@compute @workgroup_size(WG)
fn concat_pair_backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let at = (i / d.C) * 2u * d.C + i % d.C;
  ds[i] = ${X}(f32(dy[at]) * slope(f32(s[i])));
  dc[i] = ${X}(f32(dy[at + d.C]) * slope(f32(c[i])));
}

@compute @workgroup_size(WG)
fn gated_concat(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let n = i / d.C;
  let at = n * 2u * d.C + i % d.C;
  let gate = f32(g[(n / d.gPeriod) * d.C + i % d.C]);
  y[at] = ${X}(f32(s[i]) * gate_of(gate));
  y[at + d.C] = ${X}(f32(c[i]) * rest(gate));
}

@compute @workgroup_size(WG)
fn gated_concat_backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.N * d.C) { return; }
  let n = i / d.C;
  let at = n * 2u * d.C + i % d.C;
  let gate = f32(g[(n / d.gPeriod) * d.C + i % d.C]);
  ds[i] = ${X}(f32(dy[at]) * gate_of(gate));
  dc[i] = ${X}(f32(dy[at + d.C]) * rest(gate));
  dg[i] = ${X}((f32(dy[at]) * f32(s[i]) - f32(dy[at + d.C]) * f32(c[i])) * slope(gate));
}

@compute @workgroup_size(WG)
fn sum_time(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= (d.N / d.gPeriod) * d.C) { return; }
  let first = (i / d.C) * d.gPeriod;
  var sum = 0.0;
  for (var n = 0u; n < d.gPeriod; n++) { sum += f32(g[(first + n) * d.C + i % d.C]); }
  y[i] = ${X}(sum);
}
