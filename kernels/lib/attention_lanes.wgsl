// attention without workgroup memory. One thread owns one query (backward_kv: one key) of one head and walks over the others
// in tiles of 16. Its sums stay in the output row itself: any head size. With subgroups each lane loads one row of the tile
// and hands it round by broadcast; without, every thread reads the row (one address for all of them).
override WG: u32 = 8;
const TILE = 16u;

#if ${vec}
fn load_q(at: u32, c: u32) -> vec4f { return vec4f(q[(at >> 2u) + c]); }
fn load_k(at: u32, c: u32) -> vec4f { return vec4f(k[(at >> 2u) + c]); }
fn load_v(at: u32, c: u32) -> vec4f { return vec4f(v[(at >> 2u) + c]); }
fn load_dO(at: u32, c: u32) -> vec4f { return vec4f(dO[(at >> 2u) + c]); }
fn load_savedO(at: u32, c: u32) -> vec4f { return vec4f(savedO[(at >> 2u) + c]); }
fn load_o(at: u32, c: u32) -> vec4f { return vec4f(o[(at >> 2u) + c]); }
fn load_dq(at: u32, c: u32) -> vec4f { return vec4f(dq[(at >> 2u) + c]); }
fn load_dkv(at: u32, c: u32) -> vec4f { return vec4f(dkv[(at >> 2u) + c]); }
fn store_o(at: u32, c: u32, x: vec4f) { o[(at >> 2u) + c] = E(x); }
fn store_dq(at: u32, c: u32, x: vec4f) { dq[(at >> 2u) + c] = E(x); }
fn store_dkv(at: u32, c: u32, x: vec4f) { dkv[(at >> 2u) + c] = E(x); }
#else
// One float a step: the other three lanes stay zero.
fn load_q(at: u32, c: u32) -> vec4f { return vec4f(f32(q[at + c]), 0.0, 0.0, 0.0); }
fn load_k(at: u32, c: u32) -> vec4f { return vec4f(f32(k[at + c]), 0.0, 0.0, 0.0); }
fn load_v(at: u32, c: u32) -> vec4f { return vec4f(f32(v[at + c]), 0.0, 0.0, 0.0); }
fn load_dO(at: u32, c: u32) -> vec4f { return vec4f(f32(dO[at + c]), 0.0, 0.0, 0.0); }
fn load_savedO(at: u32, c: u32) -> vec4f { return vec4f(f32(savedO[at + c]), 0.0, 0.0, 0.0); }
fn load_o(at: u32, c: u32) -> vec4f { return vec4f(f32(o[at + c]), 0.0, 0.0, 0.0); }
fn load_dq(at: u32, c: u32) -> vec4f { return vec4f(f32(dq[at + c]), 0.0, 0.0, 0.0); }
fn load_dkv(at: u32, c: u32) -> vec4f { return vec4f(f32(dkv[at + c]), 0.0, 0.0, 0.0); }
fn store_o(at: u32, c: u32, x: vec4f) { o[at + c] = E(x.x); }
fn store_dq(at: u32, c: u32, x: vec4f) { dq[at + c] = E(x.x); }
fn store_dkv(at: u32, c: u32, x: vec4f) { dkv[at + c] = E(x.x); }
#endif

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
#unroll i HOLDS
    let keyAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.kRow, d.kStart, h);
    let valueAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.vRow, d.vStart, h);
    let open$i = open(b, k0 + $iu * WG + lane);
#endunroll
#endif
    for (var c = 0u; c < d.quads; c++) {
      let x = load_q(mine, c);
#if ${subgroups}
#unroll i HOLDS
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
#unroll i HOLDS
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
#unroll i HOLDS
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
#unroll i HOLDS
    let keyAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.kRow, d.kStart, h);
    let valueAt$i = place(b, k0 + $iu * WG + lane, d.Tk, d.vRow, d.vStart, h);
    let open$i = open(b, k0 + $iu * WG + lane);
#endunroll
#endif
    for (var c = 0u; c < d.quads; c++) {
      let x = load_q(mine, c);
      let y = load_dO(out, c);
#if ${subgroups}
#unroll i HOLDS
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
#unroll i HOLDS
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
#unroll i HOLDS
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
#unroll i HOLDS
    let queryAt$i = place(b, q0 + $iu * WG + lane, d.Tq, d.qRow, d.qStart, h);
    let outAt$i = place(b, q0 + $iu * WG + lane, d.Tq, d.H * d.D, 0u, h);
#endunroll
#endif
    for (var c = 0u; c < d.quads; c++) {
      let x = load_k(myKey, c);
      let y = load_v(myValue, c);
#if ${subgroups}
#unroll i HOLDS
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
#unroll i HOLDS
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
