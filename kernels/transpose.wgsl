// transpose: x (B,R,C) -> y (B,C,Ry), zeros where a row of y goes on beyond R.
// Rows of x are xRowStride apart, samples xBatchStride. One thread four columns of ROWS rows of x, of `size` in all.
// vec: loads and stores of four elements (C, Ry and the strides are multiples of 4).   X: element type.
${enables}
override WG: u32 = 64;

struct Dims { size: u32, R: u32, C: u32, Ry: u32, xRowStride: u32, xBatchStride: u32 }

#if ${vec}
@group(0) @binding(0) var<storage, read> x: array<vec4<${X}>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<${X}>>;
#else
@group(0) @binding(0) var<storage, read> x: array<${X}>;
@group(0) @binding(1) var<storage, read_write> y: array<${X}>;
#endif
@group(0) @binding(2) var<uniform> d: Dims;

const ROWS = ${ROWS}u;

#include "lib/grid.wgsl"

fn load(b: u32, r: u32, c: u32) -> vec4<${X}> {
  let at = b * d.xBatchStride + min(r, d.R - 1u) * d.xRowStride;
#if ${vec}
  return select(vec4<${X}>(), x[(at + c) >> 2u], r < d.R);
#else
  let last = d.C - 1u;
  let v = vec4<${X}>(x[at + c], x[at + min(c + 1u, last)], x[at + min(c + 2u, last)], x[at + min(c + 3u, last)]);
  return select(vec4<${X}>(), v, r < d.R);
#endif
}

fn store(b: u32, c: u32, r: u32, v: vec4<${X}>) {
#if ${vec}
  y[((b * d.C + c) * d.Ry + r) >> 2u] = v;
#else
  if (c >= d.C) { return; }
  let at = (b * d.C + c) * d.Ry + r;
#unroll e 4
  if (r + $eu < d.Ry) { y[at + $eu] = v[$e]; }
#endunroll
#endif
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let across = (d.C + 3u) / 4u;
  let down = (d.Ry + ROWS - 1u) / ROWS;
  let c = (i % across) * 4u;
  let first = (i / across % down) * ROWS;
  let b = i / (across * down);
  for (var r = first; r < min(first + ROWS, d.Ry); r += 4u) {
    let v0 = load(b, r, c);
    let v1 = load(b, r + 1u, c);
    let v2 = load(b, r + 2u, c);
    let v3 = load(b, r + 3u, c);
#unroll e 4
    store(b, c + $eu, r, vec4<${X}>(v0[$e], v1[$e], v2[$e], v3[$e]));
#endunroll
  }
}
