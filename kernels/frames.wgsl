// frames: moves and masks whole rows.
//   choose    x (N,C) keep (N) fill (C)  -> y (N,C)    row n of x where keep is 1, else fill (zeros if !hasFill)
//   rejected  dy (N,C) keep (N)          -> y (N,C)    dy where keep is 0, else zero: fill's gradient before its sum over rows
//   concat    x (N,Cx)                   -> y (N,C)    into columns start … start + Cx - 1; called once a part
//   slice     x (N,C)                    -> y (N,Cy)   out of them
// One thread an element of the smaller side.   X: element type of x, fill and y.
${enables}
override WG: u32 = 64;

struct Dims { size: u32, C: u32, Cy: u32, start: u32, hasFill: u32 }

@group(0) @binding(0) var<storage, read> x: array<${X}>;
@group(0) @binding(1) var<storage, read> keep: array<u32>;
@group(0) @binding(2) var<storage, read> fill: array<${X}>;
@group(0) @binding(3) var<storage, read_write> y: array<${X}>;
@group(0) @binding(4) var<uniform> d: Dims;

#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn choose(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let other = select(${X}(0.0), fill[i % d.C], d.hasFill != 0u);
  y[i] = select(other, x[i], keep[i / d.C] != 0u);
}

@compute @workgroup_size(WG)
fn rejected(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.size) { y[i] = select(x[i], ${X}(0.0), keep[i / d.C] != 0u); }
}

@compute @workgroup_size(WG)
fn concat(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.size) { y[(i / d.C) * d.Cy + d.start + i % d.C] = x[i]; }
}

@compute @workgroup_size(WG)
fn slice(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i < d.size) { y[i] = x[(i / d.Cy) * d.C + d.start + i % d.Cy]; }
}
