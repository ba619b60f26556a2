// matmul_matrices: the products of matmul.wgsl by subgroup matrices: operands rounded to f16, sums in f32.
//   forward   A (M,K), or stored (K,M) if transA   B stored (N,K), as a Linear weight, or (K,N) if !transB   ->  Y (M,N)
//
// Y = act(alpha·op(A)·op(B) + bias) + residual, with the same segments of rows as matmul.wgsl.
// grid: x over N, y over M, z over the products of a batch, *BatchStride apart.
//
// SM × SN subgroups a workgroup, FM × FN result matrices of MM × NN each. Operands come BK k's at a time and are f16 in
// workgroup memory, each row's k's side by side: what is stored otherwise is turned in blocks of 4×4 on its way, as only some
// GPUs load matrices that lie the other way without taking them apart. The next ones are loaded meanwhile, into registers,
// and converted only when they are stored, so that nothing waits for them.
//
// A module of its own: one that mixes matrices with other arithmetic of subgroups crashes NVIDIA's driver 595.
//
// vec: 4-element loads and stores (every stride and the contiguous lengths are multiples of 4).
// X, W, Y: storage types of A, of B, of y and residual.   LA, LB: rows, or blocks, of A and B that a thread brings.
// sized: subgroups are asked to have LANES lanes.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
#if ${sized}
enable subgroup_size_control;
#endif

struct Dims {
  M: u32, N: u32, K: u32,
  aRowStride: u32, aSegmentRows: u32, aSegmentStride: u32, aBatchStride: u32,
  bRowStride: u32, bSegmentRows: u32, bSegmentStride: u32, bBatchStride: u32,
  yRowStride: u32, yBatchStride: u32,
  activation: u32, hasBias: u32, biasBatchStride: u32, hasResidual: u32, accumulate: u32,
  alpha: f32,
}

#if ${vec}
@group(0) @binding(0) var<storage, read> a: array<vec4<${X}>>;
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

const MM = ${MM}u;
const NN = ${NN}u;
const KK = ${KK}u;
const SM = ${SM}u;
const SN = ${SN}u;
const FM = ${FM}u;
const FN = ${FN}u;
const LANES = ${LANES}u;
const THREADS = SM * SN * LANES;
const BM = SM * FM * MM;
const BN = SN * FN * NN;
const BK = KK * ${STEPS}u;

// Quads of a row of a tile, and from one row to the next: 16 bytes more, so that neighbours lie in different banks.
const QUADS = BK / 4u;
const WIDE = QUADS + 2u;
// A thread brings the same quad of every PITCHth row, or block of rows.
const PITCH = THREADS / QUADS;
const SIZE_Y = MM * NN;

var<workgroup> tileA: array<vec4<f16>, BM * WIDE>;
var<workgroup> tileB: array<vec4<f16>, BN * WIDE>;
// One result matrix of each subgroup: WGSL gives no access to the elements of a matrix.
var<workgroup> results: array<f32, SM * SN * SIZE_Y>;

#include "lib/gelu.wgsl"

// Four elements of A from `base + at` on, of a contiguous run of `length`: past its end some that are in it.
fn a4(base: u32, at: u32, length: u32) -> vec4<${X}> {
#if ${vec}
  return a[(base >> 2u) + (min(at, length - 4u) >> 2u)];
#else
  let last = length - 1u;
  return vec4<${X}>(a[base + min(at, last)], a[base + min(at + 1u, last)], a[base + min(at + 2u, last)], a[base + min(at + 3u, last)]);
#endif
}

fn b4(base: u32, at: u32, length: u32) -> vec4<${W}> {
#if ${vec}
  return b[(base >> 2u) + (min(at, length - 4u) >> 2u)];
#else
  let last = length - 1u;
  return vec4<${W}>(b[base + min(at, last)], b[base + min(at + 1u, last)], b[base + min(at + 2u, last)], b[base + min(at + 3u, last)]);
#endif
}

// Where row m of a (M,K) A begins.
fn rowA(m: u32, z: u32) -> u32 {
  let r = min(m, d.M - 1u);
  return z * d.aBatchStride + (r / d.aSegmentRows) * d.aSegmentStride + (r % d.aSegmentRows) * d.aRowStride;
}

// Where row k of a (K,M) A begins.
fn rowOfK(k: u32, z: u32) -> u32 {
  return z * d.aBatchStride + min(k, d.K - 1u) * d.aRowStride;
}

// Where row k of a (K,N) B begins.
fn rowB(k: u32, z: u32) -> u32 {
  let r = min(k, d.K - 1u);
#if ${mappedB}
  return z * d.bBatchStride + (r / d.bSegmentRows) * d.bSegmentStride + (r % d.bSegmentRows) * d.bRowStride;
#else
  return z * d.bBatchStride + r * d.bRowStride;
#endif
}

// Where the k's of column n of a (N,K) B begin.
fn columnB(n: u32, z: u32) -> u32 {
  return z * d.bBatchStride + min(n, d.N - 1u) * d.bRowStride;
}

// The bits of a quad of A that are kept: past K it must be zero. B's is then another of the same column, whose values are
// in the sum already.
fn within(k: u32) -> vec2u {
#if ${wholeQuads}
  return select(vec2u(0u), vec2u(0xffffffffu), k < d.K);
#else
  let keep = select(vec4u(0u), vec4u(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(d.K));
  return vec2u(keep.x | keep.y, keep.z | keep.w);
#endif
}

fn half(v: vec4<${X}>, keep: vec2u) -> vec4<f16> {
  return bitcast<vec4<f16>>(bitcast<vec2u>(vec4<f16>(v)) & keep);
}

fn finish(m: u32, n: u32, z: u32, sum: vec4f) {
  if (m >= d.M || n >= d.N) { return; }
  let at = z * d.yBatchStride + m * d.yRowStride + n;
  var v = sum * d.alpha;
#if ${vec}
  if (d.hasBias != 0u) { v += bias[(z * d.biasBatchStride + n) >> 2u]; }
  v = activate(d.activation, v);
  if (d.hasResidual != 0u) { v += vec4f(residual[at >> 2u]); }
  if (d.accumulate != 0u) { v += vec4f(y[at >> 2u]); }
  y[at >> 2u] = vec4<${Y}>(v);
#else
  // By constant indexes: FXC refuses to store to a component that it does not know.
  let count = min(4u, d.N - n);
  if (d.hasBias != 0u) {
#unroll e 4
    if ($eu < count) { v[$e] += bias[z * d.biasBatchStride + n + $eu]; }
#endunroll
  }
  v = activate(d.activation, v);
#unroll e 4
  if ($eu < count) {
    var out = v[$e];
    if (d.hasResidual != 0u) { out += f32(residual[at + $eu]); }
    if (d.accumulate != 0u) { out += f32(y[at + $eu]); }
    y[at + $eu] = ${Y}(out);
  }
#endunroll
#endif
}

#if ${sized}
@compute @workgroup_size(THREADS) @subgroup_size(LANES)
#else
@compute @workgroup_size(THREADS)
#endif
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let m0 = wg.y * BM;
  let n0 = wg.x * BN;
  let z = wg.z;
  let kq = (t % QUADS) * 4u;
  let line = t / QUADS;
  // The subgroup's part of the workgroup's results.
  let sm = (subgroup / SN % SM) * FM * MM;
  let sn = (subgroup % SN) * FN * NN;
  var sums: array<subgroup_matrix_result<f32, ${NN}, ${MM}>, FM * FN>;
#if ${transA}
  var nextA: array<vec4<${X}>, ${LA} * 4>;
#else
  var nextA: array<vec4<${X}>, ${LA}>;
  var atA: array<u32, ${LA}>;
#unroll i LA
  atA[$i] = rowA(m0 + line + $iu * PITCH, z);
#endunroll
#endif
#if ${transB}
  var nextB: array<vec4<${W}>, ${LB}>;
  var atB: array<u32, ${LB}>;
#unroll i LB
  atB[$i] = columnB(n0 + line + $iu * PITCH, z);
#endunroll
#else
  var nextB: array<vec4<${W}>, ${LB} * 4>;
#endif

  {
    let k = kq;
#include "lib/matrix_operands.wgsl"
  }
  for (var k0 = 0u; k0 < d.K; k0 += BK) {
    let keep = within(k0 + kq);
    workgroupBarrier();
#unroll i LA
#if ${transA}
#unroll e 4
    tileA[((line + $iu * PITCH) * 4u + $eu) * WIDE + kq / 4u] = half(vec4<${X}>(nextA[$i * 4][$e], nextA[$i * 4 + 1][$e], nextA[$i * 4 + 2][$e], nextA[$i * 4 + 3][$e]), keep);
#endunroll
#else
    tileA[(line + $iu * PITCH) * WIDE + kq / 4u] = half(nextA[$i], keep);
#endif
#endunroll
#unroll i LB
#if ${transB}
    tileB[(line + $iu * PITCH) * WIDE + kq / 4u] = vec4<f16>(nextB[$i]);
#else
#unroll e 4
    tileB[((line + $iu * PITCH) * 4u + $eu) * WIDE + kq / 4u] = vec4<f16>(vec4<${W}>(nextB[$i * 4][$e], nextB[$i * 4 + 1][$e], nextB[$i * 4 + 2][$e], nextB[$i * 4 + 3][$e]));
#endunroll
#endif
#endunroll
    workgroupBarrier();
    {
      let k = k0 + BK + kq;
#include "lib/matrix_operands.wgsl"
    }
#unroll s STEPS
    {
#unroll i FM
      let left$i = subgroupMatrixLoad<subgroup_matrix_left<f16, ${KK}, ${MM}>, row_major>(&tileA, (sm + $iu * MM) * WIDE + $su * KK / 4u, WIDE);
#endunroll
#unroll j FN
      {
        let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${NN}, ${KK}>, col_major>(&tileB, (sn + $ju * NN) * WIDE + $su * KK / 4u, WIDE);
#unroll i FM
        sums[$i * FN + $j] = subgroupMatrixMultiplyAccumulate(left$i, right, sums[$i * FN + $j]);
#endunroll
      }
#endunroll
    }
#endunroll
  }

  // One store in the text, not FM·FN: the matrices rotate through sums[0].
  for (var s = 0u; s < FM * FN; s++) {
    subgroupMatrixStore<row_major>(&results, subgroup * SIZE_Y, sums[0], NN);
    workgroupBarrier();
    for (var e = lane * 4u; e < SIZE_Y; e += LANES * 4u) {
      let m = m0 + sm + (s / FN) * MM + e / NN;
      let n = n0 + sn + (s % FN) * NN + e % NN;
      let at = subgroup * SIZE_Y + e;
      finish(m, n, z, vec4f(results[at], results[at + 1u], results[at + 2u], results[at + 3u]));
    }
    workgroupBarrier();
#unroll s LAST
    sums[$s] = sums[$su + 1u];
#endunroll
  }
}
