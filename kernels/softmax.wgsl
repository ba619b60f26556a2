// softmax: p = softmax(scale·x) over the last axis, or its log; one workgroup a row.
//   forward   logits (N,C) mask       -> probsOut (N,C)
//   backward  probs dprobs (N,C)      -> dlogits (N,C)    dx = scale·p·(dp - Σ p·dp);  of the log: scale·(dp - p·Σ dp)
//
// masked: element c of row n is out if mask[n / maskShare % maskRows, c], as a truth, is `excludes`. A row that is out
// wholly gives the uniform distribution, or NaN if `blocking`: the mask then stands for -inf, which lets no gradient
// through. inf and NaN exist only as bit patterns in u32 buffers.  WG: threads a row, a power of two.
override WG: u32 = 8;

struct Dims { N: u32, C: u32, scale: f32, maskShare: u32, maskRows: u32, excludes: u32, blocking: u32 }

alias Bits = u32; // of f32

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> probsOut: array<Bits>;
@group(0) @binding(3) var<uniform> d: Dims;
@group(0) @binding(4) var<storage, read> probs: array<Bits>;
@group(0) @binding(5) var<storage, read> dprobs: array<f32>;
@group(0) @binding(6) var<storage, read_write> dlogits: array<f32>;

#include "lib/workgroup_max.wgsl"
#include "lib/workgroup_sum.wgsl"

const LOWEST = -3.4028234e38;
const NAN_BITS = 0x7fc00000u;
const MINUS_INF_BITS = 0xff800000u;

fn out(n: u32, c: u32) -> bool {
#if ${masked}
  return (mask[n / d.maskShare % d.maskRows * d.C + c] != 0u) == (d.excludes != 0u);
#else
  return false;
#endif
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = n * d.C;
  var highestHere = LOWEST;
  var kept = 0;
  for (var c = t; c < d.C; c += WG) {
    if (!out(n, c)) {
      highestHere = max(highestHere, d.scale * logits[row + c]);
      kept = 1;
    }
  }
  let peak = workgroup_max(t, highestHere);
  var empty = false;
#if ${masked}
  empty = workgroup_max_i(t, kept) == 0;
#endif
  var sum = 0.0;
  for (var c = t; c < d.C; c += WG) {
    if (empty) { sum += 1.0; } else if (!out(n, c)) { sum += exp(d.scale * logits[row + c] - peak); }
  }
  sum = workgroup_sum(t, sum);
  for (var c = t; c < d.C; c += WG) {
    let gone = out(n, c);
    let v = select(d.scale * logits[row + c] - peak, 0.0, empty);
#if ${logarithm}
    var bits = bitcast<u32>(v - log(sum));
    if (gone && !empty) { bits = select(bitcast<u32>(LOWEST), MINUS_INF_BITS, d.blocking != 0u); }
#else
    var bits = bitcast<u32>(exp(v) / sum);
    if (gone && !empty) { bits = 0u; }
#endif
    probsOut[row + c] = select(bits, NAN_BITS, empty && d.blocking != 0u);
  }
}

// A mask that blocks has left its traces: NaN, and -inf in a logarithm.
fn blocked(bits: u32) -> bool {
  return d.blocking != 0u && (bits & 0x7f800000u) == 0x7f800000u;
}

fn probability(bits: u32) -> f32 {
  if (blocked(bits)) { return 0.0; }
#if ${logarithm}
  return exp(bitcast<f32>(bits));
#else
  return bitcast<f32>(bits);
#endif
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = n * d.C;
  var sum = 0.0;
  for (var c = t; c < d.C; c += WG) {
#if ${logarithm}
    sum += dprobs[row + c];
#else
    sum += probability(probs[row + c]) * dprobs[row + c];
#endif
  }
  sum = workgroup_sum(t, sum);
  for (var c = t; c < d.C; c += WG) {
    let p = probability(probs[row + c]);
#if ${logarithm}
    let g = dprobs[row + c] - p * sum;
#else
    let g = p * (dprobs[row + c] - sum);
#endif
    dlogits[row + c] = select(d.scale * g, 0.0, blocked(probs[row + c]));
  }
}
