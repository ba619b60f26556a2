// matmul: Y = act(alpha·op(A)·op(B) + bias) + residual, in f32 sums whatever the storage.
//   forward   A (M,K), or stored (K,M) if transA   B stored (N,K), as a Linear weight, or (K,N) if !transB   ->  Y (M,N)
//
// Rows of A may overlap: row m starts at (m / aSegmentRows)·aSegmentStride + (m % aSegmentRows)·aRowStride, so that a
// strided convolution over channels-last frames is this same kernel with aRowStride = stride·C and K = k·C. If mappedB,
// the rows of a (K,N) B do too.
// grid: x over N, y over M, z over the products of a batch, *BatchStride apart.
//
// Two bodies. With subgroups (chosen on CPU adapters, where a barrier costs 50 ns and workgroup memory is no faster than
// global): one subgroup a workgroup, each lane owns 4 columns and hands its row of A to all lanes by broadcast.
// Without: 64×64 tiles in workgroup memory, 4×4 sums a thread, the portable GPU path.
//
// vec: 4-element loads and stores (every stride and the contiguous lengths are multiples of 4).  W: storage type of B.
${enables}

struct Dims {
  M: u32, N: u32, K: u32,
  aRowStride: u32, aSegmentRows: u32, aSegmentStride: u32, aBatchStride: u32,
  bRowStride: u32, bSegmentRows: u32, bSegmentStride: u32, bBatchStride: u32,
  yRowStride: u32, yBatchStride: u32,
  activation: u32, hasBias: u32, biasBatchStride: u32, hasResidual: u32, accumulate: u32,
  alpha: f32,
}

#if ${vec}
@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4<${W}>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read> residual: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
#else
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<${W}>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#endif
@group(0) @binding(5) var<uniform> d: Dims;

#include "lib/gelu.wgsl"

fn rowA(m: u32, z: u32) -> u32 {
  let r = min(m, d.M - 1u);
  return z * d.aBatchStride + (r / d.aSegmentRows) * d.aSegmentStride + (r % d.aSegmentRows) * d.aRowStride;
}

// Four elements of A from `base + at` on; the contiguous run has `length`.
fn a4(base: u32, at: u32, length: u32) -> vec4f {
#if ${vec}
  return a[(base + at) >> 2u];
#else
  let last = length - 1u;
  return vec4f(
    select(0.0, a[base + min(at, last)], at < length), select(0.0, a[base + min(at + 1u, last)], at + 1u < length),
    select(0.0, a[base + min(at + 2u, last)], at + 2u < length), select(0.0, a[base + min(at + 3u, last)], at + 3u < length));
#endif
}

fn b4(base: u32, at: u32, length: u32) -> vec4f {
#if ${vec}
  return vec4f(b[(base + at) >> 2u]);
#else
  let last = length - 1u;
  return vec4f(
    select(0.0, f32(b[base + min(at, last)]), at < length), select(0.0, f32(b[base + min(at + 1u, last)]), at + 1u < length),
    select(0.0, f32(b[base + min(at + 2u, last)]), at + 2u < length), select(0.0, f32(b[base + min(at + 3u, last)]), at + 3u < length));
#endif
}

// One element of A and of B.
fn a1(i: u32) -> f32 {
#if ${vec}
  return a[i >> 2u][i & 3u];
#else
  return a[i];
#endif
}

fn b1(i: u32) -> f32 {
#if ${vec}
  return f32(b[i >> 2u][i & 3u]);
#else
  return f32(b[i]);
#endif
}

// The quad at `at` of a run, or the last one: what lies beyond is not stored, but must not be read out of bounds.
fn inside(at: u32, length: u32) -> u32 {
#if ${vec}
  return min(at, length - 4u);
#else
  return at;
#endif
}

// Row k of a (K,M) A: four m's. Rows past K count as zero; B is then read at row K-1, which is finite if B is.
fn a4ofRow(k: u32, m: u32, z: u32) -> vec4f {
  return select(vec4f(0.0), a4(z * d.aBatchStride + min(k, d.K - 1u) * d.aRowStride, inside(m, d.M), d.M), k < d.K);
}

// Row k of a (K,N) B: four n's.
fn b4ofRow(k: u32, n: u32, z: u32) -> vec4f {
  let r = min(k, d.K - 1u);
#if ${mappedB}
  return b4(z * d.bBatchStride + (r / d.bSegmentRows) * d.bSegmentStride + (r % d.bSegmentRows) * d.bRowStride, inside(n, d.N), d.N);
#else
  return b4(z * d.bBatchStride + r * d.bRowStride, inside(n, d.N), d.N);
#endif
}

// Column n of a (N,K) B: where its k's begin.
fn columnB(n: u32, z: u32) -> u32 {
  return z * d.bBatchStride + min(n, d.N - 1u) * d.bRowStride;
}

// llvmpipe runs every branch under a mask, so the rarer activations are a module of their own.
fn tail(v: vec4f) -> vec4f {
#if ${rare}
  return activate(d.activation, v);
#else
  if (d.activation == 0u) { return v; }
  return gelu_exact(v);
#endif
}

fn finish(m: u32, n: u32, z: u32, sum: vec4f) {
  if (m >= d.M || n >= d.N) { return; }
  let at = z * d.yBatchStride + m * d.yRowStride + n;
  var v = sum * d.alpha;
#if ${vec}
  if (d.hasBias != 0u) { v += bias[(z * d.biasBatchStride + n) >> 2u]; }
  v = tail(v);
  if (d.hasResidual != 0u) { v += residual[at >> 2u]; }
  if (d.accumulate != 0u) { v += y[at >> 2u]; }
  y[at >> 2u] = v;
#else
  // By constant indexes: FXC refuses to store to a component that it does not know.
  let count = min(4u, d.N - n);
  if (d.hasBias != 0u) {
#unroll e 4
    if ($eu < count) { v[$e] += bias[z * d.biasBatchStride + n + $eu]; }
#endunroll
  }
  v = tail(v);
#unroll e 4
  if ($eu < count) {
    var out = v[$e];
    if (d.hasResidual != 0u) { out += residual[at + $eu]; }
    if (d.accumulate != 0u) { out += y[at + $eu]; }
    y[at + $eu] = out;
  }
#endunroll
#endif
}

#if ${subgroups}
const ROWS = ${ROWS}u;
const LANES = ${LANES}u;
const HELD = ${HELD}u;

@compute @workgroup_size(${LANES})
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let m0 = wg.y * ROWS;
  let n = (wg.x * LANES + lane) * 4u;
  let z = wg.z;
  var acc: array<vec4f, ${ROWS}>;
#if ${transB}
  let c0 = columnB(n, z);
  let c1 = columnB(n + 1u, z);
  let c2 = columnB(n + 2u, z);
  let c3 = columnB(n + 3u, z);
#endif
#if ${transA}
  let e = lane % 4u;
  let quad = m0 + (lane / 4u) * 4u;
#else
#unroll i LOADS
  let row$i = rowA(m0 + $iu * LANES + lane, z);
#endunroll
#endif
  for (var k = 0u; k < d.K; k += 4u) {
#if ${transB}
    let t0 = b4(c0, k, d.K);
    let t1 = b4(c1, k, d.K);
    let t2 = b4(c2, k, d.K);
    let t3 = b4(c3, k, d.K);
    let w0 = vec4f(t0.x, t1.x, t2.x, t3.x);
    let w1 = vec4f(t0.y, t1.y, t2.y, t3.y);
    let w2 = vec4f(t0.z, t1.z, t2.z, t3.z);
    let w3 = vec4f(t0.w, t1.w, t2.w, t3.w);
#else
    let w0 = b4ofRow(k, n, z);
    let w1 = b4ofRow(k + 1u, n, z);
    let w2 = b4ofRow(k + 2u, n, z);
    let w3 = b4ofRow(k + 3u, n, z);
#endif
#if ${transA}
    // A load brings HELD quads of m, four k's each: lane 4q + e holds row k + e of quad q.
#unroll i LOADS
    let a$i = a4ofRow(k + e, quad + $iu * HELD * 4u, z);
#unroll q HELD
    {
      let r = ($iu * HELD + $qu) * 4u;
      let v0 = subgroupBroadcast(a$i, $qu * 4u);
      let v1 = subgroupBroadcast(a$i, $qu * 4u + 1u);
      let v2 = subgroupBroadcast(a$i, $qu * 4u + 2u);
      let v3 = subgroupBroadcast(a$i, $qu * 4u + 3u);
      acc[r] = fma(vec4f(v3.x), w3, fma(vec4f(v2.x), w2, fma(vec4f(v1.x), w1, fma(vec4f(v0.x), w0, acc[r]))));
      acc[r + 1u] = fma(vec4f(v3.y), w3, fma(vec4f(v2.y), w2, fma(vec4f(v1.y), w1, fma(vec4f(v0.y), w0, acc[r + 1u]))));
      acc[r + 2u] = fma(vec4f(v3.z), w3, fma(vec4f(v2.z), w2, fma(vec4f(v1.z), w1, fma(vec4f(v0.z), w0, acc[r + 2u]))));
      acc[r + 3u] = fma(vec4f(v3.w), w3, fma(vec4f(v2.w), w2, fma(vec4f(v1.w), w1, fma(vec4f(v0.w), w0, acc[r + 3u]))));
    }
#endunroll
#endunroll
#else
    // A load brings HELD rows, four k's each: lane l holds row l.
#unroll i LOADS
    let a$i = a4(row$i, k, d.K);
#endunroll
#unroll i LOADS
#unroll l HELD
    {
      let v = subgroupBroadcast(a$i, $lu);
      acc[$iu * HELD + $lu] = fma(vec4f(v.w), w3, fma(vec4f(v.z), w2, fma(vec4f(v.y), w1, fma(vec4f(v.x), w0, acc[$iu * HELD + $lu]))));
    }
#endunroll
#endunroll
#endif
  }
  // One store in the text, not sixteen: what LLVM takes to compile grows with every store. The rows rotate through acc[0].
  let rows = min(ROWS, d.M - m0);
  for (var r = 0u; r < rows; r++) {
    finish(m0 + r, n, z, acc[0]);
#unroll r LAST
    acc[$r] = acc[$ru + 1u];
#endunroll
  }
}
#else
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
#endif
