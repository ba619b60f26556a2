/** The kernels that measure an adapter's ceilings: see measure_peaks.ts. What they compute is of no use. */
import { twin } from "../gpu/kernel.ts";

/**
 * Chains of fused multiply-adds in registers that do not wait for one another: FMAS rounds in a turn of the loop, each of CHAINS
 * chains of vec4. Every product depends on a chain's own value, so none can leave the loop, also not where the driver makes an
 * fma of two instructions; all components differ, and none grows or vanishes.
 *
 * - pairs: two vectors a chain that turn about one another, x += a·y, y -= a·x. The result is what was added to, as in a product.
 * - otherwise one vector a chain, x = x·a + b, in half the registers.
 */
export const fmas = twin(
  "wavegate/peak_fma",
  `\${enables}
alias X = \${X};
alias V = vec4<X>;
override WG: u32 = 64;
struct Dims { rounds: u32, a: f32, b: f32 }
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> d: Dims;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  let a = V(X(d.a)) + V(0.0, 0.001, 0.002, 0.003) * X(id.x % 8u);
  let b = V(X(d.b));
  #unroll i CHAINS
  var x$i = V(0.5, 0.25, 0.125, 0.75) + V(X(id.x % 16u) * 0.0625 + 0.015625 * $i);
#if \${pairs}
  var y$i = V(1.0) - x$i;
#endif
  #endunroll
  for (var n = 0u; n < d.rounds; n++) {
    #unroll r FMAS
    #unroll i CHAINS
#if \${pairs}
    x$i = fma(a, y$i, x$i);
    y$i = fma(-a, x$i, y$i);
#else
    x$i = fma(x$i, a, b);
#endif
    #endunroll
    #endunroll
  }
  var sum = V();
  #unroll i CHAINS
  sum += x$i;
#if \${pairs}
  sum += y$i;
#endif
  #endunroll
  let s = vec4f(sum);
  y[id.x] = s.x + s.y + s.z + s.w;
}`,
);

/** QUADS vec4 a thread, neighbours side by side: from x to y. */
export const copy = twin(
  "wavegate/peak_copy",
  `override WG: u32 = 64;
struct Dims { quads: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> d: Dims;
#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let first = (linear_id(wg, groups, t, WG) - t) * \${QUADS}u + t;
  if (first + \${LAST}u * WG >= d.quads) { return; }
  #unroll i QUADS
  let v$i = x[first + $iu * WG];
  #endunroll
  #unroll i QUADS
  y[first + $iu * WG] = v$i;
  #endunroll
}`,
);

/** LOADS vec4 of workgroup memory a turn, lanes side by side. The sum of what was read keeps the loads alive. */
export const workgroupLoads = twin(
  "wavegate/peak_workgroup",
  `override WG: u32 = 64;
const TILE = 512u;
struct Dims { rounds: u32 }
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> d: Dims;
var<workgroup> tile: array<vec4f, TILE>;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) t: u32) {
  for (var i = t; i < TILE; i += WG) { tile[i] = vec4f(f32(i + d.rounds)); }
  workgroupBarrier();
  var at = t;
  #unroll i LOADS
  var sum$i = vec4f();
  #endunroll
  for (var n = 0u; n < d.rounds; n++) {
    #unroll i LOADS
    sum$i += tile[(at + $iu * 8u) % TILE];
    #endunroll
    at += 64u;
  }
  var sum = vec4f();
  #unroll i LOADS
  sum += sum$i;
  #endunroll
  y[id.x] = sum.x + sum.y + sum.z + sum.w;
}`,
);

/**
 * Products of subgroup matrices of M × N × K in registers, 2 left × 2 right of them a round, f16 operands or X, f32 sums. One or
 * more subgroups of a workgroup do the same, and so write the same to the same place; `lanes` is told their size.
 */
export const matrices = twin(
  "wavegate/peak_matrix",
  `\${enables}
enable subgroups;
enable chromium_experimental_subgroup_matrix;
alias X = \${X};
override WG: u32 = 32;
const M = \${M}u;
const N = \${N}u;
const K = \${K}u;
struct Dims { rounds: u32 }
@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> lanes: array<u32>;
@group(0) @binding(3) var<uniform> d: Dims;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(subgroup_size) size: u32) {
  #unroll i 2
  let l$i = subgroupMatrixLoad<subgroup_matrix_left<X, K, M>, row_major>(&x, $iu * M * K, K);
  let r$i = subgroupMatrixLoad<subgroup_matrix_right<X, N, K>, row_major>(&x, $iu * K * N, N);
  #endunroll
  #unroll i 2
  #unroll j 2
  var s$iu$j: subgroup_matrix_result<f32, N, M>;
  #endunroll
  #endunroll
  for (var n = 0u; n < d.rounds; n++) {
    #unroll r 4
    #unroll i 2
    #unroll j 2
    s$iu$j = subgroupMatrixMultiplyAccumulate(l$i, r$j, s$iu$j);
    #endunroll
    #endunroll
    #endunroll
  }
  let at = wg.x * 4u * M * N;
  #unroll i 2
  #unroll j 2
  subgroupMatrixStore<row_major>(&y, at + ($iu * 2u + $ju) * M * N, s$iu$j, N);
  #endunroll
  #endunroll
  lanes[wg.x] = size;
}`,
);

/** Writes nothing to a buffer that it could write: the next dispatch waits for it, as one of a model does. */
export const EMPTY = `
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(1)
fn forward() { _ = &y; }`;
