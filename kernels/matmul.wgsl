// matmul: Y = act(alpha·op(A)·op(B) + bias) + residual, in f32 sums whatever the storage.
//   forward   A (M,K), or stored (K,M) if transA   B stored (N,K), as a Linear weight, or (K,N) if !transB   ->  Y (M,N)
//
// Rows of A may overlap: row m starts at (m / aSegmentRows)·aSegmentStride + (m % aSegmentRows)·aRowStride, so that a
// strided convolution over channels-last frames is this same kernel with aRowStride = stride·C and K = k·C. If mappedB,
// the rows of a (K,N) B do too.
// grid: x over N, y over M, z over the products of a batch, *BatchStride apart.
//
// Two bodies, lib/matmul_lanes.wgsl and lib/matmul_tiles.wgsl. With subgroups (chosen on CPU adapters, where a barrier costs 50 ns and workgroup memory is no faster than
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
#include "lib/matmul_lanes.wgsl"
#else
#include "lib/matmul_tiles.wgsl"
#endif
