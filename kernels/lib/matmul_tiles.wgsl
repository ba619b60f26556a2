// matmul by tiles: a workgroup computes BM × BN of Y, a thread TM × TN of that, BK of K at a time. What threads multiply comes
// from workgroup memory; their shares of the next tiles are on their way from the buffers meanwhile.
//
// An operand that is contiguous in k lies there as [row][quad of k], each row a quad longer than it need be, so that neighbours
// begin in different banks; one that is contiguous in m or n as [k][quad of m or n]. Threads store whole quads: on Metal and
// D3D writing one component of a workgroup vector writes them all. There is one buffer: with an offset that alternates between
// two, bounds checks stay in the inner loop.
//
// A thread has quads of rows and of columns, THREADS_M and THREADS_N quads apart, so that neighbours store side by side. That
// neighbours read side by side too, row 4·(T·h + x) + e of a tile by [row] lies at place (4·h + e)·T + x, with T threads along it.
const BM = ${BM}u;
const BN = ${BN}u;
const BK = ${BK}u;
const TM = ${TM}u;
const QUADS_N = ${QUADS_N}u;
const THREADS_M = BM / TM;
const THREADS_N = BN / 4u / QUADS_N;
const THREADS = THREADS_M * THREADS_N;
const KQ = BK / 4u;
#if ${transA}
const WIDE_A = BM / 4u;
var<workgroup> tileA: array<vec4f, BK * WIDE_A>;
#else
const WIDE_A = KQ + 1u;
var<workgroup> tileA: array<vec4f, BM * WIDE_A>;
#endif
#if ${transB}
const WIDE_B = KQ + 1u;
var<workgroup> tileB: array<vec4f, BN * WIDE_B>;
#else
const WIDE_B = BN / 4u;
var<workgroup> tileB: array<vec4f, BK * WIDE_B>;
#endif

fn rowAt(place: u32, threads: u32) -> u32 {
  let i = place / threads;
  return (i / 4u * threads + place % threads) * 4u + i % 4u;
}

// A thread's quads of each step lie as far from its first ones as the step's k0 from 0. Where they are aligned it is said here
// where the first ones are; else where their run begins, or their first m or n. Past K that is the last k.
fn startA(m: u32, k: u32, z: u32) -> u32 {
#if ${vec}
#if ${transA}
  return (z * d.aBatchStride + min(k, d.K - 1u) * d.aRowStride + inside(m, d.M)) >> 2u;
#else
  return (rowA(m, z) + inside(k, d.K)) >> 2u;
#endif
#elif ${transA}
  return m;
#else
  return rowA(m, z);
#endif
}

fn fetchA(start: u32, k: u32, k0: u32, z: u32) -> vec4<${X}> {
#if ${vec}
#if ${transA}
  return a[start + ((k0 * d.aRowStride) >> 2u)];
#else
  return a[start + (k0 >> 2u)];
#endif
#elif ${transA}
  return a4ofRow(k0 + k, start, z);
#else
  return a4(start, k0 + k, d.K);
#endif
}

fn startB(n: u32, k: u32, z: u32) -> u32 {
#if ${transB}
#if ${vec}
  return (columnB(n, z) + inside(k, d.K)) >> 2u;
#else
  return columnB(n, z);
#endif
#elif ${mappedB}
  return inside(n, d.N);
#elif ${vec}
  return (z * d.bBatchStride + min(k, d.K - 1u) * d.bRowStride + inside(n, d.N)) >> 2u;
#else
  return n;
#endif
}

fn fetchB(start: u32, k: u32, k0: u32, z: u32) -> vec4<${W}> {
#if ${transB}
#if ${vec}
  return b[start + (k0 >> 2u)];
#else
  return b4(start, k0 + k, d.K);
#endif
#elif ${vec}
  return b[start + ((k0 * d.bRowStride) >> 2u)];
#else
  return b4ofRow(k0 + k, start, z);
#endif
}

#if ${mappedB}
// A row of a mapped B: where it begins, and which of its segment it is. Steps rarely leave a segment: only then are there divisions.
struct Row { at: u32, within: u32 }

fn advance(row: Row, by: u32) -> Row {
  var r = Row(row.at + by * d.bRowStride, row.within + by);
  if (r.within >= d.bSegmentRows) {
    r.at += r.within / d.bSegmentRows * (d.bSegmentStride - d.bSegmentRows * d.bRowStride);
    r.within %= d.bSegmentRows;
  }
  return r;
}
#endif

@compute @workgroup_size(THREADS) ${subgroupSize}
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let m0 = wg.y * BM;
  let n0 = wg.x * BN;
#if ${split}
  let z = wg.z / d.splits;
  let begin = wg.z % d.splits * d.sliceK;
  let end = min(d.K, begin + d.sliceK);
#else
  let z = wg.z;
  let begin = 0u;
  let end = d.K;
#endif
  let threadN = t % THREADS_N;
  let threadM = t / THREADS_N;

  // The quads that this thread brings. A last step that would pass K begins BK before it, and what was counted before is zero
  // in A: all that is read belongs to A and B.
  let last = max(d.K, BK) - BK;
#unroll i LOADS_A
#if ${transA}
  let kA$i = t / WIDE_A + $iu * (THREADS / WIDE_A);
  let placeA$i = t + $iu * THREADS;
  let startA$i = startA(m0 + (t % WIDE_A) * 4u, kA$i, z);
#else
  let kA$i = (t % KQ) * 4u;
  let rowA$i = t / KQ + $iu * (THREADS / KQ);
  let placeA$i = rowA$i * WIDE_A + t % KQ;
  let startA$i = startA(m0 + rowAt(rowA$i, THREADS_M), kA$i, z);
#endif
  var nextA$i = fetchA(startA$i, kA$i, min(begin, last), z);
#endunroll
#unroll i LOADS_B
#if ${transB}
  let kB$i = (t % KQ) * 4u;
  let rowB$i = t / KQ + $iu * (THREADS / KQ);
  let placeB$i = rowB$i * WIDE_B + t % KQ;
  let startB$i = startB(n0 + rowAt(rowB$i, THREADS_N), kB$i, z);
#else
  let kB$i = t / WIDE_B + $iu * (THREADS / WIDE_B);
  let placeB$i = t + $iu * THREADS;
  let startB$i = startB(n0 + (t % WIDE_B) * 4u, kB$i, z);
#endif
#if ${mappedB}
  var row$i = advance(Row(z * d.bBatchStride, 0u), min(kB$i + min(begin, last), d.K - 1u));
  var nextB$i = b4(row$i.at, startB$i, d.N);
#else
  var nextB$i = fetchB(startB$i, kB$i, min(begin, last), z);
#endif
#endunroll
  var acc: array<vec4f, ${SUMS}>;
  var k0 = begin;
  // Counted down: of loops that count up to a variable Tint cannot tell that they end, and counts along.
  for (var left = (end - begin + BK - 1u) / BK; left > 0u; left--) {
    if (left == 1u) {
      let counted = k0 - min(k0, last);
#unroll i LOADS_A
#if ${transA}
      nextA$i = select(vec4<${X}>(), nextA$i, kA$i >= counted && kA$i < d.K);
#elif ${vec}
      nextA$i = select(vec4<${X}>(), nextA$i, kA$i >= counted && kA$i < d.K);
#else
      let ks$i = kA$i + vec4u(0u, 1u, 2u, 3u);
      nextA$i = select(vec4<${X}>(), nextA$i, (ks$i >= vec4u(counted)) & (ks$i < vec4u(d.K)));
#endif
#endunroll
    }
    workgroupBarrier();
#unroll i LOADS_A
    tileA[placeA$i] = vec4f(nextA$i);
#endunroll
#unroll i LOADS_B
    tileB[placeB$i] = vec4f(nextB$i);
#endunroll
    workgroupBarrier();
    let now = min(k0, last);
    k0 += BK;
    let ahead = min(k0, last);
#unroll i LOADS_A
    nextA$i = fetchA(startA$i, kA$i, ahead, z);
#endunroll
#unroll i LOADS_B
#if ${mappedB}
    row$i = advance(row$i, ahead - now);
    nextB$i = b4(row$i.at, startB$i, d.N);
#else
    nextB$i = fetchB(startB$i, kB$i, ahead, z);
#endif
#endunroll
#unroll q KQ
    {
      // Four k's of the thread's columns, as rows of B; then four rows of A at a time.
#unroll h QUADS_N
#if ${transB}
      let c0$h = tileB[($hu * 4u * THREADS_N + threadN) * WIDE_B + $qu];
      let c1$h = tileB[(($hu * 4u + 1u) * THREADS_N + threadN) * WIDE_B + $qu];
      let c2$h = tileB[(($hu * 4u + 2u) * THREADS_N + threadN) * WIDE_B + $qu];
      let c3$h = tileB[(($hu * 4u + 3u) * THREADS_N + threadN) * WIDE_B + $qu];
      let w0$h = vec4f(c0$h.x, c1$h.x, c2$h.x, c3$h.x);
      let w1$h = vec4f(c0$h.y, c1$h.y, c2$h.y, c3$h.y);
      let w2$h = vec4f(c0$h.z, c1$h.z, c2$h.z, c3$h.z);
      let w3$h = vec4f(c0$h.w, c1$h.w, c2$h.w, c3$h.w);
#else
      let w0$h = tileB[($qu * 4u) * WIDE_B + $hu * THREADS_N + threadN];
      let w1$h = tileB[($qu * 4u + 1u) * WIDE_B + $hu * THREADS_N + threadN];
      let w2$h = tileB[($qu * 4u + 2u) * WIDE_B + $hu * THREADS_N + threadN];
      let w3$h = tileB[($qu * 4u + 3u) * WIDE_B + $hu * THREADS_N + threadN];
#endif
#endunroll
#unroll g QUADS_M
      {
#if ${transA}
        let v0 = tileA[($qu * 4u) * WIDE_A + $gu * THREADS_M + threadM];
        let v1 = tileA[($qu * 4u + 1u) * WIDE_A + $gu * THREADS_M + threadM];
        let v2 = tileA[($qu * 4u + 2u) * WIDE_A + $gu * THREADS_M + threadM];
        let v3 = tileA[($qu * 4u + 3u) * WIDE_A + $gu * THREADS_M + threadM];
        let r0 = vec4f(v0.x, v1.x, v2.x, v3.x);
        let r1 = vec4f(v0.y, v1.y, v2.y, v3.y);
        let r2 = vec4f(v0.z, v1.z, v2.z, v3.z);
        let r3 = vec4f(v0.w, v1.w, v2.w, v3.w);
#else
        let r0 = tileA[($gu * 4u * THREADS_M + threadM) * WIDE_A + $qu];
        let r1 = tileA[(($gu * 4u + 1u) * THREADS_M + threadM) * WIDE_A + $qu];
        let r2 = tileA[(($gu * 4u + 2u) * THREADS_M + threadM) * WIDE_A + $qu];
        let r3 = tileA[(($gu * 4u + 3u) * THREADS_M + threadM) * WIDE_A + $qu];
#endif
#unroll e 4
#unroll h QUADS_N
        acc[($gu * 4u + $eu) * QUADS_N + $hu] = fma(vec4f(r$e.w), w3$h, fma(vec4f(r$e.z), w2$h, fma(vec4f(r$e.y), w1$h, fma(vec4f(r$e.x), w0$h, acc[($gu * 4u + $eu) * QUADS_N + $hu]))));
#endunroll
#endunroll
      }
#endunroll
    }
#endunroll
  }
  // Compilers take long over many tails, so there is one a quad of columns, in a loop whose count they do not know. The rows
  // rotate through acc[0].
  let rows = min(TM, d.M);
  for (var left = rows; left > 0u; left--) {
    let i = rows - left;
    let m = m0 + (i / 4u * THREADS_M + threadM) * 4u + i % 4u;
#unroll h QUADS_N
#if ${split}
    keep(m, n0 + ($hu * THREADS_N + threadN) * 4u, wg.z, acc[$h]);
#else
    finish(m, n0 + ($hu * THREADS_N + threadN) * 4u, z, acc[$h]);
#endif
#endunroll
#unroll r REST
    acc[$r] = acc[$ru + QUADS_N];
#endunroll
  }
}

#if ${split}
// Sums over one slice of K.
fn keep(m: u32, n: u32, slice: u32, sum: vec4f) {
  if (m < d.M && n < d.N) { partial[(slice * d.M + m) * ((d.N + 3u) / 4u) + n / 4u] = sum; }
}

// Adds up the slices of K, the first first, and does what follows a product. grid: x over all quads of y, z over the batch.
@compute @workgroup_size(64)
fn total(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let wide = (d.N + 3u) / 4u;
  let i = linear_id(wg, groups, t, 64u);
  if (i >= d.M * wide) { return; }
  var sum = vec4f();
  for (var left = d.splits; left > 0u; left--) { sum += partial[(wg.z * d.splits + d.splits - left) * d.M * wide + i]; }
  finish(i / wide, i % wide * 4u, wg.z, sum);
}
#endif
