// ctc: −log P(target | softmax(logits)) by the forward-backward algorithm, and its gradient on the logits.
//   measure   logits (B,T,V)                                          -> framesOut (B,T)
//   lattice   logits frames samples labels                            -> nllOut (B), alphaOut betaOut (B,T,S) if tracked
//   reduce    nll samples                                             -> loss ()
//   weigh     nll samples dy                                          -> dnllOut (B)
//   gradient  logits frames samples labels alpha beta dnll            -> dlogits (B,T,V)
// States 0 … S-1, S = 2L+1, of a sample: blank, label 0, blank, label 1, …, blank.
//
// Path probabilities are wide numbers, m·2^(e-31) with m from 2^31 on and an integer e each: no product over thousands of
// frames leaves their range, however peaked the logits, and a step costs a rounding at 2^-31 and no logarithm. (In log
// space the ulp of a value near -3000 is 2e-4; one scale for a whole row loses states that matter later.) Emissions are
// relative to the likeliest class of their frame, whose own -log p is summed apart as log(1 + the others): where the model
// is sure, the best path weighs exactly 1, and a small loss keeps its precision.
//
// inf and NaN are made of bits only: of u32 in f32 buffers, and of f32 on its way to f16.  WG: threads, a power of two.
// CAP: room for S + 2 states.   X: element type of logits and dlogits; half: it is f16.   HELD: states of a thread of
// lattice, whose labels it keeps in registers; 0: any number.
${enables}
override WG: u32 = 64;
override CAP: u32 = 896;

struct Dims { B: u32, T: u32, V: u32, S: u32, L: u32, blank: u32, dyStride: u32 }

struct Wide { m: u32, e: i32 }

// What a frame's softmax is made of: m·2^e.
struct Scaled { m: f32, e: i32 }

// exp(logit of the likeliest class) = m·2^e; others: the other classes' probabilities relative to its own.
struct Frame { m: f32, e: i32, others: f32, top: u32 }

// scale: weight of this sample in the loss.
struct Sample { frames: u32, labels: u32, scale: f32, fate: u32 }
const POSSIBLE = 0u;
const INFINITE = 1u;
const ZEROED = 2u;

// links: bits 0-15 the next position of the same id, plus 1 (0: none); the flags below.
struct Label { id: u32, links: u32 }
const FIRST = 0x80000000u;
const SAME_BEFORE = 0x40000000u;
const SAME_AFTER = 0x20000000u;
const NEXT = 0xffffu;

const INF_BITS = 0x7f800000u;
const NAN_BITS = 0x7fc00000u;
const NOT_A_FRAME = 0xffffffffu;

alias Bits = u32; // of f32

@group(0) @binding(0) var<uniform> d: Dims;
@group(0) @binding(1) var<storage, read> logits: array<${X}>;
@group(0) @binding(2) var<storage, read> frames: array<Frame>;
@group(0) @binding(3) var<storage, read> samples: array<Sample>;
@group(0) @binding(4) var<storage, read> labels: array<Label>;
@group(0) @binding(5) var<storage, read> alpha: array<Wide>;
@group(0) @binding(6) var<storage, read> beta: array<Wide>;
@group(0) @binding(7) var<storage, read> dnll: array<Bits>;
#if ${half}
@group(0) @binding(8) var<storage, read_write> dlogits: array<${X}>;
#else
@group(0) @binding(8) var<storage, read_write> dlogits: array<Bits>;
#endif
@group(0) @binding(5) var<storage, read_write> alphaOut: array<Wide>;
@group(0) @binding(6) var<storage, read_write> betaOut: array<Wide>;
@group(0) @binding(7) var<storage, read_write> nllOut: array<Bits>;
@group(0) @binding(2) var<storage, read_write> framesOut: array<Frame>;
@group(0) @binding(1) var<storage, read> nll: array<Bits>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<Bits>;
@group(0) @binding(5) var<storage, read_write> dnllOut: array<Bits>;

#include "lib/workgroup_max.wgsl"
#include "lib/workgroup_sum.wgsl"

// Nothing is 2^LEAST: never seen beside a real probability, and two of them multiply without leaving i32.
const LEAST = -0x40000000;
const NOTHING = Wide(0x80000000u, LEAST);
const ONE = Wide(0x80000000u, 0);

// 2^e for e <= 0; below the range of f32 it stays at its end, too small to matter.
fn power(e: i32) -> f32 {
  return bitcast<f32>(u32(max(e, -126) + 127) << 23u);
}

fn widened(x: Scaled) -> Wide {
  let bits = bitcast<u32>(x.m);
  return Wide(((bits & 0x7fffffu) | 0x800000u) << 8u, x.e + i32(bits >> 23u) - 127);
}

// m >> (2 + places), rounded.
fn shifted(m: u32, places: i32) -> u32 {
  return select(0u, ((m >> u32(places + 1)) + 1u) >> 1u, places < 31);
}

fn sum3(a: Wide, b: Wide, c: Wide) -> Wide {
  let e = max(a.e, max(b.e, c.e));
  let m = shifted(a.m, min(e - a.e, 31)) + shifted(b.m, min(e - b.e, 31)) + shifted(c.m, min(e - c.e, 31));
  let spare = countLeadingZeros(m);
  return Wide(m << spare, e + 2 - i32(spare));
}

fn product(a: Wide, b: Wide) -> Wide {
  // The upper half of the 64-bit product, by halves of 16 bits.
  let low = (a.m & 0xffffu) * (b.m & 0xffffu);
  let middle = (a.m >> 16u) * (b.m & 0xffffu) + (low >> 16u);
  let other = (a.m & 0xffffu) * (b.m >> 16u) + (middle & 0xffffu);
  let m = (a.m >> 16u) * (b.m >> 16u) + (middle >> 16u) + (other >> 16u);
  let spare = countLeadingZeros(m);
  return Wide(m << spare, max(a.e + b.e + 1 - i32(spare), LEAST));
}

// exp(x), 0.7 < m < 1.42, to a few 1e-8 whatever x: x - k·ln 2 with ln 2 in two parts, then the polynomial of Cephes'
// expf. Beyond +-1e5 (and for -inf) the end of that range.
fn exp_scaled(logit: f32) -> Scaled {
  let x = clamp(logit, -1e5, 1e5);
  let k = round(x * 1.44269504);
  let r = fma(k, 2.12194440e-4, fma(k, -0.693359375, x));
  var p = fma(r, 1.9875691500e-4, 1.3981999507e-3);
  p = fma(r, p, 8.3334519073e-3);
  p = fma(r, p, 4.1665795894e-2);
  p = fma(r, p, 1.6666665459e-1);
  p = fma(r, p, 5.0000001201e-1);
  return Scaled(1.0 + fma(r * r, p, r), i32(k));
}

// log(1 + f), -0.3 < f < 0.42, exact near 0: 2·artanh(f / (2 + f)).
fn log_near_1(f: f32) -> f32 {
  let s = f / (2.0 + f);
  let z = s * s;
  return 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z / 11.0)))));
}

fn log_wide(w: Wide) -> f32 {
  // From sqrt(2) on as half of it. The differences from 1 are exact integers.
  let big = w.m > 0xb504f333u;
  let f = select(f32(w.m - 0x80000000u) * 0x1p-31, f32(0u - w.m) * -0x1p-32, big);
  return fma(f32(w.e + select(0, 1, big)), 0.69314718, log_near_1(f));
}

// log(1 + x), x >= 0.
fn log1p(x: f32) -> f32 {
  if (x < 0.4) { return log_near_1(x); }
  return log_wide(widened(Scaled(1.0 + x, 0)));
}

// p(class) / p(likeliest class) in a frame, from the logit of the class.
fn relative(logit: f32, class_: u32, frame: Frame) -> Scaled {
  let y = exp_scaled(logit);
  return Scaled(select(y.m / frame.m, 1.0, class_ == frame.top), y.e - frame.e);
}

fn emission(at: u32, class_: u32, frame: Frame) -> Scaled {
  return relative(f32(logits[at * d.V + class_]), class_, frame);
}

fn probability(at: u32, class_: u32, frame: Frame) -> f32 {
  let y = emission(at, class_, frame);
  return y.m * power(y.e) / (1.0 + frame.others);
}

fn is_finite(bits: u32) -> bool {
  return (bits & INF_BITS) != INF_BITS;
}

@compute @workgroup_size(WG)
fn measure(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = wg.y * d.T + wg.x;
  var best = -3.4028234e38;
  var broken = 0;
  for (var c = lane; c < d.V; c += WG) {
    let x = f32(logits[at * d.V + c]);
    let bits = bitcast<u32>(x);
    // -inf is a class of probability 0; +inf and NaN are no logits.
    if (!is_finite(bits) && bits != 0xff800000u) { broken = 1; } else { best = max(best, x); }
  }
  let peak = workgroup_max(lane, best);
  broken = workgroup_max_i(lane, broken);
  var found = 0;
  for (var c = lane; c < d.V; c += WG) {
    if (found == 0 && f32(logits[at * d.V + c]) == peak) { found = i32(d.V - c); }
  }
  found = workgroup_max_i(lane, found);
  // No class is possible: as little a distribution as NaN.
  if (found == 0) { broken = 1; }
  let top = d.V - u32(found);
  let y = exp_scaled(peak);
  let frame = Frame(y.m, y.e, 0.0, top);
  var others = 0.0;
  for (var c = lane; c < d.V; c += WG) {
    if (c != top) {
      let r = emission(at, c, frame);
      others += r.m * power(r.e);
    }
  }
  others = workgroup_sum(lane, others);
  if (lane == 0u) { framesOut[at] = Frame(y.m, y.e, others, select(top, NOT_A_FRAME, broken != 0)); }
}

var<workgroup> row: array<Wide, 2 * CAP>;

// The n-th frame that a walk over T frames comes to.
fn frame_at(b: u32, n: u32, T: u32, mirrored: bool) -> u32 { return b * d.T + select(n, T - 1u - n, mirrored); }

// Beta leaves out the emission of its own frame.
fn remember(at: u32, s: u32, S: u32, mirrored: bool, sum: Wide, next: Wide) {
#if ${tracked}
  if (mirrored) { betaOut[at * d.S + S - 1u - s] = sum; } else { alphaOut[at * d.S + s] = next; }
#endif
}

// One workgroup walks one sample in one direction: y = 0 forwards (alpha), y = 1 backwards. Backwards is the same walk
// over the mirrored sequence. Two rows take turns: one barrier a frame.
// State s lies at s + 2; before the first frame all probability lies in state -1.
@compute @workgroup_size(WG)
fn lattice(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = wg.x;
  let mirrored = wg.y == 1u;
  let sample = samples[b];
  let T = sample.frames;
  let S = 2u * sample.labels + 1u;
  if (sample.fate != POSSIBLE) {
    if (lane == 0u && !mirrored) { nllOut[b] = select(0u, INF_BITS, sample.fate == INFINITE); }
    return;
  }
  for (var i = lane; i < S + 2u; i += WG) {
    row[i] = NOTHING;
    row[CAP + i] = NOTHING;
  }
  workgroupBarrier();
  if (lane == 0u) { row[1] = ONE; }
  workgroupBarrier();
#if ${HELD}
  // What comes before and after the barrier of a frame is the next one's emission and the logits of the one after that:
  // nothing that waits for memory stands between two barriers.
  let at_first = frame_at(b, 0u, max(T, 1u), mirrored);
#unroll h HELD
  let s_$h = lane + $hu * WG;
  let label_$h = labels[b * d.L + min(select(s_$h / 2u, sample.labels - 1u - s_$h / 2u, mirrored), d.L - 1u)];
  let odd_$h = (s_$h & 1u) == 1u;
  let class_$h = select(d.blank, label_$h.id, odd_$h);
  // A blank must stand between two equal labels.
  let skips_$h = odd_$h && (label_$h.links & select(SAME_BEFORE, SAME_AFTER, mirrored)) == 0u;
  var emitted_$h = widened(emission(at_first, class_$h, frames[at_first]));
#endunroll
  var soon = frame_at(b, min(1u, max(T, 1u) - 1u), max(T, 1u), mirrored);
  var soonFrame = frames[soon];
#unroll h HELD
  var logit_$h = f32(logits[soon * d.V + class_$h]);
#endunroll
  for (var n = 0u; n < T; n++) {
    let at = frame_at(b, n, T, mirrored);
    let before = (n & 1u) * CAP;
    let after = CAP - before;
    if (lane == 0u) { row[after + 1u] = NOTHING; }
#unroll h HELD
    if (s_$h < S) {
      let stay = row[before + s_$h + 2u];
      let step = row[before + s_$h + 1u];
      var skip = NOTHING;
      if (skips_$h) { skip = row[before + s_$h]; }
      let sum = sum3(stay, step, skip);
      let next = product(sum, emitted_$h);
      row[after + s_$h + 2u] = next;
      remember(at, s_$h, S, mirrored, sum, next);
    }
    emitted_$h = widened(relative(logit_$h, class_$h, soonFrame));
#endunroll
    soon = frame_at(b, min(n + 2u, T - 1u), T, mirrored);
    soonFrame = frames[soon];
#unroll h HELD
    logit_$h = f32(logits[soon * d.V + class_$h]);
#endunroll
    workgroupBarrier();
  }
#else
  for (var n = 0u; n < T; n++) {
    let at = frame_at(b, n, T, mirrored);
    let frame = frames[at];
    let before = (n & 1u) * CAP;
    let after = CAP - before;
    if (lane == 0u) { row[after + 1u] = NOTHING; }
    for (var s = lane; s < S; s += WG) {
      let stay = row[before + s + 2u];
      let step = row[before + s + 1u];
      var skip = NOTHING;
      var class_ = d.blank;
      if ((s & 1u) == 1u) {
        let label = labels[b * d.L + select(s / 2u, sample.labels - 1u - s / 2u, mirrored)];
        class_ = label.id;
        // A blank must stand between two equal labels.
        if ((label.links & select(SAME_BEFORE, SAME_AFTER, mirrored)) == 0u) { skip = row[before + s]; }
      }
      let sum = sum3(stay, step, skip);
      let next = product(sum, widened(emission(at, class_, frame)));
      row[after + s + 2u] = next;
      remember(at, s, S, mirrored, sum, next);
    }
    workgroupBarrier();
  }
#endif
  if (mirrored) { return; }
  var cost = 0.0;
  var broken = 0;
  for (var t = lane; t < T; t += WG) {
    let frame = frames[b * d.T + t];
    cost += log1p(frame.others);
    broken = max(broken, select(0, 1, frame.top == NOT_A_FRAME));
  }
  cost = workgroup_sum(lane, cost);
  broken = workgroup_max_i(lane, broken);
  if (lane == 0u) {
    // The last label or the blank after it. Without labels the state before the only blank holds nothing, unless there
    // was no frame: then it holds all.
    let end = (T & 1u) * CAP + S;
    let p = sum3(row[end], row[end + 1u], NOTHING);
    nllOut[b] = select(bitcast<u32>(cost - log_wide(p)), NAN_BITS, broken != 0);
  }
}

// The weighted sum of the samples' losses, in their order.
@compute @workgroup_size(1)
fn reduce() {
  var sum = 0.0;
  var odd = 0u;
  for (var b = 0u; b < d.B; b++) {
    if (is_finite(nll[b])) { sum += samples[b].scale * bitcast<f32>(nll[b]); } else { odd |= nll[b]; }
  }
  loss[0] = select(bitcast<u32>(sum), odd, odd != 0u);
}

// What a sample's gradient is multiplied with: NaN if its loss is not finite, 0 if that was waived.
@compute @workgroup_size(WG)
fn weigh(@builtin(global_invocation_id) id: vec3u) {
  let b = id.x;
  if (b >= d.B) { return; }
  let g = select(dy[b * d.dyStride] * samples[b].scale, 0.0, samples[b].fate == ZEROED);
  dnllOut[b] = select(NAN_BITS, bitcast<u32>(g), is_finite(nll[b]));
}

var<workgroup> share: array<f32, CAP>;

fn keep_bits(i: u32, bits: u32) {
#if ${half}
  dlogits[i] = ${X}(bitcast<f32>(bits));
#else
  dlogits[i] = bits;
#endif
}

// One workgroup a frame: softmax - posterior, the posterior being alpha·beta over its sum in this very frame.
@compute @workgroup_size(WG)
fn gradient(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = wg.y;
  let at = b * d.T + wg.x;
  let sample = samples[b];
  let inside = wg.x < sample.frames;
  if (!inside || !is_finite(dnll[b]) || sample.fate == ZEROED) {
    for (var c = lane; c < d.V; c += WG) { keep_bits(at * d.V + c, select(0u, dnll[b], inside)); }
    return;
  }
  let weight = bitcast<f32>(dnll[b]);
  let frame = frames[at];
  let S = 2u * sample.labels + 1u;
  var largest = 2 * LEAST;
  for (var s = lane; s < S; s += WG) { largest = max(largest, alpha[at * d.S + s].e + beta[at * d.S + s].e); }
  largest = workgroup_max_i(lane, largest);
  var sum = 0.0;
  var blanks = 0.0;
  for (var s = lane; s < S; s += WG) {
    let a = alpha[at * d.S + s];
    let z = beta[at * d.S + s];
    let v = (f32(a.m) * 0x1p-31) * (f32(z.m) * 0x1p-31) * power(a.e + z.e - largest);
    share[s] = v;
    sum += v;
    blanks += select(v, 0.0, (s & 1u) == 1u);
  }
  sum = workgroup_sum(lane, sum);
  blanks = workgroup_sum(lane, blanks);

  // A row of the gradient sums to zero, so that of the likeliest class is minus the rest. Its own 1 - 1 would leave only
  // rounding once the model is sure.
  var rest = 0.0;
  for (var c = lane; c < d.V; c += WG) {
    if (c == frame.top) { continue; }
    let p = probability(at, c, frame);
    rest += p;
    keep_bits(at * d.V + c, bitcast<u32>(weight * p));
  }
  storageBarrier();
  for (var j = lane; j <= sample.labels; j += WG) {
    var class_ = d.blank;
    var v = blanks;
    if (j < sample.labels) {
      let label = labels[b * d.L + j];
      if ((label.links & FIRST) == 0u) { continue; }
      class_ = label.id;
      v = share[2u * j + 1u];
      for (var k = label.links & NEXT; k != 0u; k = labels[b * d.L + k - 1u].links & NEXT) { v += share[2u * k - 1u]; }
    }
    if (class_ == frame.top) { continue; }
    let posterior = v / sum;
    rest -= posterior;
    keep_bits(at * d.V + class_, bitcast<u32>(weight * (probability(at, class_, frame) - posterior)));
  }
  rest = workgroup_sum(lane, rest);
  if (lane == 0u) { keep_bits(at * d.V + frame.top, bitcast<u32>(-weight * rest)); }
}
