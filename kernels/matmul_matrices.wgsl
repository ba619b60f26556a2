// matmul_matrices: the products of matmul.wgsl by subgroup matrices: operands rounded to f16, sums in f32.
//   forward   A (M,K), or stored (K,M) if transA   B stored (N,K), as a Linear weight, or (K,N) if !transB   ->  Y (M,N)
//
// Y = act(alpha·op(A)·op(B) + bias) + residual, with the same segments of rows as matmul.wgsl.
// grid: x over N, y over M, z over the products of a batch, *BatchStride apart.
//
// SM × SN subgroups a workgroup, FM × FN result matrices of MM × NN each. Operands come BK k's at a time, as they are
// stored, [row][k] or [k][column], and are f16 in workgroup memory; the next ones are on their way meanwhile, in registers
// and not converted yet, so that nothing waits for them.
//
// A module of its own: one that mixes matrices with other arithmetic of subgroups crashes NVIDIA's driver 595.
//
// vec: 4-element loads and stores (every stride and the contiguous lengths are multiples of 4).
// X, W, Y: storage types of A, of B, of y and residual.   LA, LB: quads of A and B that a thread brings a step.
${enables}
enable chromium_experimental_subgroup_matrix;

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
#if ${transA}
const QUADS_A = BM / 4u;
const ROWS_A = BK;
#else
const QUADS_A = BK / 4u;
const ROWS_A = BM;
#endif
#if ${transB}
const QUADS_B = BK / 4u;
const ROWS_B = BN;
#else
const QUADS_B = BN / 4u;
const ROWS_B = BK;
#endif
const WIDE_A = QUADS_A + 2u;
const WIDE_B = QUADS_B + 2u;
// A thread's quads of a tile are so many rows apart.
const PITCH_A = THREADS / QUADS_A;
const PITCH_B = THREADS / QUADS_B;
const SIZE_Y = MM * NN;

var<workgroup> tileA: array<vec4<f16>, ROWS_A * WIDE_A>;
var<workgroup> tileB: array<vec4<f16>, ROWS_B * WIDE_B>;
// One result matrix of each subgroup: WGSL gives no access to the elements of a matrix.
var<workgroup> results: array<f32, SM * SN * SIZE_Y>;

#include "lib/gelu.wgsl"

// Four elements of A from `base + at` on, of a contiguous run of `length`: past its end some that are in it.
fn a4(base: u32, at: u32, length: u32) -> vec4<${X}> {
#if ${vec}
  return a[(base + min(at, length - 4u)) >> 2u];
#else
  let last = length - 1u;
  return vec4<${X}>(a[base + min(at, last)], a[base + min(at + 1u, last)], a[base + min(at + 2u, last)], a[base + min(at + 3u, last)]);
#endif
}

fn b4(base: u32, at: u32, length: u32) -> vec4<${W}> {
#if ${vec}
  return b[(base + min(at, length - 4u)) >> 2u];
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

// Past K the elements of A must be zero. Those of B are then others of the same column, which were summed already.
fn within(v: vec4<f16>, k: u32) -> vec4<f16> {
#if ${transA}
  return select(vec4<f16>(), v, k < d.K);
#elif ${vec}
  return select(vec4<f16>(), v, k < d.K);
#else
  return select(vec4<f16>(), v, vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(d.K));
#endif
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

@compute @workgroup_size(THREADS) ${subgroupSize}
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let m0 = wg.y * BM;
  let n0 = wg.x * BN;
  let z = wg.z;
  // The thread's quad of a tile's row, and its first row; every PITCHth follows.
  let qa = t % QUADS_A;
  let ra = t / QUADS_A;
  let qb = t % QUADS_B;
  let rb = t / QUADS_B;
#if ${transA}
#else
#unroll i LA
  let rowA$i = rowA(m0 + ra + $iu * PITCH_A, z);
#endunroll
#endif
#if ${transB}
#unroll i LB
  let columnB$i = columnB(n0 + rb + $iu * PITCH_B, z);
#endunroll
#endif
  // The subgroup's part of the workgroup's results.
  let sm = (subgroup / SN) * FM * MM;
  let sn = (subgroup % SN) * FN * NN;
  var sums: array<subgroup_matrix_result<f32, ${NN}, ${MM}>, FM * FN>;

#unroll i LA
#if ${transA}
  var nextA$i = a4(rowOfK(ra + $iu * PITCH_A, z), m0 + qa * 4u, d.M);
#else
  var nextA$i = a4(rowA$i, qa * 4u, d.K);
#endif
#endunroll
#unroll i LB
#if ${transB}
  var nextB$i = b4(columnB$i, qb * 4u, d.K);
#else
  var nextB$i = b4(rowB(rb + $iu * PITCH_B, z), n0 + qb * 4u, d.N);
#endif
#endunroll
  for (var k0 = 0u; k0 < d.K; k0 += BK) {
    workgroupBarrier();
#unroll i LA
#if ${transA}
    tileA[(ra + $iu * PITCH_A) * WIDE_A + qa] = within(vec4<f16>(nextA$i), k0 + ra + $iu * PITCH_A);
#else
    tileA[(ra + $iu * PITCH_A) * WIDE_A + qa] = within(vec4<f16>(nextA$i), k0 + qa * 4u);
#endif
#endunroll
#unroll i LB
    tileB[(rb + $iu * PITCH_B) * WIDE_B + qb] = vec4<f16>(nextB$i);
#endunroll
    workgroupBarrier();
    let k1 = k0 + BK;
#unroll i LA
#if ${transA}
    nextA$i = a4(rowOfK(k1 + ra + $iu * PITCH_A, z), m0 + qa * 4u, d.M);
#else
    nextA$i = a4(rowA$i, k1 + qa * 4u, d.K);
#endif
#endunroll
#unroll i LB
#if ${transB}
    nextB$i = b4(columnB$i, k1 + qb * 4u, d.K);
#else
    nextB$i = b4(rowB(k1 + rb + $iu * PITCH_B, z), n0 + qb * 4u, d.N);
#endif
#endunroll
#unroll s STEPS
    {
#unroll i FM
#if ${transA}
      let left$i = subgroupMatrixLoad<subgroup_matrix_left<f16, ${KK}, ${MM}>, col_major>(&tileA, $su * KK * WIDE_A + (sm + $iu * MM) / 4u, WIDE_A);
#else
      let left$i = subgroupMatrixLoad<subgroup_matrix_left<f16, ${KK}, ${MM}>, row_major>(&tileA, (sm + $iu * MM) * WIDE_A + $su * KK / 4u, WIDE_A);
#endif
#endunroll
#unroll j FN
      {
#if ${transB}
        let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${NN}, ${KK}>, col_major>(&tileB, (sn + $ju * NN) * WIDE_B + $su * KK / 4u, WIDE_B);
#else
        let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${NN}, ${KK}>, row_major>(&tileB, $su * KK * WIDE_B + (sn + $ju * NN) / 4u, WIDE_B);
#endif
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
