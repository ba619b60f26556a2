// matmul by tiles in workgroup memory.
const STEP = 16u;
const WIDE = 17u; // a quad more than a row of a tile has: neighbours in k lie in different banks
var<workgroup> tileA: array<vec4f, 272>;
var<workgroup> tileB: array<vec4f, 272>;

@compute @workgroup_size(16, 16)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) t: u32) {
  let m0 = wg.y * 64u;
  let n0 = wg.x * 64u;
  let z = wg.z;
  var acc: array<vec4f, 4>;
#unroll r 4
#if ${transA}
#else
  let row$r = rowA(m0 + (t / 16u) * 4u + $ru, z);
#endif
#if ${transB}
  let column$r = columnB(n0 + (t / 16u) * 4u + $ru, z);
#endif
#endunroll
  for (var k0 = 0u; k0 < d.K; k0 += STEP) {
    // Tiles are [k][quad of m or n]. A thread stores whole quads, also where k is contiguous: on Metal and D3D writing one
    // component of a workgroup vector writes them all. Past K it must be zero.
    let within = k0 + t % 16u < d.K;
    let k = min(k0 + t % 16u, d.K - 1u);
    let turned = (t % 16u) * WIDE + t / 16u;
    let straight = (t / 16u) * WIDE + t % 16u;
#if ${transA}
    tileA[straight] = a4ofRow(k0 + t / 16u, m0 + (t % 16u) * 4u, z);
#else
    tileA[turned] = select(vec4f(0.0), vec4f(a1(row0 + k), a1(row1 + k), a1(row2 + k), a1(row3 + k)), within);
#endif
#if ${transB}
    tileB[turned] = select(vec4f(0.0), vec4f(b1(column0 + k), b1(column1 + k), b1(column2 + k), b1(column3 + k)), within);
#else
    tileB[straight] = b4ofRow(k0 + t / 16u, n0 + (t % 16u) * 4u, z);
#endif
    workgroupBarrier();
    for (var k = 0u; k < STEP; k++) {
      let va4 = tileA[k * WIDE + local.y];
      let vb4 = tileB[k * WIDE + local.x];
      acc[0] = fma(vec4f(va4.x), vb4, acc[0]);
      acc[1] = fma(vec4f(va4.y), vb4, acc[1]);
      acc[2] = fma(vec4f(va4.z), vb4, acc[2]);
      acc[3] = fma(vec4f(va4.w), vb4, acc[3]);
    }
    workgroupBarrier();
  }
#unroll r 4
  finish(m0 + local.y * 4u + $ru, n0 + local.x * 4u, z, acc[$r]);
#endunroll
}
