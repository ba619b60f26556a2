// matmul by one subgroup a workgroup: each lane owns 4 columns and hands its rows of A to all lanes.
// STEP: k's of a round, 4 if transB.   FROM_LANE: what hands all lanes the value of one.
const ROWS = ${ROWS}u;
const LANES = ${LANES}u;
const HELD = ${HELD}u;
const GROUP = ${GROUP}u;

// What the positions below count: what a load brings, or elements. lavapipe moves nothing out of a loop.
#if ${vec}
const UNIT_A = ${STEP}u;
const UNIT_B = 4u;
#else
const UNIT_A = 1u;
const UNIT_B = 1u;
#endif

// STEP k's of a run of A that begins at `base`; zeros follow it.
fn runOfA(base: u32, k: u32, K: u32) -> vec${STEP}f {
#if ${vec}
  return vec${STEP}f(a[base + k / UNIT_A]);
#else
  var v: vec${STEP}f;
#unroll j STEP
  v[$j] = select(0.0, f32(a[base + min(k + $ju, K - 1u)]), k + $ju < K);
#endunroll
  return v;
#endif
}

fn fourOfB(base: u32, k: u32, K: u32) -> vec4f {
#if ${vec}
  return vec4f(b[base + k / UNIT_B]);
#else
  return vec4f(b4(base, k, K));
#endif
}

// Workgroups that follow one another share columns of B: on lavapipe they find them in a cache.
@compute @workgroup_size(${LANES})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let m0 = wg.x * ROWS;
  let n = (wg.y * LANES + lane) * 4u;
  let z = wg.z;
  let firstA = startA(z);
  let firstB = startB(z);
  let firstY = startY(z);
  let K = d.K;
  var acc: array<vec4f, ${ROWS}>;
#if ${transB}
  let c0 = (firstB + columnB(n)) / UNIT_B;
  let c1 = (firstB + columnB(n + 1u)) / UNIT_B;
  let c2 = (firstB + columnB(n + 2u)) / UNIT_B;
  let c3 = (firstB + columnB(n + 3u)) / UNIT_B;
#else
#if ${plainB}
  let column = (firstB + inside(n, d.N)) / UNIT_B;
  let step = d.bRowStride / UNIT_B;
  let last = K - 1u; // where rows of A go on with zeros, B has no more rows
#endif
#endif
#unroll i LOADS
  let row$i = (firstA + rowA(m0 + $iu * LANES + lane)) / UNIT_A;
#endunroll
  for (var k = 0u; k < K; k += ${STEP}u) {
#if ${transB}
    let t0 = fourOfB(c0, k, K);
    let t1 = fourOfB(c1, k, K);
    let t2 = fourOfB(c2, k, K);
    let t3 = fourOfB(c3, k, K);
    let w0 = vec4f(t0.x, t1.x, t2.x, t3.x);
    let w1 = vec4f(t0.y, t1.y, t2.y, t3.y);
    let w2 = vec4f(t0.z, t1.z, t2.z, t3.z);
    let w3 = vec4f(t0.w, t1.w, t2.w, t3.w);
#else
#if ${plainB}
#unroll j STEP
    let w$j = vec4f(b[column + min(k + $ju, last) * step]);
#endunroll
#else
#unroll j STEP
    let w$j = vec4f(b4ofRow(firstB, k + $ju, n));
#endunroll
#endif
#endif
    // A load brings HELD rows, STEP k's each: lane l holds row l.
#unroll i LOADS
    let a$i = runOfA(row$i, k, K);
#endunroll
#unroll i LOADS
#unroll l HELD
    {
      let v = ${FROM_LANE}(a$i, $lu);
#unroll j STEP
      acc[$iu * HELD + $lu] = fma(vec4f(v[$j]), w$j, acc[$iu * HELD + $lu]);
#endunroll
    }
#endunroll
#endunroll
  }
  // One store in the text, not sixteen: what LLVM takes to compile grows with every store. The rows rotate through acc[0], GROUP
  // at a time: to rotate all of them for each one would be an eighth of a product of K = 128.
  let rows = min(ROWS, d.M - m0);
  for (var first = 0u; first < rows; first += GROUP) {
    for (var r = first; r < min(first + GROUP, rows); r++) {
      finish(m0 + r, n, z, firstY, acc[0]);
#unroll r GROUP_LAST
      acc[$r] = acc[$ru + 1u];
#endunroll
    }
#unroll r LATER
    acc[$r] = acc[$ru + GROUP];
#endunroll
  }
}
