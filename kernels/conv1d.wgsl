// conv1d: what a convolution needs besides matmul.wgsl, which does all of its arithmetic. Frames are channels-last.
//   unfold     x (B,T,C)          -> y (G,B,To,Kp)   the k·Cg inputs of each output frame side by side, zero-padded to Kp
//   fold       dy (G,B,To,Kp)     -> dx (B,T,C)      its gradient: every input gathers the places it was copied to
//   regroup    x (B,T,C)          -> y (G,B,Tp,Cg)   groups apart and `padding` zero frames in front, up to Tp in all
//   pack       w (O,Cg,k)         -> y (O,Kp)        a weight in the order of an unfolded row: tap, then channel
//   unpack     dy (O,Kp)          -> dw (O,Cg,k)     its gradient
//   turn       w (O,Cg,k)         -> y (G·Cg,k·Og)   the weight of the backward convolution: taps reversed, groups' ins and outs exchanged
// One thread an element of the result.   X: element type of x and y.
${enables}
override WG: u32 = 64;

struct Dims { size: u32, B: u32, T: u32, C: u32, G: u32, To: u32, k: u32, Kp: u32, stride: u32, padding: u32, dilation: u32, O: u32 }

@group(0) @binding(0) var<storage, read> x: array<${X}>;
@group(0) @binding(1) var<storage, read_write> y: array<${X}>;
@group(0) @binding(2) var<uniform> d: Dims;

#include "lib/grid.wgsl"

@compute @workgroup_size(WG)
fn unfold(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let Cg = d.C / d.G;
  let tap = (i % d.Kp) / Cg;
  let row = i / d.Kp;
  let b = (row / d.To) % d.B;
  let g = row / (d.To * d.B);
  let frame = i32((row % d.To) * d.stride + tap * d.dilation) - i32(d.padding);
  let inside = tap < d.k && frame >= 0 && frame < i32(d.T);
  let at = (b * d.T + u32(max(frame, 0))) * d.C + g * Cg + (i % d.Kp) % Cg;
  y[i] = select(${X}(0.0), x[min(at, d.B * d.T * d.C - 1u)], inside);
}

@compute @workgroup_size(WG)
fn fold(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let Cg = d.C / d.G;
  let c = i % d.C;
  let frame = i32((i / d.C) % d.T);
  let b = i / (d.C * d.T);
  var sum = 0.0;
  for (var tap = 0u; tap < d.k; tap++) {
    // frame = out·stride + tap·dilation - padding
    let lead = frame + i32(d.padding) - i32(tap * d.dilation);
    let out = lead / i32(d.stride);
    if (lead >= 0 && lead % i32(d.stride) == 0 && out < i32(d.To)) {
      sum += f32(x[(((c / Cg) * d.B + b) * d.To + u32(out)) * d.Kp + tap * Cg + c % Cg]);
    }
  }
  y[i] = ${X}(sum);
}

@compute @workgroup_size(WG)
fn regroup(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let Cg = d.C / d.G;
  let frame = i32((i / Cg) % d.To) - i32(d.padding);
  let b = (i / (Cg * d.To)) % d.B;
  let g = i / (Cg * d.To * d.B);
  let at = (b * d.T + u32(max(frame, 0))) * d.C + g * Cg + i % Cg;
  y[i] = select(${X}(0.0), x[min(at, d.B * d.T * d.C - 1u)], frame >= 0 && frame < i32(d.T));
}

@compute @workgroup_size(WG)
fn pack(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let Cg = d.C / d.G;
  let tap = (i % d.Kp) / Cg;
  let at = ((i / d.Kp) * Cg + (i % d.Kp) % Cg) * d.k + min(tap, d.k - 1u);
  y[i] = select(${X}(0.0), x[at], tap < d.k);
}

@compute @workgroup_size(WG)
fn unpack(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let Cg = d.C / d.G;
  y[i] = x[(i / (Cg * d.k)) * d.Kp + (i % d.k) * Cg + (i / d.k) % Cg];
}

@compute @workgroup_size(WG)
fn turn(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let i = linear_id(wg, groups, t, WG);
  if (i >= d.size) { return; }
  let Cg = d.C / d.G;
  let Og = d.O / d.G;
  let row = i / (d.k * Og);
  let tap = d.k - 1u - (i / Og) % d.k;
  let o = (row / Cg) * Og + i % Og;
  y[i] = x[(o * Cg + row % Cg) * d.k + tap];
}
