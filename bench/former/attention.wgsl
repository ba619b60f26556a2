// attention: softmax(scale·q·kᵀ) v without a T×T matrix; padded keys masked out; queries and keys of any two lengths.
//   forward        q (B,Tq,·) k v (B,Tk,·) mask (B,Tk)  -> o (B,Tq,H·D) lse (B,H,Tq)
//   backward_delta o do (B,Tq,H·D)                      -> delta (B,H,Tq)
//   backward_q     q k v mask lse delta do              -> dq, laid out as q
//   backward_kv    q k v mask lse delta do              -> dk and dv in one buffer, laid out as k and v
//   probabilities  q k mask lse                         -> p (B,H,Tq,Tk)     only for those who ask to see it
//
// One thread owns one query (backward_kv: one key) of one head and walks over the others in tiles of 16. Its sums stay in
// the output row itself: any head size, no workgroup memory. With subgroups each lane loads one row of the tile and hands
// it round by broadcast; without, every thread reads the row (one address for all of them).
//
// Softmax is online (Milakov & Gimelshein 2018; Dao 2022): m the largest score so far, l the sum of exp(s - m), and
// lse = m + ln l, from which the backward rebuilds p = exp(s - lse). With P∘ the dropped-out p and delta = do·o:
//   dv = P∘ᵀ do     ds = p·(keep·(do·v) - delta)     dq = scale·ds k     dk = scale·dsᵀ q
// A masked key scores LOWEST: its weight is 0 unless all keys are masked, when all weigh the same, as in transformers.
// vec: D and every row length are multiples of 4 and an element is a vec4.
${enables}
override WG: u32 = 8;
const LOWEST = -3.0e38;
const TILE = 16u;

struct Dims {
  B: u32, H: u32, Tq: u32, Tk: u32, D: u32, quads: u32,
  qRow: u32, qStart: u32, kRow: u32, kStart: u32, vRow: u32, vStart: u32,
  hasMask: u32, scale: f32,
  seed: u32, dropBelow: u32, keep: f32,
}

#if ${vec}
alias E = vec4f;
#else
alias E = f32;
#endif
@group(0) @binding(0) var<storage, read> q: array<E>;
@group(0) @binding(1) var<storage, read> k: array<E>;
@group(0) @binding(2) var<storage, read> v: array<E>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> o: array<E>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<uniform> d: Dims;
@group(0) @binding(7) var<storage, read> savedLse: array<f32>;
@group(0) @binding(8) var<storage, read> savedO: array<E>;
@group(0) @binding(9) var<storage, read> dO: array<E>;
@group(0) @binding(10) var<storage, read_write> dq: array<E>;
@group(0) @binding(11) var<storage, read_write> delta: array<f32>;
@group(0) @binding(12) var<storage, read> savedDelta: array<f32>;
@group(0) @binding(13) var<storage, read_write> dkv: array<E>;
@group(0) @binding(15) var<storage, read_write> p: array<f32>;

#include "lib/random.wgsl"

// Where head h of row t begins, in floats; `start` skips to q, k or v inside a packed row.
fn place(b: u32, t: u32, T: u32, row: u32, start: u32, h: u32) -> u32 {
  return (b * T + min(t, T - 1u)) * row + start + h * d.D;
}

#if ${vec}
fn load_q(at: u32, c: u32) -> vec4f { return q[(at >> 2u) + c]; }
fn load_k(at: u32, c: u32) -> vec4f { return k[(at >> 2u) + c]; }
fn load_v(at: u32, c: u32) -> vec4f { return v[(at >> 2u) + c]; }
fn load_dO(at: u32, c: u32) -> vec4f { return dO[(at >> 2u) + c]; }
fn load_savedO(at: u32, c: u32) -> vec4f { return savedO[(at >> 2u) + c]; }
fn load_o(at: u32, c: u32) -> vec4f { return o[(at >> 2u) + c]; }
fn load_dq(at: u32, c: u32) -> vec4f { return dq[(at >> 2u) + c]; }
fn load_dkv(at: u32, c: u32) -> vec4f { return dkv[(at >> 2u) + c]; }
fn store_o(at: u32, c: u32, x: vec4f) { o[(at >> 2u) + c] = x; }
fn store_dq(at: u32, c: u32, x: vec4f) { dq[(at >> 2u) + c] = x; }
fn store_dkv(at: u32, c: u32, x: vec4f) { dkv[(at >> 2u) + c] = x; }
#else
// One float a step: the other three lanes stay zero.
fn load_q(at: u32, c: u32) -> vec4f { return vec4f(q[at + c], 0.0, 0.0, 0.0); }
fn load_k(at: u32, c: u32) -> vec4f { return vec4f(k[at + c], 0.0, 0.0, 0.0); }
fn load_v(at: u32, c: u32) -> vec4f { return vec4f(v[at + c], 0.0, 0.0, 0.0); }
fn load_dO(at: u32, c: u32) -> vec4f { return vec4f(dO[at + c], 0.0, 0.0, 0.0); }
fn load_savedO(at: u32, c: u32) -> vec4f { return vec4f(savedO[at + c], 0.0, 0.0, 0.0); }
fn load_o(at: u32, c: u32) -> vec4f { return vec4f(o[at + c], 0.0, 0.0, 0.0); }
fn load_dq(at: u32, c: u32) -> vec4f { return vec4f(dq[at + c], 0.0, 0.0, 0.0); }
fn load_dkv(at: u32, c: u32) -> vec4f { return vec4f(dkv[at + c], 0.0, 0.0, 0.0); }
fn store_o(at: u32, c: u32, x: vec4f) { o[at + c] = x.x; }
fn store_dq(at: u32, c: u32, x: vec4f) { dq[at + c] = x.x; }
fn store_dkv(at: u32, c: u32, x: vec4f) { dkv[at + c] = x.x; }
#endif

fn chain(x: vec4f, y: vec4f, sum: f32) -> f32 {
  return fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, sum))));
}

// 1 if key t may be looked at.
fn open(b: u32, t: u32) -> f32 {
  if (d.hasMask == 0u) { return 1.0; }
  return select(0.0, 1.0, mask[b * d.Tk + min(t, d.Tk - 1u)] != 0u);
}

// What dropout makes of the weight of (query, key): 0, or 1/(1 - rate).
fn kept(b: u32, h: u32, tq: u32, tk: u32) -> f32 {
  if (d.dropBelow == 0u) { return 1.0; }
  let index = ((b * d.H + h) * d.Tq + tq) * d.Tk + tk;
  return select(0.0, d.keep, random_bits(d.seed, index) >= d.dropBelow);
}

// The weight of a key by its score, rebuilt from lse. In a sample without an open key lse is LOWEST too (the log is lost
// in so large a number), and the difference would say 1.
fn weigh(score: f32, z: f32) -> f32 {
  return select(exp(score - z), 1.0 / f32(d.Tk), z <= LOWEST);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = wg.x * WG + lane;
  let h = wg.y;
  let b = wg.z;
  let mine = place(b, t, d.Tq, d.qRow, d.qStart, h);
  let out = place(b, t, d.Tq, d.H * d.D, 0u, h);
  // A thread past the last query works on a copy of it, for the broadcasts, and writes nothing.
  let alive = t < d.Tq;
  if (alive) { for (var c = 0u; c < d.quads; c++) { store_o(out, c, vec4f(0.0)); } }
  var m = LOWEST;
  var l = 0.0;
  for (var k0 = 0u; k0 < d.Tk; k0 += TILE) {
    var s: array<f32, 16>;
#unroll j 16
    s[$j] = 0.0;
#endunroll
#if ${subgroups}
#unroll i LOADS
    let keyAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.kRow, d.kStart, h);
    let valueAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.vRow, d.vStart, h);
    let open$i = open(b, k0 + $iu * WG + lane);
#endunroll
#endif
    for (var c = 0u; c < d.quads; c++) {
      let x = load_q(mine, c);
#if ${subgroups}
#unroll i LOADS
      let key$i = load_k(keyAt$i, c);
#unroll j HELD
      s[$i * ${HELD} + $j] = chain(x, subgroupBroadcast(key$i, $ju), s[$i * ${HELD} + $j]);
#endunroll
#endunroll
#else
#unroll j 16
      s[$j] = chain(x, load_k(place(b, k0 + $ju, d.Tk, d.kRow, d.kStart, h), c), s[$j]);
#endunroll
#endif
    }
    var top = m;
#if ${subgroups}
#unroll i LOADS
#unroll j HELD
    s[$i * ${HELD} + $j] = select(LOWEST, s[$i * ${HELD} + $j] * d.scale, subgroupBroadcast(open$i, $ju) > 0.0);
#endunroll
#endunroll
#else
#unroll j 16
    s[$j] = select(LOWEST, s[$j] * d.scale, open(b, k0 + $ju) > 0.0);
#endunroll
#endif
#unroll j 16
    top = max(top, select(LOWEST, s[$j], k0 + $ju < d.Tk));
#endunroll
    let shrink = exp(m - top);
    l *= shrink;
    m = top;
#unroll j 16
    s[$j] = select(0.0, exp(s[$j] - top), k0 + $ju < d.Tk);
    l += s[$j];
    s[$j] *= kept(b, h, t, k0 + $ju);
#endunroll
    for (var c = 0u; c < d.quads; c++) {
      var sum = load_o(out, c) * shrink;
#if ${subgroups}
#unroll i LOADS
      let value$i = load_v(valueAt$i, c);
#unroll j HELD
      sum = fma(vec4f(s[$i * ${HELD} + $j]), subgroupBroadcast(value$i, $ju), sum);
#endunroll
#endunroll
#else
#unroll j 16
      sum = fma(vec4f(s[$j]), load_v(place(b, k0 + $ju, d.Tk, d.vRow, d.vStart, h), c), sum);
#endunroll
#endif
      if (alive) { store_o(out, c, sum); }
    }
  }
  if (alive) {
    for (var c = 0u; c < d.quads; c++) { store_o(out, c, load_o(out, c) / l); }
    lse[(b * d.H + h) * d.Tq + t] = m + log(l);
  }
}

@compute @workgroup_size(WG)
fn probabilities(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tk = wg.x * WG + lane;
  let tq = wg.y;
  let h = wg.z % d.H;
  let b = wg.z / d.H;
  if (tk >= d.Tk) { return; }
  let x = place(b, tq, d.Tq, d.qRow, d.qStart, h);
  let y = place(b, tk, d.Tk, d.kRow, d.kStart, h);
  var s = 0.0;
  for (var c = 0u; c < d.quads; c++) { s = chain(load_q(x, c), load_k(y, c), s); }
  s = select(LOWEST, s * d.scale, open(b, tk) > 0.0);
  let row = wg.z * d.Tq + tq;
  p[row * d.Tk + tk] = weigh(s, savedLse[row]);
}

@compute @workgroup_size(WG)
fn backward_delta(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = wg.x * WG + lane;
  if (t >= d.Tq) { return; }
  let at = place(wg.z, t, d.Tq, d.H * d.D, 0u, wg.y);
  var sum = 0.0;
  for (var c = 0u; c < d.quads; c++) { sum = chain(load_dO(at, c), load_savedO(at, c), sum); }
  delta[(wg.z * d.H + wg.y) * d.Tq + t] = sum;
}

@compute @workgroup_size(WG)
fn backward_q(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = wg.x * WG + lane;
  let h = wg.y;
  let b = wg.z;
  let mine = place(b, t, d.Tq, d.qRow, d.qStart, h);
  let out = place(b, t, d.Tq, d.H * d.D, 0u, h);
  let stat = (b * d.H + h) * d.Tq + min(t, d.Tq - 1u);
  let alive = t < d.Tq;
  if (alive) { for (var c = 0u; c < d.quads; c++) { store_dq(mine, c, vec4f(0.0)); } }
  let z = savedLse[stat];
  let del = savedDelta[stat];
  for (var k0 = 0u; k0 < d.Tk; k0 += TILE) {
    var s: array<f32, 16>;
    var g: array<f32, 16>;
#unroll j 16
    s[$j] = 0.0;
    g[$j] = 0.0;
#endunroll
#if ${subgroups}
#unroll i LOADS
    let keyAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.kRow, d.kStart, h);
    let valueAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.vRow, d.vStart, h);
    let open$i = open(b, k0 + $iu * WG + lane);
#endunroll
#endif
    for (var c = 0u; c < d.quads; c++) {
      let x = load_q(mine, c);
      let y = load_dO(out, c);
#if ${subgroups}
#unroll i LOADS
      let key$i = load_k(keyAt$i, c);
      let value$i = load_v(valueAt$i, c);
#unroll j HELD
      s[$i * ${HELD} + $j] = chain(x, subgroupBroadcast(key$i, $ju), s[$i * ${HELD} + $j]);
      g[$i * ${HELD} + $j] = chain(y, subgroupBroadcast(value$i, $ju), g[$i * ${HELD} + $j]);
#endunroll
#endunroll
#else
#unroll j 16
      s[$j] = chain(x, load_k(place(b, k0 + $ju, d.Tk, d.kRow, d.kStart, h), c), s[$j]);
      g[$j] = chain(y, load_v(place(b, k0 + $ju, d.Tk, d.vRow, d.vStart, h), c), g[$j]);
#endunroll
#endif
    }
#if ${subgroups}
#unroll i LOADS
#unroll j HELD
    s[$i * ${HELD} + $j] = select(LOWEST, s[$i * ${HELD} + $j] * d.scale, subgroupBroadcast(open$i, $ju) > 0.0);
#endunroll
#endunroll
#else
#unroll j 16
    s[$j] = select(LOWEST, s[$j] * d.scale, open(b, k0 + $ju) > 0.0);
#endunroll
#endif
#unroll j 16
    s[$j] = select(0.0, weigh(s[$j], z) * (kept(b, h, t, k0 + $ju) * g[$j] - del) * d.scale, k0 + $ju < d.Tk);
#endunroll
    for (var c = 0u; c < d.quads; c++) {
      var sum = load_dq(mine, c);
#if ${subgroups}
#unroll i LOADS
      let key$i = load_k(keyAt$i, c);
#unroll j HELD
      sum = fma(vec4f(s[$i * ${HELD} + $j]), subgroupBroadcast(key$i, $ju), sum);
#endunroll
#endunroll
#else
#unroll j 16
      sum = fma(vec4f(s[$j]), load_k(place(b, k0 + $ju, d.Tk, d.kRow, d.kStart, h), c), sum);
#endunroll
#endif
      if (alive) { store_dq(mine, c, sum); }
    }
  }
}

@compute @workgroup_size(WG)
fn backward_kv(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = wg.x * WG + lane;
  let h = wg.y;
  let b = wg.z;
  let myKey = place(b, t, d.Tk, d.kRow, d.kStart, h);
  let myValue = place(b, t, d.Tk, d.vRow, d.vStart, h);
  let alive = t < d.Tk;
  let isOpen = open(b, t) > 0.0;
  if (alive) {
    for (var c = 0u; c < d.quads; c++) {
      store_dkv(myKey, c, vec4f(0.0));
      store_dkv(myValue, c, vec4f(0.0));
    }
  }
  for (var q0 = 0u; q0 < d.Tq; q0 += TILE) {
    var s: array<f32, 16>;
    var g: array<f32, 16>;
#unroll j 16
    s[$j] = 0.0;
    g[$j] = 0.0;
#endunroll
#if ${subgroups}
#unroll i LOADS
    let queryAt$i = place(b, q0 + $iu * WG + lane, d.Tq, d.qRow, d.qStart, h);
    let outAt$i = place(b, q0 + $iu * WG + lane, d.Tq, d.H * d.D, 0u, h);
#endunroll
#endif
    for (var c = 0u; c < d.quads; c++) {
      let x = load_k(myKey, c);
      let y = load_v(myValue, c);
#if ${subgroups}
#unroll i LOADS
      let query$i = load_q(queryAt$i, c);
      let dOut$i = load_dO(outAt$i, c);
#unroll j HELD
      s[$i * ${HELD} + $j] = chain(subgroupBroadcast(query$i, $ju), x, s[$i * ${HELD} + $j]);
      g[$i * ${HELD} + $j] = chain(subgroupBroadcast(dOut$i, $ju), y, g[$i * ${HELD} + $j]);
#endunroll
#endunroll
#else
#unroll j 16
      s[$j] = chain(load_q(place(b, q0 + $ju, d.Tq, d.qRow, d.qStart, h), c), x, s[$j]);
      g[$j] = chain(load_dO(place(b, q0 + $ju, d.Tq, d.H * d.D, 0u, h), c), y, g[$j]);
#endunroll
#endif
    }
    // s becomes the dropped-out weight, for dv; g becomes ds, for dk.
#unroll j 16
    {
      let tq = min(q0 + $ju, d.Tq - 1u);
      let stat = (b * d.H + h) * d.Tq + tq;
      let weight = select(0.0, weigh(select(LOWEST, s[$j] * d.scale, isOpen), savedLse[stat]), q0 + $ju < d.Tq);
      let keep = kept(b, h, tq, t);
      s[$j] = weight * keep;
      g[$j] = weight * (keep * g[$j] - savedDelta[stat]) * d.scale;
    }
#endunroll
    for (var c = 0u; c < d.quads; c++) {
      var sumK = load_dkv(myKey, c);
      var sumV = load_dkv(myValue, c);
#if ${subgroups}
#unroll i LOADS
      let query$i = load_q(queryAt$i, c);
      let dOut$i = load_dO(outAt$i, c);
#unroll j HELD
      sumK = fma(vec4f(g[$i * ${HELD} + $j]), subgroupBroadcast(query$i, $ju), sumK);
      sumV = fma(vec4f(s[$i * ${HELD} + $j]), subgroupBroadcast(dOut$i, $ju), sumV);
#endunroll
#endunroll
#else
#unroll j 16
      sumK = fma(vec4f(g[$j]), load_q(place(b, q0 + $ju, d.Tq, d.qRow, d.qStart, h), c), sumK);
      sumV = fma(vec4f(s[$j]), load_dO(place(b, q0 + $ju, d.Tq, d.H * d.D, 0u, h), c), sumV);
#endunroll
#endif
      if (alive) {
        store_dkv(myKey, c, sumK);
        store_dkv(myValue, c, sumV);
      }
    }
  }
}
