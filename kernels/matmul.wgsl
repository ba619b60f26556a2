// matmul: Y = act(alpha·op(A)·op(B) + bias) + residual, in f32 sums whatever the storage.
//   forward   A (M,K), or stored (K,M) if transA   B stored (N,K), as a Linear weight, or (K,N) if !transB   ->  Y (M,N)
//
// Rows of A may overlap: row m starts at (m / aSegmentRows)·aSegmentStride + (m % aSegmentRows)·aRowStride, so that a
// strided convolution over channels-last frames is this same kernel with aRowStride = stride·C and K = k·C. If mappedB,
// the rows of a (K,N) B do too; shortB: in segments that are shorter than a step of K.
// grid: x over N, y over M (lanes: see there), z over the products of a batch, *BatchStride apart. grouped: in groups of `heads`
// products, *GroupStride apart, the first at *Start, as the heads of samples in packed rows.
//
// Two bodies, lib/matmul_lanes.wgsl and lib/matmul_tiles.wgsl. With subgroups (chosen on CPU adapters, where a barrier costs 50 ns
// and workgroup memory is no faster than global): one subgroup a workgroup, each lane owns 4 columns and hands its row of A to
// all lanes. Without: tiles in workgroup memory and in registers, what a GPU gets.
//
//   forward with split   A B        ->  partial (batch, splits, M, quads of N): the sums over slices of K, sliceK long
//   total                partial    ->  Y: their sum, the first slice first, and the tail
//
// vec: 4-element loads and stores (every stride and the contiguous lengths are multiples of 4); by lanes of STEP of A.
// slope: the slopes of act are stored beside Y, for a gradient that is to pass it.
// X: storage type of A.  W: of B.  Y: of the residual and y.
${enables}

struct Dims {
  M: u32, N: u32, K: u32,
  aRowStride: u32, aSegmentRows: u32, aSegmentStride: u32, aBatchStride: u32,
  bRowStride: u32, bSegmentRows: u32, bSegmentStride: u32, bBatchStride: u32,
  yRowStride: u32, yBatchStride: u32,
  activation: u32, hasBias: u32, biasBatchStride: u32, hasResidual: u32, accumulate: u32,
  alpha: f32,
  splits: u32, sliceK: u32,
  heads: u32, aStart: u32, aGroupStride: u32, bStart: u32, bGroupStride: u32, yStart: u32, yGroupStride: u32,
}

#if ${vec}
#if ${subgroups}
@group(0) @binding(0) var<storage, read> a: array<vec${STEP}<${X}>>;
#else
@group(0) @binding(0) var<storage, read> a: array<vec4<${X}>>;
#endif
@group(0) @binding(1) var<storage, read> b: array<vec4<${W}>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read> residual: array<vec4<${Y}>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<${Y}>>;
#else
@group(0) @binding(0) var<storage, read> a: array<${X}>;
@group(0) @binding(1) var<storage, read> b: array<${W}>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<${Y}>;
@group(0) @binding(4) var<storage, read_write> y: array<${Y}>;
#endif
@group(0) @binding(5) var<uniform> d: Dims;
#if ${slope}
#if ${vec}
@group(0) @binding(7) var<storage, read_write> slopes: array<vec4<${Y}>>;
#else
@group(0) @binding(7) var<storage, read_write> slopes: array<${Y}>;
#endif
#endif
#if ${split}
@group(0) @binding(6) var<storage, read_write> partial: array<vec4f>;
#include "lib/grid.wgsl"
#endif

#include "lib/gelu.wgsl"

// Where product z begins.
fn startOf(z: u32, first: u32, groupStride: u32, stride: u32) -> u32 {
#if ${grouped}
  // The whole part of z / heads: in floats, as Mesa divides whole numbers lane by lane.
  let group = u32((f32(z) + 0.5) / f32(d.heads));
  return first + group * groupStride + (z - group * d.heads) * stride;
#else
  return z * stride;
#endif
}

fn startA(z: u32) -> u32 { return startOf(z, d.aStart, d.aGroupStride, d.aBatchStride); }

fn startB(z: u32) -> u32 { return startOf(z, d.bStart, d.bGroupStride, d.bBatchStride); }

fn startY(z: u32) -> u32 { return startOf(z, d.yStart, d.yGroupStride, d.yBatchStride); }

// Row m of A, or the last, by how far it lies behind the first.
fn rowA(m: u32) -> u32 {
  let r = min(m, d.M - 1u);
  return (r / d.aSegmentRows) * d.aSegmentStride + (r % d.aSegmentRows) * d.aRowStride;
}

// Four elements of B, as they are stored, from `base + at` on; the contiguous run has `length`, and zeros follow it.
fn b4(base: u32, at: u32, length: u32) -> vec4<${W}> {
#if ${vec}
  return b[(base + at) >> 2u];
#else
  let last = length - 1u;
  return vec4<${W}>(
    select(${W}(0.0), b[base + min(at, last)], at < length), select(${W}(0.0), b[base + min(at + 1u, last)], at + 1u < length),
    select(${W}(0.0), b[base + min(at + 2u, last)], at + 2u < length), select(${W}(0.0), b[base + min(at + 3u, last)], at + 3u < length));
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

// Row k of a (K,N) B, or the last: four n's.
fn b4ofRow(start: u32, k: u32, n: u32) -> vec4<${W}> {
  let r = min(k, d.K - 1u);
#if ${mappedB}
  return b4(start + (r / d.bSegmentRows) * d.bSegmentStride + (r % d.bSegmentRows) * d.bRowStride, inside(n, d.N), d.N);
#else
  return b4(start + r * d.bRowStride, inside(n, d.N), d.N);
#endif
}

// Column n of a (N,K) B, or the last, by how far it lies behind the first.
fn columnB(n: u32) -> u32 { return min(n, d.N - 1u) * d.bRowStride; }

// llvmpipe runs every branch under a mask, so the rarer activations are a module of their own.
fn tail(v: vec4f) -> vec4f {
#if ${rare}
  return activate(d.activation, v);
#else
  if (d.activation == 0u) { return v; }
  return gelu_exact(v);
#endif
}

// Of product z, which begins at `start` in Y.
fn finish(m: u32, n: u32, z: u32, start: u32, sum: vec4f) {
  if (m >= d.M || n >= d.N) { return; }
  let at = start + m * d.yRowStride + n;
  let biasAt = z * d.biasBatchStride + n;
  var v = sum * d.alpha;
#if ${vec}
  if (d.hasBias != 0u) { v += bias[biasAt >> 2u]; }
#if ${slope}
  slopes[at >> 2u] = vec4<${Y}>(activation_slope(d.activation, v));
#endif
  v = tail(v);
  if (d.hasResidual != 0u) { v += vec4f(residual[at >> 2u]); }
  if (d.accumulate != 0u) { v += vec4f(y[at >> 2u]); }
  y[at >> 2u] = vec4<${Y}>(v);
#else
  // By constant indexes: FXC refuses to store to a component that it does not know.
  let count = min(4u, d.N - n);
  if (d.hasBias != 0u) {
#unroll e 4
    if ($eu < count) { v[$e] += bias[biasAt + $eu]; }
#endunroll
  }
#if ${slope}
  let slope = activation_slope(d.activation, v);
#endif
  v = tail(v);
#unroll e 4
  if ($eu < count) {
    var out = v[$e];
    if (d.hasResidual != 0u) { out += f32(residual[at + $eu]); }
    if (d.accumulate != 0u) { out += f32(y[at + $eu]); }
    y[at + $eu] = ${Y}(out);
#if ${slope}
    slopes[at + $eu] = ${Y}(slope[$e]);
#endif
  }
#endunroll
#endif
}

#if ${subgroups}
#include "lib/matmul_lanes.wgsl"
#else
#include "lib/matmul_tiles.wgsl"
#endif
