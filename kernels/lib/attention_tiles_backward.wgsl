// The backward of lib/attention_tiles.wgsl, which says what rows, columns and chunks are.
@compute @workgroup_size(64) ${subgroupSize}
fn backward_delta(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let row = wg.x * 32u + t / 8u;
  var part = vec4f(0.0);
  for (var c = t % 8u; c < d.quads; c += 8u) {
#unroll i 4
    {
      let at = start(place(wg.z, row + $iu * 8u, d.Tq, d.H * d.D, 0u, wg.y));
      part[$i] = chain(load_dO(at, c), load_savedO(at, c), part[$i]);
    }
#endunroll
  }
  parts[t] = part;
  workgroupBarrier();
  var sum = vec4f(0.0);
#unroll x 8
  sum += parts[t / 8u * 8u + $xu];
#endunroll
#unroll i 4
  if (t % 8u == 0u && row + $iu * 8u < d.Tq) { delta[(wg.z * d.H + wg.y) * d.Tq + row + $iu * 8u] = sum[$i]; }
#endunroll
}

@compute @workgroup_size(64) ${subgroupSize}
fn backward_q(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b = wg.z;
  let h = wg.y / slices();
  let first = wg.y % slices() * WIDE + t % 8u;
  let q0 = wg.x * 32u;
  let row = q0 + t / 8u;
  var rows: Quads;
  var columns: Quads;
  var taken: Quads;
  var sums: Sums;
  let at = t % CHUNK;
  let qAt = lines_q(t, b, h, q0);
  let dOAt = lines_dO(t, b, h, q0);
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
    let vAt = lines_v(t, b, h, k0);
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
      } else {
        fetch_dO(&rows, dOAt, at);
        fetch_v(&columns, vAt, at);
      }
#endif
      multiply(t, c, &scores);
    }
    var along = Quads(); // do·v
    for (var c = 0u; c < d.quads; c += CHUNK) {
#if ${ahead}
#else
      fetch_dO(&rows, dOAt, c + at);
      fetch_v(&columns, vAt, c + at);
#endif
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
#if ${ahead}
      if (c + CHUNK < d.quads) {
        fetch_dO(&rows, dOAt, c + CHUNK + at);
        fetch_v(&columns, vAt, c + CHUNK + at);
      }
#endif
      multiply(t, c, &along);
    }
#if ${ahead}
    take_k(&taken, t, b, h, k0, first);
#endif
    let key = k0 + t % 8u * 4u;
    let there = vec4u(key) + vec4u(0u, 1u, 2u, 3u) < vec4u(d.Tk);
    let isOpen = open4(b, key);
    if (d.dropBelow != 0u) {
#unroll i 4
#unroll j 4
      along[$i][$j] *= drawn(b, h, row + $iu * 8u, key + $ju);
#endunroll
#endunroll
    }
#unroll i 4
    {
      let stat = (b * d.H + h) * d.Tq + min(row + $iu * 8u, d.Tq - 1u);
      let z = savedLse[stat];
      let weight = exp(select(vec4f(LOWEST), scores[$i] * d.scale, isOpen) - z) * share(z);
      scores[$i] = select(vec4f(0.0), weight * (along[$i] - savedDelta[stat]) * d.scale, there);
    }
#endunroll
    workgroupBarrier();
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
      take_k(&taken, t, b, h, k0 + c, first);
#endif
      if (c > 0u) { workgroupBarrier(); }
      put_taken(t, &taken);
      workgroupBarrier();
#if ${ahead}
      if (c + TAKEN < count) {
        take_k(&taken, t, b, h, k0 + c + TAKEN, first);
      }
#endif
      apply(t, c, count, &sums);
    }
  }
#unroll i 4
  if (row + $iu * 8u < d.Tq) {
    let out = start(place(b, row + $iu * 8u, d.Tq, d.qRow, d.qStart, h));
#unroll j EACH
    if (first + $ju * 8u < d.quads) { store_dq(out, first + $ju * 8u, sums[$i * ${EACH} + $j]); }
#endunroll
  }
#endunroll
}

// z < B: dk, of sample z; else dv, of sample z - B.
@compute @workgroup_size(64) ${subgroupSize}
fn backward_kv(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b = wg.z % d.B;
  let ofKeys = wg.z < d.B;
  let h = wg.y / slices();
  let first = wg.y % slices() * WIDE + t % 8u;
  let k0 = wg.x * 32u;
  let row = k0 + t / 8u;
  var rows: Quads;
  var columns: Quads;
  var taken: Quads;
  var sums: Sums;
  let at = t % CHUNK;
  let kAt = lines_k(t, b, h, k0);
  let vAt = lines_v(t, b, h, k0);
#if ${ahead}
  var qAt = lines_q(t, b, h, 0u);
  fetch_k(&rows, kAt, at);
  fetch_q(&columns, qAt, at);
#endif
  for (var q0 = 0u; q0 < d.Tq; q0 += 32u) {
#if ${ahead}
#else
    let qAt = lines_q(t, b, h, q0);
#endif
    let dOAt = lines_dO(t, b, h, q0);
    var scores = Quads();
    for (var c = 0u; c < d.quads; c += CHUNK) {
#if ${ahead}
#else
      fetch_k(&rows, kAt, c + at);
      fetch_q(&columns, qAt, c + at);
#endif
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
#if ${ahead}
      if (c + CHUNK < d.quads) {
        fetch_k(&rows, kAt, c + CHUNK + at);
        fetch_q(&columns, qAt, c + CHUNK + at);
      } else if (ofKeys) {
        fetch_v(&rows, vAt, at);
        fetch_dO(&columns, dOAt, at);
      }
#endif
      multiply(t, c, &scores);
    }
    var along = Quads(); // v·do
    if (ofKeys) {
      for (var c = 0u; c < d.quads; c += CHUNK) {
#if ${ahead}
#else
        fetch_v(&rows, vAt, c + at);
        fetch_dO(&columns, dOAt, c + at);
#endif
        workgroupBarrier();
        put_rows(t, &rows);
        put_columns(t, &columns);
        workgroupBarrier();
#if ${ahead}
        if (c + CHUNK < d.quads) {
          fetch_v(&rows, vAt, c + CHUNK + at);
          fetch_dO(&columns, dOAt, c + CHUNK + at);
        }
#endif
        multiply(t, c, &along);
      }
    }
#if ${ahead}
    if (ofKeys) { take_q(&taken, t, b, h, q0, first); } else { take_dO(&taken, t, b, h, q0, first); }
#endif
    let query = q0 + t % 8u * 4u;
    let there = vec4u(query) + vec4u(0u, 1u, 2u, 3u) < vec4u(d.Tq);
    var z: vec4f;
    var del: vec4f;
    var shares: vec4f; // 0 for a query that is not there; its score is the last one's, and finite
#unroll j 4
    let stat$j = (b * d.H + h) * d.Tq + min(query + $ju, d.Tq - 1u);
    z[$j] = savedLse[stat$j];
    del[$j] = savedDelta[stat$j];
    shares[$j] = select(0.0, share(z[$j]), there[$j]);
#endunroll
#unroll i 4
    scores[$i] = exp(select(vec4f(LOWEST), scores[$i] * d.scale, open(b, row + $iu * 8u) > 0.0) - z) * shares;
#endunroll
    if (d.dropBelow != 0u) {
#unroll i 4
#unroll j 4
      {
        let keep = drawn(b, h, query + $ju, row + $iu * 8u);
        along[$i][$j] *= keep;
        scores[$i][$j] *= select(keep, 1.0, ofKeys);
      }
#endunroll
#endunroll
    }
    if (ofKeys) {
#unroll i 4
      scores[$i] *= (along[$i] - del) * d.scale;
#endunroll
    }
    workgroupBarrier();
    put_weights(t, &scores);
#if ${ahead}
    qAt = lines_q(t, b, h, q0 + 32u);
    fetch_k(&rows, kAt, at);
    fetch_q(&columns, qAt, at);
#endif
    let count = min(d.Tq - q0, 32u);
    for (var c = 0u; c < count; c += TAKEN) {
#if ${ahead}
#else
      if (ofKeys) { take_q(&taken, t, b, h, q0 + c, first); } else { take_dO(&taken, t, b, h, q0 + c, first); }
#endif
      if (c > 0u) { workgroupBarrier(); }
      put_taken(t, &taken);
      workgroupBarrier();
#if ${ahead}
      if (c + TAKEN < count) {
        if (ofKeys) { take_q(&taken, t, b, h, q0 + c + TAKEN, first); } else { take_dO(&taken, t, b, h, q0 + c + TAKEN, first); }
      }
#endif
      apply(t, c, count, &sums);
    }
  }
#unroll i 4
  if (row + $iu * 8u < d.Tk) {
    let out = start(place(b, row + $iu * 8u, d.Tk, select(d.vRow, d.kRow, ofKeys), select(d.vStart, d.kStart, ofKeys), h));
#unroll j EACH
    if (first + $ju * 8u < d.quads) { store_dkv(out, first + $ju * 8u, sums[$i * ${EACH} + $j]); }
#endunroll
  }
#endunroll
}
