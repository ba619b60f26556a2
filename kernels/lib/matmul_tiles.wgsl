// matmul by tiles: a workgroup computes BM × BN of Y, a thread TM × TN of that, BK of K at a time. What threads multiply comes
// from workgroup memory; their shares of the next tiles are on their way from the buffers meanwhile.
//
// An operand that is contiguous in k lies there as [row][quad of k], each row a quad longer than it need be, so that neighbours
// begin in different banks; one that is contiguous in m or n as [k][quad of m or n]. Threads store whole quads: on Metal and
// D3D writing one component of a workgroup vector writes them all. There is one buffer: with an offset that alternates between
// two, bounds checks stay in the inner loop. What a step loads it stores as well: of a variable that brings it to the next step
// LLVM makes one that brings the address, and loads where it is too late.
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
// K_OF_A, K_OF_B: by how many k's the elements of a quad lie behind its first.
#if ${transA}
const WIDE_A = BM / 4u;
const K_OF_A = vec4u();
var<workgroup> tileA: array<vec4f, BK * WIDE_A>;
#else
const WIDE_A = KQ + 1u;
const K_OF_A = vec4u(0u, 1u, 2u, 3u);
var<workgroup> tileA: array<vec4f, BM * WIDE_A>;
#endif
#if ${transB}
const WIDE_B = KQ + 1u;
const K_OF_B = vec4u(0u, 1u, 2u, 3u);
var<workgroup> tileB: array<vec4f, BN * WIDE_B>;
#else
const WIDE_B = BN / 4u;
const K_OF_B = vec4u();
var<workgroup> tileB: array<vec4f, BK * WIDE_B>;
#endif

fn rowAt(place: u32, threads: u32) -> u32 {
  let i = place / threads;
  return (i / 4u * threads + place % threads) * 4u + i % 4u;
}

// A distance in elements, in what a and b are arrays of.
fn places(elements: u32) -> u32 {
#if ${vec}
  return elements >> 2u;
#else
  return elements;
#endif
}

// The last quad of a run, or its last element.
fn lastQuad(length: u32) -> u32 {
#if ${vec}
  return length - 4u;
#else
  return length - 1u;
#endif
}

// Where a quad that a thread brings begins in the first BK k's: m, n and k or the last ones. In a step that begins at k0 it begins
// stepA(k0) further on, which is the same for all threads.
fn beginA(m: u32, k: u32, z: u32) -> u32 {
  let inK = min(k, d.K - 1u);
#if ${transA}
  return places(startA(z) + inK * d.aRowStride + min(m, lastQuad(d.M)));
#else
  return places(startA(z) + rowA(m) + inK);
#endif
}

fn stepA(k0: u32) -> u32 {
#if ${transA}
  return places(k0 * d.aRowStride);
#else
  return places(k0);
#endif
}

fn beginB(n: u32, k: u32, z: u32) -> u32 {
  let inK = min(k, d.K - 1u);
#if ${transB}
  return places(startB(z) + columnB(n) + inK);
#else
  return places(startB(z) + inK * d.bRowStride + min(n, lastQuad(d.N)));
#endif
}

fn stepB(k0: u32) -> u32 {
#if ${transB}
  return places(k0);
#else
  return places(k0 * d.bRowStride);
#endif
}

// Without vec, up to three elements may lie behind the end of a row: they go into sums that are not stored.
fn quadA(at: u32) -> vec4<${X}> {
#if ${vec}
  return a[at];
#else
  return vec4<${X}>(a[at], a[at + 1u], a[at + 2u], a[at + 3u]);
#endif
}

fn quadB(at: u32) -> vec4<${W}> {
#if ${vec}
  return b[at];
#else
  return vec4<${W}>(b[at], b[at + 1u], b[at + 2u], b[at + 3u]);
#endif
}

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

  // The first step counts the k's that whole steps leave over, `head` of them, so that no other need look at bounds; what else
  // it brings is zero in A. Where it would pass K it begins before its time, at `first`.
  let steps = (end - begin + BK - 1u) / BK;
  let head = end - begin - (steps - 1u) * BK;
  let last = max(d.K, BK) - BK;
  let first = min(begin, last);
  let counted = begin - first;
#unroll i LOADS_A
#if ${transA}
  let kA$i = t / WIDE_A + $iu * (THREADS / WIDE_A);
  let placeA$i = t + $iu * THREADS;
  let mA$i = m0 + (t % WIDE_A) * 4u;
#else
  let kA$i = (t % KQ) * 4u;
  let rowA$i = t / KQ + $iu * (THREADS / KQ);
  let placeA$i = rowA$i * WIDE_A + t % KQ;
  let mA$i = m0 + rowAt(rowA$i, THREADS_M);
#endif
  let beginA$i = beginA(mA$i, kA$i, z);
  let firstA$i = quadA(beginA$i + stepA(first));
  tileA[placeA$i] = vec4f(select(vec4<${X}>(), firstA$i, kA$i + K_OF_A - counted < vec4u(head)));
#endunroll
#if ${shortB}
#elif ${mappedB}
  // Rows from k = edge on lie in the next segment, a jump further; jumps are those before. No step meets more than one edge.
  let jump = places(d.bSegmentStride) - d.bSegmentRows * places(d.bRowStride);
  var edge = (first / d.bSegmentRows + 1u) * d.bSegmentRows;
  var jumps = first / d.bSegmentRows * jump;
#endif
#unroll i LOADS_B
#if ${transB}
  let kB$i = (t % KQ) * 4u;
  let rowB$i = t / KQ + $iu * (THREADS / KQ);
  let placeB$i = rowB$i * WIDE_B + t % KQ;
  let nB$i = n0 + rowAt(rowB$i, THREADS_N);
#else
  let kB$i = t / WIDE_B + $iu * (THREADS / WIDE_B);
  let placeB$i = t + $iu * THREADS;
  let nB$i = n0 + (t % WIDE_B) * 4u;
#endif
  let beginB$i = beginB(nB$i, kB$i, z);
#if ${shortB}
  let firstB$i = b4ofRow(startB(z), first + kB$i, nB$i);
#elif ${mappedB}
  let overB$i = beginB$i + jump;
  let firstB$i = quadB(select(beginB$i, overB$i, kB$i >= edge - first) + stepB(first) + jumps);
#else
  let firstB$i = quadB(beginB$i + stepB(first));
#endif
  tileB[placeB$i] = vec4f(select(vec4<${W}>(), firstB$i, first + kB$i + K_OF_B < vec4u(d.K)));
#endunroll
  var acc: array<vec4f, ${SUMS}>;
  var k0 = begin + head;
  // Counted down: of loops that count up to a variable Tint cannot tell that they end, and counts along.
  for (var left = steps; left > 0u; left--) {
    workgroupBarrier();
    let ahead = min(k0, last);
    k0 += BK;
#unroll i LOADS_A
    let nextA$i = quadA(beginA$i + stepA(ahead));
#endunroll
#if ${shortB}
#elif ${mappedB}
    if (ahead >= edge) {
      edge += d.bSegmentRows;
      jumps += jump;
    }
#endif
#unroll i LOADS_B
#if ${shortB}
    let nextB$i = b4ofRow(startB(z), ahead + kB$i, nB$i);
#elif ${mappedB}
    let nextB$i = quadB(select(beginB$i, overB$i, kB$i >= edge - ahead) + stepB(ahead) + jumps);
#else
    let nextB$i = quadB(beginB$i + stepB(ahead));
#endif
#endunroll
#unroll q KQ
    {
#if ${transB}
      // Quads of B hold four k's each: four k's of the thread's columns as rows of B, then four rows of A at a time.
#unroll h QUADS_N
      let c0$h = tileB[($hu * 4u * THREADS_N + threadN) * WIDE_B + $qu];
      let c1$h = tileB[(($hu * 4u + 1u) * THREADS_N + threadN) * WIDE_B + $qu];
      let c2$h = tileB[(($hu * 4u + 2u) * THREADS_N + threadN) * WIDE_B + $qu];
      let c3$h = tileB[(($hu * 4u + 3u) * THREADS_N + threadN) * WIDE_B + $qu];
      let w0$h = vec4f(c0$h.x, c1$h.x, c2$h.x, c3$h.x);
      let w1$h = vec4f(c0$h.y, c1$h.y, c2$h.y, c3$h.y);
      let w2$h = vec4f(c0$h.z, c1$h.z, c2$h.z, c3$h.z);
      let w3$h = vec4f(c0$h.w, c1$h.w, c2$h.w, c3$h.w);
#endunroll
#unroll g QUADS_M
      {
#if ${transA}
        let v0 = tileA[($qu * 4u) * WIDE_A + $gu * THREADS_M + threadM];
        let v1 = tileA[($qu * 4u + 1u) * WIDE_A + $gu * THREADS_M + threadM];
        let v2 = tileA[($qu * 4u + 2u) * WIDE_A + $gu * THREADS_M + threadM];
        let v3 = tileA[($qu * 4u + 3u) * WIDE_A + $gu * THREADS_M + threadM];
#unroll e 4
        let r$e = vec4f(v0[$e], v1[$e], v2[$e], v3[$e]);
#endunroll
#else
#unroll e 4
        let r$e = tileA[(($gu * 4u + $eu) * THREADS_M + threadM) * WIDE_A + $qu];
#endunroll
#endif
#unroll e 4
#unroll h QUADS_N
        acc[($gu * 4u + $eu) * QUADS_N + $hu] = fma(vec4f(r$e.w), w3$h, fma(vec4f(r$e.z), w2$h, fma(vec4f(r$e.y), w1$h, fma(vec4f(r$e.x), w0$h, acc[($gu * 4u + $eu) * QUADS_N + $hu]))));
#endunroll
#endunroll
      }
#endunroll
#else
      // Quads of B hold one k each: so it goes by k, with fewer registers.
#if ${transA}
#else
#unroll g QUADS_M
      let r0$g = tileA[($gu * 4u * THREADS_M + threadM) * WIDE_A + $qu];
      let r1$g = tileA[(($gu * 4u + 1u) * THREADS_M + threadM) * WIDE_A + $qu];
      let r2$g = tileA[(($gu * 4u + 2u) * THREADS_M + threadM) * WIDE_A + $qu];
      let r3$g = tileA[(($gu * 4u + 3u) * THREADS_M + threadM) * WIDE_A + $qu];
#endunroll
#endif
#unroll k 4
      {
#unroll h QUADS_N
        let w$h = tileB[($qu * 4u + $ku) * WIDE_B + $hu * THREADS_N + threadN];
#endunroll
#unroll g QUADS_M
#if ${transA}
        let v$g = tileA[($qu * 4u + $ku) * WIDE_A + $gu * THREADS_M + threadM];
#else
        let v$g = vec4f(r0$g[$k], r1$g[$k], r2$g[$k], r3$g[$k]);
#endif
#unroll e 4
#unroll h QUADS_N
        acc[($gu * 4u + $eu) * QUADS_N + $hu] = fma(vec4f(v$g[$e]), w$h, acc[($gu * 4u + $eu) * QUADS_N + $hu]);
#endunroll
#endunroll
#endunroll
      }
#endunroll
#endif
    }
#endunroll
    workgroupBarrier();
#unroll i LOADS_A
    tileA[placeA$i] = vec4f(nextA$i);
#endunroll
#unroll i LOADS_B
    tileB[placeB$i] = vec4f(nextB$i);
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
    finish(m, n0 + ($hu * THREADS_N + threadN) * 4u, z, startY(z), acc[$h]);
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
  finish(i / wide, i % wide * 4u, wg.z, startY(wg.z), sum);
}
#endif
