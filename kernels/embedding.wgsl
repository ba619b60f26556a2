// embedding: rows of a table, and their gradient without atomics.
//   forward   w (V,C) ids (N) plus (N,C)               -> y (N,C) = w[ids] + plus
//   backward  dy (N,C) order (N) start (V+1)           -> dw (V,C)     order lists positions by id; id v owns start[v] … start[v+1] - 1
// An id of V or more is a caller's error and was refused on the CPU.   W: storage type of w, X: element type of plus, y and
// dy.   WG: threads a row.
${enables}
override WG: u32 = 8;

struct Dims { N: u32, V: u32, C: u32, hasPlus: u32, skip: i32 }

@group(0) @binding(0) var<storage, read> w: array<${W}>;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read> plus: array<${X}>;
@group(0) @binding(3) var<storage, read_write> y: array<${X}>;
@group(0) @binding(4) var<uniform> d: Dims;
@group(0) @binding(5) var<storage, read> dy: array<${X}>;
@group(0) @binding(6) var<storage, read> order: array<u32>;
@group(0) @binding(7) var<storage, read> start: array<u32>;
@group(0) @binding(8) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let n = wg.y * groups.x + wg.x;
  if (n >= d.N) { return; }
  let row = u32(ids[n]) * d.C;
  for (var c = t; c < d.C; c += WG) {
    var v = f32(w[row + c]);
    if (d.hasPlus != 0u) { v += f32(plus[n * d.C + c]); }
    y[n * d.C + c] = ${X}(v);
  }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let v = wg.y * groups.x + wg.x;
  if (v >= d.V) { return; }
  let first = start[v];
  // The padding row learns nothing, as torch's padding_idx.
  let last = select(start[v + 1u], first, i32(v) == d.skip);
  for (var c = t; c < d.C; c += WG) {
    var sum = 0.0;
    for (var i = first; i < last; i++) { sum += f32(dy[order[i] * d.C + c]); }
    dw[v * d.C + c] = sum;
  }
}
