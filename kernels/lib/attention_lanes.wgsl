// attention without workgroup memory. One thread owns one query (backward_kv: one key) of one head and walks over the others
// in tiles of 16. Its sums stay in the output row itself: any head size. With subgroups each lane loads one row of the tile
// and hands it round by broadcast; without, every thread reads the row (one address for all of them).
//
// A first run waits until llvmpipe has compiled this, which takes the longer the more code there is: a load of a vec4 becomes
// 350 instructions, and what dropout draws for a weight 30. What is done once a score is therefore a loop over fours, through
// whose place the scores rotate. It starts at the tile, not at 0: Mesa unrolls a loop whose rounds it can count.
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

// The four indexes from `at` on.
fn quad(at: u32) -> vec4u { return at + vec4u(0u, 1u, 2u, 3u); }

fn weigh4(score: vec4f, z: vec4f) -> vec4f {
  return select(exp(score - z), vec4f(1.0 / f32(d.Tk)), z <= vec4f(LOWEST));
}

// drawn() of four, 1 where nothing is dropped.
fn kept4(b: u32, h: u32, tq: vec4u, tk: vec4u) -> vec4f {
  if (d.dropBelow == 0u) { return vec4f(1.0); }
  return vec4f(drawn(b, h, tq.x, tk.x), drawn(b, h, tq.y, tk.y), drawn(b, h, tq.z, tk.z), drawn(b, h, tq.w, tk.w));
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
    for (var k1 = k0; k1 < k0 + TILE; k1 += 4u) {
      let weight = select(vec4f(0.0), exp(vec4f(s[0], s[1], s[2], s[3]) - top), quad(k1) < vec4u(d.Tk));
      l = (((l + weight.x) + weight.y) + weight.z) + weight.w;
      let dropped = weight * kept4(b, h, vec4u(t), quad(k1));
#unroll j 12
      s[$j] = s[$ju + 4u];
#endunroll
#unroll e 4
      s[12 + $e] = dropped[$e];
#endunroll
    }
    // The last tile divides by the sum of all weights.
    let divisor = select(1.0, l, k0 + TILE >= d.Tk);
    for (var c = 0u; c < d.quads; c++) {
      var sum = select(load_o(out, c) * shrink, vec4f(0.0), k0 == 0u);
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
      if (alive) { store_o(out, c, sum / divisor); }
    }
  }
  if (alive) { lse[(b * d.H + h) * d.Tq + t] = m + log(l); }
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
    for (var k1 = k0; k1 < k0 + TILE; k1 += 4u) {
      let weight = weigh4(vec4f(s[0], s[1], s[2], s[3]), vec4f(z));
      let dropped = kept4(b, h, vec4u(t), quad(k1)) * vec4f(g[0], g[1], g[2], g[3]);
      let ds = select(vec4f(0.0), weight * (dropped - del) * d.scale, quad(k1) < vec4u(d.Tk));
#unroll j 12
      s[$j] = s[$ju + 4u];
      g[$j] = g[$ju + 4u];
#endunroll
#unroll e 4
      s[12 + $e] = ds[$e];
#endunroll
    }
    for (var c = 0u; c < d.quads; c++) {
      var sum = select(load_dq(mine, c), vec4f(0.0), k0 == 0u);
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
  let stats = (b * d.H + h) * d.Tq;
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
    for (var q1 = q0; q1 < q0 + TILE; q1 += 4u) {
      let tq = min(quad(q1), vec4u(d.Tq - 1u));
#if ${subgroups}
      // Each lane loads one of the four.
      let stat = stats + min(q1 + lane % 4u, d.Tq - 1u);
      let statLse = savedLse[stat];
      let statDelta = savedDelta[stat];
      let z = vec4f(subgroupBroadcast(statLse, 0u), subgroupBroadcast(statLse, 1u),
                    subgroupBroadcast(statLse, 2u), subgroupBroadcast(statLse, 3u));
      let del = vec4f(subgroupBroadcast(statDelta, 0u), subgroupBroadcast(statDelta, 1u),
                      subgroupBroadcast(statDelta, 2u), subgroupBroadcast(statDelta, 3u));
#else
      let z = vec4f(savedLse[stats + tq.x], savedLse[stats + tq.y], savedLse[stats + tq.z], savedLse[stats + tq.w]);
      let del = vec4f(savedDelta[stats + tq.x], savedDelta[stats + tq.y], savedDelta[stats + tq.z], savedDelta[stats + tq.w]);
#endif
      let score = select(vec4f(LOWEST), vec4f(s[0], s[1], s[2], s[3]) * d.scale, isOpen);
      let weight = select(vec4f(0.0), weigh4(score, z), quad(q1) < vec4u(d.Tq));
      let keep = kept4(b, h, tq, vec4u(t));
      let dropped = weight * keep;
      let ds = weight * (keep * vec4f(g[0], g[1], g[2], g[3]) - del) * d.scale;
#unroll j 12
      s[$j] = s[$ju + 4u];
      g[$j] = g[$ju + 4u];
#endunroll
#unroll e 4
      s[12 + $e] = dropped[$e];
      g[12 + $e] = ds[$e];
#endunroll
    }
    for (var c = 0u; c < d.quads; c++) {
      var sumK = select(load_dkv(myKey, c), vec4f(0.0), q0 == 0u);
      var sumV = select(load_dkv(myValue, c), vec4f(0.0), q0 == 0u);
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
