// lstm: the recurrence of one layer, in one direction or two at once (z). Gates stand as i, f, g, o.
//
//   i, f, o = sigmoid(x·Wx + h·Wh)   g = tanh(x·Wx + h·Wh)   c' = f·c + i·g   h' = o·tanh(c')
//
//   forward           gates (B,T,D,4,H): x·Wx + b   w (D,4,H,H)  h0 c0 (D,B,H)  ->  y (B,T,D,H)  cN (D,B,H)
//                     if saves, gates after their functions, and cells (B,T,D,H): c as each step found it
//   last              y  ->  hN (D,B,H)
//   backward          gates cells w dy dhN  ->  dgates (B,T,D,4,H)   dc (D,B,H): from dcN to dc0
//   backward_initial  dgates w  ->  dh0 (D,B,H)
//   previous          y h0  ->  before (B,T,D,H): h as each step found it
//
// Step s of a sample is its frame s, or the one s before its last in a reversed direction. Frames from a sample's length on
// are 0, as are their gradients, and its state stays.
//
// A dispatch runs `steps` steps from `first` on: one, whose tiles of units are workgroups of their own, or all, where one
// workgroup goes through the tiles. y: blocks of ROWS samples.
//
// Two bodies: lib/lstm_lanes.wgsl for CPU adapters, a lane to four units, and lib/lstm_groups.wgsl, whose threads share the
// sums of a product. Both add up in an order that neither B nor the blocks change.
// V: vec4f where H is a multiple of 4 (vec), else f32; W of them are a V.
${enables}

struct Dims {
  B: u32, T: u32, H: u32, D: u32,
  reversed: u32, first: u32, steps: u32, tiles: u32,
  hasState: u32, saves: u32, hasDy: u32, hasDh: u32,
}

alias V = ${V};
const ROWS = ${ROWS}u;
#if ${vec}
const W = 4u;
#else
const W = 1u;
#endif

@group(0) @binding(0) var<storage, read> w: array<${V}>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read_write> gates: array<${V}>;
@group(0) @binding(3) var<storage, read_write> y: array<${V}>;
@group(0) @binding(4) var<storage, read> h0: array<${V}>;
@group(0) @binding(5) var<storage, read> c0: array<${V}>;
@group(0) @binding(6) var<storage, read_write> cN: array<${V}>;
@group(0) @binding(7) var<storage, read_write> cells: array<${V}>;
@group(0) @binding(8) var<storage, read> savedGates: array<${V}>;
@group(0) @binding(9) var<storage, read> savedCells: array<${V}>;
@group(0) @binding(10) var<storage, read> dy: array<${V}>;
@group(0) @binding(11) var<storage, read> dhN: array<${V}>;
@group(0) @binding(12) var<storage, read_write> dgates: array<${V}>;
@group(0) @binding(13) var<storage, read_write> dc: array<${V}>;
@group(0) @binding(14) var<storage, read_write> dh0: array<${V}>;
@group(0) @binding(15) var<storage, read> savedY: array<${V}>;
@group(0) @binding(16) var<storage, read_write> before: array<${V}>;
@group(0) @binding(17) var<storage, read_write> hN: array<${V}>;
@group(0) @binding(18) var<uniform> d: Dims;

#include "lib/grid.wgsl"

fn sigmoid(x: V) -> V {
  let e = exp(-abs(x));
  return select(e, V(1.0), x >= V(0.0)) / (1.0 + e);
}

// As tanh_safe of lib/gelu.wgsl.
fn tanh_safe(x: V) -> V {
  let e = exp(-2.0 * min(abs(x), V(20.0)));
  let big = sign(x) * (1.0 - e) / (1.0 + e);
  let x2 = x * x;
  let small = x * (1.0 + x2 * (-1.0 / 3.0 + x2 * (2.0 / 15.0 + x2 * (-17.0 / 315.0 + x2 * (62.0 / 2835.0)))));
  return select(big, small, abs(x) < V(0.25));
}

// V's of a state.
fn width() -> u32 { return d.H / W; }

fn is_reversed(dir: u32) -> bool { return ((d.reversed >> dir) & 1u) != 0u; }

// The row of (B,T,D) at which sample b is at step s.
fn row(b: u32, s: u32, dir: u32) -> u32 {
  let length = lengths[b];
  let t = select(s, length - 1u - s, is_reversed(dir) && s < length);
  return (b * d.T + t) * d.D + dir;
}

fn state(b: u32, dir: u32) -> u32 { return (dir * d.B + b) * width(); }

// The longest of a block of samples.
fn longest(b0: u32) -> u32 {
  var most = 0u;
  for (var b = b0; b < min(b0 + ROWS, d.B); b++) { most = max(most, lengths[b]); }
  return most;
}

// Where step s finds the h of sample b: in y, or in h0.
fn start(b: u32, s: u32, dir: u32) -> u32 {
  if (s == 0u) { return state(b, dir); }
  return row(b, s - 1u, dir) * width();
}

fn found(at: u32, s: u32) -> V {
  if (s == 0u) { return h0[at]; }
  return y[at];
}

// The step of units q of one sample, of which i, f, g, o are the gates' h·Wh.
fn cell(b: u32, s: u32, dir: u32, q: u32, i: V, f: V, g: V, o: V) {
  let Q = width();
  let r = row(b, s, dir);
  let at = r * Q + q;
  if (s >= lengths[b]) {
    y[at] = V(0.0);
    return;
  }
  let p = r * 4u * Q + q;
  let gi = sigmoid(gates[p] + i);
  let gf = sigmoid(gates[p + Q] + f);
  let gg = tanh_safe(gates[p + 2u * Q] + g);
  let go = sigmoid(gates[p + 3u * Q] + o);
  let own = state(b, dir) + q;
  var c = V(0.0);
  if (s > 0u) {
    c = cN[own];
  } else if (d.hasState != 0u) {
    c = c0[own];
  }
  let now = gf * c + gi * gg;
  let h = go * tanh_safe(now);
  y[at] = h;
  cN[own] = now;
  if (d.saves != 0u) {
    gates[p] = gi;
    gates[p + Q] = gf;
    gates[p + 2u * Q] = gg;
    gates[p + 3u * Q] = go;
    cells[at] = c;
  }
}

// The way back through that step; `later` is what the step after it gives h.
fn cell_backward(b: u32, s: u32, dir: u32, q: u32, later: V) {
  let Q = width();
  let r = row(b, s, dir);
  let p = r * 4u * Q + q;
  if (s >= lengths[b]) {
    dgates[p] = V(0.0);
    dgates[p + Q] = V(0.0);
    dgates[p + 2u * Q] = V(0.0);
    dgates[p + 3u * Q] = V(0.0);
    return;
  }
  let at = r * Q + q;
  let own = state(b, dir) + q;
  let gi = savedGates[p];
  let gf = savedGates[p + Q];
  let gg = savedGates[p + 2u * Q];
  let go = savedGates[p + 3u * Q];
  let c = savedCells[at];
  let out = tanh_safe(gf * c + gi * gg);
  var dh = later;
  if (d.hasDy != 0u) { dh += dy[at]; }
  if (d.hasDh != 0u && s + 1u == lengths[b]) { dh += dhN[own]; }
  let dnow = dc[own] + dh * go * (1.0 - out * out);
  dgates[p] = dnow * gg * gi * (1.0 - gi);
  dgates[p + Q] = dnow * c * gf * (1.0 - gf);
  dgates[p + 2u * Q] = dnow * gi * (1.0 - gg * gg);
  dgates[p + 3u * Q] = dh * out * go * (1.0 - go);
  dc[own] = dnow * gf;
}

#if ${lanes}
#include "lib/lstm_lanes.wgsl"
#else
#include "lib/lstm_groups.wgsl"
#endif

@compute @workgroup_size(64)
fn last(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let Q = width();
  let i = linear_id(wg, groups, t, 64u);
  if (i >= d.D * d.B * Q) { return; }
  let b = i / Q % d.B;
  hN[i] = savedY[row(b, lengths[b] - 1u, i / (Q * d.B)) * Q + i % Q];
}

@compute @workgroup_size(64)
fn previous(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let Q = width();
  let i = linear_id(wg, groups, t, 64u);
  if (i >= d.B * d.T * d.D * Q) { return; }
  let q = i % Q;
  let dir = i / Q % d.D;
  let s = i / (Q * d.D) % d.T;
  let b = i / (Q * d.D * d.T);
  var h = V(0.0);
  if (s < lengths[b]) {
    if (s > 0u) {
      h = savedY[row(b, s - 1u, dir) * Q + q];
    } else if (d.hasState != 0u) {
      h = h0[state(b, dir) + q];
    }
  }
  before[row(b, s, dir) * Q + q] = h;
}
