// attention without workgroup memory. One thread owns one query of one head and walks over the keys in tiles of 16. Its sums stay
// in the output row itself: any head size. With subgroups each lane loads one row of the tile and hands it round by FROM_LANE;
// without, every thread reads the row (one address for all of them).
//
// A backward is products of matrices, which load a quarter of what walks do: the scores and do·v of some queries, and dq, dk and dv
// from what backward_scores makes of them.
//
// A first run waits until llvmpipe has compiled this, which takes the longer the more code there is: a load of a vec4 becomes
// 350 instructions, and what dropout draws for a weight 30. What is done once a score is therefore a loop over fours, through
// whose place the scores rotate. It starts at the tile, not at 0: Mesa unrolls a loop whose rounds it can count.
override WG: u32 = 8;
const TILE = 16u;

@group(0) @binding(14) var<storage, read_write> scores: array<vec4f>;
@group(0) @binding(16) var<storage, read_write> dP: array<vec4f>;

// Element c of a row that begins at `at`: a quad, or one float, whose other three lanes stay zero.
#if ${vec}
fn index(at: u32, c: u32) -> u32 { return (at >> 2u) + c; }
fn wide(x: E) -> vec4f { return vec4f(x); }
fn narrow(x: vec4f) -> E { return E(x); }
#else
fn index(at: u32, c: u32) -> u32 { return at + c; }
fn wide(x: E) -> vec4f { return vec4f(f32(x), 0.0, 0.0, 0.0); }
fn narrow(x: vec4f) -> E { return E(x.x); }
#endif
fn load_q(at: u32, c: u32) -> vec4f { return wide(q[index(at, c)]); }
fn load_k(at: u32, c: u32) -> vec4f { return wide(k[index(at, c)]); }
fn load_v(at: u32, c: u32) -> vec4f { return wide(v[index(at, c)]); }

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
  // A thread past the last query works on a copy of it, for the exchanges, and writes nothing.
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
      s[$i * ${HELD} + $j] = chain(x, ${FROM_LANE}(key$i, $ju), s[$i * ${HELD} + $j]);
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
    s[$i * ${HELD} + $j] = select(LOWEST, s[$i * ${HELD} + $j] * d.scale, ${FROM_LANE}(open$i, $ju) > 0.0);
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
      let y = index(out, c);
      var sum = select(wide(o[y]) * shrink, vec4f(0.0), k0 == 0u);
#if ${subgroups}
#unroll i HOLDS
      let value$i = load_v(valueAt$i, c);
#unroll j HELD
      sum = fma(vec4f(s[$i * ${HELD} + $j]), ${FROM_LANE}(value$i, $ju), sum);
#endunroll
#endunroll
#else
#unroll j 16
      sum = fma(vec4f(s[$j]), load_v(place(b, k0 + $ju, d.Tk, d.vRow, d.vStart, h), c), sum);
#endunroll
#endif
      if (alive) { o[y] = narrow(sum / divisor); }
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

// LOWEST for keys that the mask excludes.
fn masked4(score: vec4f, b: u32, tk: vec4u) -> vec4f {
  if (d.hasMask == 0u) { return score; }
  let isOpen = vec4f(open(b, tk.x), open(b, tk.y), open(b, tk.z), open(b, tk.w)) > vec4f(0.0);
  return select(vec4f(LOWEST), score, isOpen);
}

// Of d.count queries from d.first on. A row has d.quads quads; of those past the last key anything is read, and zeros are written.
@compute @workgroup_size(WG)
fn backward_scores(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = wg.x * WG + lane;
  if (i >= d.count) { return; }
  let h = wg.y;
  let b = wg.z;
  let tq = vec4u(d.first + i);
  let begin = ((b * d.H + h) * d.count + i) * d.quads;
  let z = vec4f(savedLse[(b * d.H + h) * d.Tq + tq.x]);
  var sum = 0.0;
  for (var c = 0u; c < d.quads; c++) {
    let tk = quad(4u * c);
    let weight = select(vec4f(0.0), weigh4(masked4(scores[begin + c], b, tk), z), tk < vec4u(d.Tk));
    scores[begin + c] = weight;
    let part = select(vec4f(0.0), weight * kept4(b, h, tq, tk) * dP[begin + c], tk < vec4u(d.Tk));
    sum += (part.x + part.y) + (part.z + part.w);
  }
  for (var c = 0u; c < d.quads; c++) {
    let tk = quad(4u * c);
    let weight = scores[begin + c];
    let keep = kept4(b, h, tq, tk);
    scores[begin + c] = weight * keep;
    dP[begin + c] = select(vec4f(0.0), d.scale * weight * (keep * dP[begin + c] - sum), tk < vec4u(d.Tk));
  }
}
