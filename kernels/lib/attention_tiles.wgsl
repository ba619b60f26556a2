// attention by tiles in workgroup memory. A workgroup of 64 threads owns 32 rows of one head, queries or, in backward_kv,
// keys, and walks over the others, the columns, 32 at a time. With tx = t % 8 and ty = t / 8 a thread has
//   scores   of rows ty + 8i and columns 4·tx + j, i and j below 4
//   sums     of rows ty + 8i: EACH quads of the output, tx + 8j
// Both products read their operands from workgroup memory, a chunk at a time: 10 KiB for any head size.
//
// A head wider than 32·EACH floats is cut into slices, each a workgroup that computes the scores anew: more sums would not
// stay in registers, and such a head is one of few, which would leave most of a GPU idle. dk and dv are workgroups of their
// own for the same two reasons: five products in place of four, half the sums.
//
// ahead: what comes next is on its way while a chunk is multiplied; without, a chunk's registers are free meanwhile.
// A `var` in a loop is given its zero: without, lavapipe leaves it as the iteration before did, through Dawn and wgpu alike.
#include "lib/attention_chunks.wgsl"

@compute @workgroup_size(64) ${subgroupSize}
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b = wg.z;
  let h = wg.y / slices();
  let first = wg.y % slices() * WIDE + t % 8u;
  let q0 = wg.x * 32u;
  let row = q0 + t / 8u;
  var rows: Quads;
  var columns: Quads;
  var taken: Quads;
  var sums: Sums;
  var m = vec4f(LOWEST);
  var l = vec4f(0.0);
  let at = t % CHUNK;
  let qAt = lines_q(t, b, h, q0);
#if ${ahead}
  var kAt = lines_k(t, b, h, 0u);
  fetch_q(&rows, qAt, at);
  fetch_k(&columns, kAt, at);
#endif
  for (var k0 = 0u; k0 < d.Tk; k0 += 32u) {
#if ${ahead}
#else
    let kAt = lines_k(t, b, h, k0);
#endif
    var scores = Quads();
    for (var c = 0u; c < d.quads; c += CHUNK) {
#if ${ahead}
#else
      fetch_q(&rows, qAt, c + at);
      fetch_k(&columns, kAt, c + at);
#endif
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
#if ${ahead}
      if (c + CHUNK < d.quads) {
        fetch_q(&rows, qAt, c + CHUNK + at);
        fetch_k(&columns, kAt, c + CHUNK + at);
      }
#endif
      multiply(t, c, &scores);
    }
#if ${ahead}
    take_v(&taken, t, b, h, k0, first);
#endif
    let key = k0 + t % 8u * 4u;
    let there = vec4u(key) + vec4u(0u, 1u, 2u, 3u) < vec4u(d.Tk);
    let isOpen = open4(b, key);
    var top = m;
#unroll i 4
    scores[$i] = select(vec4f(LOWEST), scores[$i] * d.scale, isOpen);
    let best$i = select(vec4f(LOWEST), scores[$i], there);
    top[$i] = max(max(top[$i], max(best$i.x, best$i.y)), max(best$i.z, best$i.w));
#endunroll
    parts[t] = top;
    workgroupBarrier();
#unroll x 8
    top = max(top, parts[t / 8u * 8u + $xu]);
#endunroll
    let shrink = exp(m - top);
    l *= shrink;
    m = top;
#unroll i 4
#unroll j EACH
    sums[$i * ${EACH} + $j] *= shrink[$i];
#endunroll
    scores[$i] = select(vec4f(0.0), exp(scores[$i] - top[$i]), there);
    l[$i] += (scores[$i].x + scores[$i].y) + (scores[$i].z + scores[$i].w);
#endunroll
    if (d.dropBelow != 0u) {
#unroll i 4
#unroll j 4
      scores[$i][$j] *= drawn(b, h, row + $iu * 8u, key + $ju);
#endunroll
#endunroll
    }
    put_weights(t, &scores);
#if ${ahead}
    kAt = lines_k(t, b, h, k0 + 32u);
    fetch_q(&rows, qAt, at);
    fetch_k(&columns, kAt, at);
#endif
    let count = min(d.Tk - k0, 32u);
    for (var c = 0u; c < count; c += TAKEN) {
#if ${ahead}
#else
      take_v(&taken, t, b, h, k0 + c, first);
#endif
      if (c > 0u) { workgroupBarrier(); }
      put_taken(t, &taken);
      workgroupBarrier();
#if ${ahead}
      if (c + TAKEN < count) {
        take_v(&taken, t, b, h, k0 + c + TAKEN, first);
      }
#endif
      apply(t, c, count, &sums);
    }
  }
  parts[t] = l;
  workgroupBarrier();
  l = vec4f(0.0);
#unroll x 8
  l += parts[t / 8u * 8u + $xu];
#endunroll
#unroll i 4
  if (row + $iu * 8u < d.Tq) {
    let out = start(place(b, row + $iu * 8u, d.Tq, d.H * d.D, 0u, h));
#unroll j EACH
    if (first + $ju * 8u < d.quads) { store_o(out, first + $ju * 8u, sums[$i * ${EACH} + $j] / l[$i]); }
#endunroll
    if (first == 0u) { lse[(b * d.H + h) * d.Tq + row + $iu * 8u] = m[$i] + log(l[$i]); }
  }
#endunroll
}

@compute @workgroup_size(64) ${subgroupSize}
fn probabilities(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let h = wg.z % d.H;
  let b = wg.z / d.H;
  var rows: Quads;
  var columns: Quads;
  var scores: Quads;
  let at = t % CHUNK;
  let qAt = lines_q(t, b, h, wg.y * 32u);
  let kAt = lines_k(t, b, h, wg.x * 32u);
  for (var c = 0u; c < d.quads; c += CHUNK) {
    fetch_q(&rows, qAt, c + at);
    fetch_k(&columns, kAt, c + at);
    workgroupBarrier();
    put_rows(t, &rows);
    put_columns(t, &columns);
    workgroupBarrier();
    multiply(t, c, &scores);
  }
#unroll i 4
#unroll j 4
  {
    let tq = wg.y * 32u + t / 8u + $iu * 8u;
    let tk = wg.x * 32u + t % 8u * 4u + $ju;
    if (tq < d.Tq && tk < d.Tk) {
      let row = wg.z * d.Tq + tq;
      p[row * d.Tk + tk] = weigh(select(LOWEST, scores[$i][$j] * d.scale, open(b, tk) > 0.0), savedLse[row]);
    }
  }
#endunroll
#endunroll
}

#include "lib/attention_tiles_backward.wgsl"
