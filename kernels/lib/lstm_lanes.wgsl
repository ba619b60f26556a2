// lstm by one subgroup a workgroup: each lane owns the units of a V, and what the samples bring goes to all lanes by FROM_LANE,
// HELD samples a load; without subgroups each lane loads it. Sums begin with zeros in so many words: declared in a loop without
// a value, a variable of Dawn's Vulkan backend keeps what it had.
const LANES = ${LANES}u;
const HELD = ${HELD}u;
const LAST = ROWS - 1u;

// One of a block's samples, or the last.
fn sample(b0: u32, r: u32) -> u32 { return min(b0 + r, d.B - 1u); }

@compute @workgroup_size(${LANES})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let Q = width();
  let b0 = wg.y * ROWS;
  let dir = wg.z;
  let rows = min(ROWS, d.B - b0);
  let most = longest(b0);
  for (var s = d.first; s < d.first + d.steps; s++) {
    let walks = s < most && (s > 0u || d.hasState != 0u);
#if ${subgroups}
#unroll i LOADS
    let from$i = start(sample(b0, $iu * HELD + lane % HELD), s, dir);
#endunroll
#else
#unroll r ROWS
    let from$r = start(sample(b0, $ru), s, dir);
#endunroll
#endif
    for (var tile = wg.x; tile < d.tiles; tile += groups.x) {
      let q = tile * LANES + lane;
      let unit = min(q, Q - 1u) * W;
      var held = Sums();
      for (var turn = 0u; turn < 4u; turn++) {
        let gate = ORDER[turn];
        let column = ((dir * 4u + gate) * d.H + unit) * Q;
        var sums = Sums();
        if (walks) {
          for (var k = 0u; k < Q; k++) {
#if ${subgroups}
#unroll i LOADS
            let a$i = found(from$i + k, s);
#endunroll
#else
#unroll r ROWS
            let a$r = found(from$r + k, s);
#endunroll
#endif
#if ${vec}
            let t0 = w[column + k];
            let t1 = w[column + Q + k];
            let t2 = w[column + 2u * Q + k];
            let t3 = w[column + 3u * Q + k];
            let w0 = vec4f(t0.x, t1.x, t2.x, t3.x);
            let w1 = vec4f(t0.y, t1.y, t2.y, t3.y);
            let w2 = vec4f(t0.z, t1.z, t2.z, t3.z);
            let w3 = vec4f(t0.w, t1.w, t2.w, t3.w);
#else
            let w0 = w[column + k];
#endif
#if ${subgroups}
#unroll i LOADS
#unroll l HELD
            {
              let v = ${FROM_LANE}(a$i, $lu);
#if ${vec}
              sums[$iu * HELD + $lu] = fma(vec4f(v.w), w3, fma(vec4f(v.z), w2, fma(vec4f(v.y), w1, fma(vec4f(v.x), w0, sums[$iu * HELD + $lu]))));
#else
              sums[$iu * HELD + $lu] = fma(v, w0, sums[$iu * HELD + $lu]);
#endif
            }
#endunroll
#endunroll
#else
#unroll r ROWS
            {
              let v = a$r;
#if ${vec}
              sums[$r] = fma(vec4f(v.w), w3, fma(vec4f(v.z), w2, fma(vec4f(v.y), w1, fma(vec4f(v.x), w0, sums[$r]))));
#else
              sums[$r] = fma(v, w0, sums[$r]);
#endif
            }
#endunroll
#endif
          }
        }
        // One call in the text for all rows: see lib/matmul_lanes.wgsl. Both arrays go round once.
        for (var r = 0u; r < ROWS; r++) {
          var next = held[0];
          if (r < rows && q < Q) { next = cell(b0 + r, s, dir, q, gate, sums[0], next); }
#unroll r LAST
          sums[$r] = sums[$ru + 1u];
          held[$r] = held[$ru + 1u];
#endunroll
          held[LAST] = next;
        }
      }
    }
    storageBarrier();
  }
}

// dgates·w of step s, of all samples of the block.
fn product(sums: ptr<function, Sums>, b0: u32, s: u32, dir: u32, q: u32, lane: u32) {
  let Q = width();
  let column = dir * 4u * d.H * Q + min(q, Q - 1u);
#if ${subgroups}
#unroll i LOADS
  let from$i = row(sample(b0, $iu * HELD + lane % HELD), s, dir) * 4u * Q;
#endunroll
#else
#unroll r ROWS
  let from$r = row(sample(b0, $ru), s, dir) * 4u * Q;
#endunroll
#endif
  for (var k = 0u; k < 4u * Q; k++) {
#if ${subgroups}
#unroll i LOADS
    let a$i = dgates[from$i + k];
#endunroll
#else
#unroll r ROWS
    let a$r = dgates[from$r + k];
#endunroll
#endif
#if ${vec}
    let at = column + 4u * k * Q;
    let w0 = w[at];
    let w1 = w[at + Q];
    let w2 = w[at + 2u * Q];
    let w3 = w[at + 3u * Q];
#else
    let w0 = w[column + k * Q];
#endif
#if ${subgroups}
#unroll i LOADS
#unroll l HELD
    {
      let v = ${FROM_LANE}(a$i, $lu);
#if ${vec}
      (*sums)[$iu * HELD + $lu] = fma(vec4f(v.w), w3, fma(vec4f(v.z), w2, fma(vec4f(v.y), w1, fma(vec4f(v.x), w0, (*sums)[$iu * HELD + $lu]))));
#else
      (*sums)[$iu * HELD + $lu] = fma(v, w0, (*sums)[$iu * HELD + $lu]);
#endif
    }
#endunroll
#endunroll
#else
#unroll r ROWS
    {
      let v = a$r;
#if ${vec}
      (*sums)[$r] = fma(vec4f(v.w), w3, fma(vec4f(v.z), w2, fma(vec4f(v.y), w1, fma(vec4f(v.x), w0, (*sums)[$r]))));
#else
      (*sums)[$r] = fma(v, w0, (*sums)[$r]);
#endif
    }
#endunroll
#endif
  }
}

@compute @workgroup_size(${LANES})
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b0 = wg.y * ROWS;
  let dir = wg.z;
  let rows = min(ROWS, d.B - b0);
  let most = longest(b0);
  for (var i = 0u; i < d.steps; i++) {
    let s = d.first - i;
    for (var tile = wg.x; tile < d.tiles; tile += groups.x) {
      let q = tile * LANES + lane;
      var sums = Sums();
      if (s + 1u < most) { product(&sums, b0, s + 1u, dir, q, lane); }
      if (q < width()) {
        for (var r = 0u; r < rows; r++) {
          cell_backward(b0 + r, s, dir, q, sums[0]);
#unroll r LAST
          sums[$r] = sums[$ru + 1u];
#endunroll
        }
      }
    }
    storageBarrier();
  }
}

@compute @workgroup_size(${LANES})
fn backward_initial(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b0 = wg.y * ROWS;
  let q = wg.x * LANES + lane;
  let rows = min(ROWS, d.B - b0);
  var sums = Sums();
  product(&sums, b0, 0u, wg.z, q, lane);
  if (q < width()) {
    for (var r = 0u; r < rows; r++) {
      dh0[state(b0 + r, wg.z) + q] = sums[0];
#unroll r LAST
      sums[$r] = sums[$ru + 1u];
#endunroll
    }
  }
}
