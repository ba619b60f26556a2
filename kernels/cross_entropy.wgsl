// cross_entropy: -Σ q_c·log softmax(logits)_c of each row, with q_c = w_c·((1 - smoothing)·[c = target] + smoothing/V).
//   rows      logits (N,V) targets w (V)          -> lossesOut (N) statsOut (N)
//   reduce    losses stats                        -> loss () totalOut (): by what the rows' gradients are divided
//   backward  logits targets w stats total dy     -> dlogits (N,V)
//
// A row whose target is `ignored` counts nothing; any other target outside 0 … V-1 makes its loss NaN. inf and NaN exist
// only as bit patterns in u32 buffers.  weighted: w is bound, else 1.  X: element type of logits and
// dlogits.  WG: threads a row, a power of two.
${enables}
override WG: u32 = 8;

struct Dims { N: u32, V: u32, smoothing: f32, ignored: i32, mean: u32, dyStride: u32 }

// p_c = exp(logit - peak) / sum; weight: what the row adds to the divisor of a mean.
struct Stats { peak: f32, sum: f32, weight: f32, mass: f32 }

alias Bits = u32; // of f32

@group(0) @binding(0) var<uniform> d: Dims;
@group(0) @binding(1) var<storage, read> logits: array<${X}>;
@group(0) @binding(2) var<storage, read> targets: array<i32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read_write> lossesOut: array<Bits>;
@group(0) @binding(5) var<storage, read_write> statsOut: array<Stats>;
@group(0) @binding(4) var<storage, read> losses: array<Bits>;
@group(0) @binding(5) var<storage, read> stats: array<Stats>;
@group(0) @binding(6) var<storage, read_write> loss: array<Bits>;
@group(0) @binding(7) var<storage, read_write> totalOut: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read> total: array<f32>;
@group(0) @binding(8) var<storage, read_write> dlogits: array<${X}>;

#include "lib/max.wgsl"
#include "lib/sum.wgsl"

const NAN_BITS = 0x7fc00000u;
const INF_BITS = 0x7f800000u;

fn class_weight(c: u32) -> f32 {
#if ${weighted}
  return w[c];
#else
  return 1.0;
#endif
}

// q_c of a row that counts.
fn wanted(c: u32, goal: i32) -> f32 {
  return class_weight(c) * (select(0.0, 1.0 - d.smoothing, i32(c) == goal) + d.smoothing / f32(d.V));
}

@compute @workgroup_size(WG)
fn rows(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let goal = targets[n];
  let row = n * d.V;
  var best = -3.4028234e38;
  for (var c = t; c < d.V; c += WG) { best = max(best, f32(logits[row + c])); }
  let peak = workgroup_max(t, best);
  var sum = 0.0;
  var mass = 0.0;
  var along = 0.0;
  for (var c = t; c < d.V; c += WG) {
    let v = f32(logits[row + c]) - peak;
    let q = wanted(c, goal);
    sum += exp(v);
    mass += q;
    // A class that is not wanted may lie as low as it likes.
    if (q != 0.0) { along += q * v; }
  }
  sum = workgroup_sum(t, sum);
  mass = workgroup_sum(t, mass);
  along = workgroup_sum(t, along);
  if (t == 0u) {
    let counts = goal != d.ignored;
    let valid = goal >= 0 && goal < i32(d.V);
    let bits = select(NAN_BITS, bitcast<u32>(mass * log(sum) - along), valid);
    lossesOut[n] = select(0u, bits, counts);
    statsOut[n] = Stats(peak, sum, select(0.0, class_weight(u32(clamp(goal, 0, i32(d.V) - 1))), counts && valid), mass);
  }
}

@compute @workgroup_size(WG)
fn reduce(@builtin(local_invocation_index) t: u32) {
  var sum = 0.0;
  var weights = 0.0;
  var odd = 0; // 1: a row is infinite, 2: one is NaN
  for (var n = t; n < d.N; n += WG) {
    weights += stats[n].weight;
    if ((losses[n] & 0x7f800000u) != 0x7f800000u) { sum += bitcast<f32>(losses[n]); } else { odd = max(odd, select(2, 1, losses[n] == INF_BITS)); }
  }
  sum = workgroup_sum(t, sum);
  weights = workgroup_sum(t, weights);
  odd = workgroup_max_i(t, odd);
  if (t == 0u) {
    let divisor = select(1.0, weights, d.mean != 0u);
    totalOut[0] = divisor;
    // No row counts: 0/0.
    let bits = select(bitcast<u32>(sum / select(divisor, 1.0, divisor == 0.0)), NAN_BITS, divisor == 0.0);
    loss[0] = select(select(bits, INF_BITS, odd == 1), NAN_BITS, odd == 2);
  }
}

// The gradient is dy·(p_c·Σ q - q_c) over the divisor.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let goal = targets[n];
  let row = n * d.V;
  let s = stats[n];
  let ignored = goal == d.ignored;
  let seed = dy[n * d.dyStride] / select(total[0], 1.0, ignored || d.dyStride != 0u);
  for (var c = t; c < d.V; c += WG) {
    let p = exp(f32(logits[row + c]) - s.peak) / s.sum;
    dlogits[row + c] = ${X}(select(seed * (p * s.mass - wanted(c, goal)), 0.0, ignored));
  }
}
