// lstm by workgroups of 64 threads that share a product: neighbours take the quads of a sum in turn, and add up in workgroup
// memory.
//   forward   a tile is 8 units, 8 threads to a unit, each with the four gates' sums of ROWS samples
//   backward  a tile is 2 V's of units, 32 threads to a V
const PARTS = 8u;
const UNITS = 8u;
const UNITS_PITCH = ROWS * UNITS + 1u; // one more than a part has: neighbours lie in different banks
const PARTS_BACK = 32u;
const VS = 2u;
const VS_PITCH = ROWS * VS + 1u;

var<workgroup> parts: array<vec4f, PARTS * UNITS_PITCH>;
var<workgroup> totals: array<vec4f, ROWS * UNITS>;
var<workgroup> parts_back: array<V, PARTS_BACK * VS_PITCH>;

#if ${vec}
fn along(a: V, b: V) -> f32 { return dot(a, b); }
// One gate of the units from `at` on.
fn of_gate(at: u32, g: u32) -> V { return V(totals[at][g], totals[at + 1u][g], totals[at + 2u][g], totals[at + 3u][g]); }
#else
fn along(a: V, b: V) -> f32 { return a * b; }
fn of_gate(at: u32, g: u32) -> V { return totals[at][g]; }
#endif

fn sample(b0: u32, r: u32) -> u32 { return min(b0 + r, d.B - 1u); }

@compute @workgroup_size(64) ${subgroupSize}
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let Q = width();
  let b0 = wg.y * ROWS;
  let dir = wg.z;
  let most = longest(b0);
  let part = t % PARTS;
  for (var s = d.first; s < d.first + d.steps; s++) {
    let walks = s < most && (s > 0u || d.hasState != 0u);
#unroll r ROWS
    let from$r = start(sample(b0, $ru), s, dir);
#endunroll
    for (var tile = wg.x; tile < d.tiles; tile += groups.x) {
      let unit = min(tile * UNITS + t / PARTS, d.H - 1u);
#unroll g 4
      let column$g = ((dir * 4u + $gu) * d.H + unit) * Q;
#endunroll
      var sums = array<vec4f, ROWS>();
      if (walks) {
        for (var k = part; k < Q; k += PARTS) {
#unroll g 4
          let w$g = w[column$g + k];
#endunroll
#unroll r ROWS
          {
            let h = found(from$r + k, s);
            sums[$r] += vec4f(along(h, w0), along(h, w1), along(h, w2), along(h, w3));
          }
#endunroll
        }
      }
#unroll r ROWS
      parts[part * UNITS_PITCH + $ru * UNITS + t / PARTS] = sums[$r];
#endunroll
      workgroupBarrier();
      if (t < ROWS * UNITS) {
        var total = parts[t];
        for (var p = 1u; p < PARTS; p++) { total += parts[p * UNITS_PITCH + t]; }
        totals[t] = total;
      }
      workgroupBarrier();
      let r = t / (UNITS / W);
      let q = tile * (UNITS / W) + t % (UNITS / W);
      if (r < ROWS && b0 + r < d.B && q < Q) {
        let at = t * W;
        var held = V(0.0);
        for (var turn = 0u; turn < 4u; turn++) {
          let gate = ORDER[turn];
          held = cell(b0 + r, s, dir, q, gate, of_gate(at, gate), held);
        }
      }
    }
    storageBarrier();
  }
}

// The thread's part of dgates·w of step s, of all samples of the block.
fn product(sums: ptr<function, Sums>, b0: u32, s: u32, dir: u32, q: u32, part: u32) {
  let Q = width();
  let column = dir * 4u * d.H * Q + min(q, Q - 1u);
#unroll r ROWS
  let from$r = row(sample(b0, $ru), s, dir) * 4u * Q;
#endunroll
  for (var k = part; k < 4u * Q; k += PARTS_BACK) {
#if ${vec}
    let at = column + 4u * k * Q;
    let w0 = w[at];
    let w1 = w[at + Q];
    let w2 = w[at + 2u * Q];
    let w3 = w[at + 3u * Q];
#else
    let w0 = w[column + k * Q];
#endif
#unroll r ROWS
    {
      let v = dgates[from$r + k];
#if ${vec}
      (*sums)[$r] = fma(vec4f(v.w), w3, fma(vec4f(v.z), w2, fma(vec4f(v.y), w1, fma(vec4f(v.x), w0, (*sums)[$r]))));
#else
      (*sums)[$r] = fma(v, w0, (*sums)[$r]);
#endif
    }
#endunroll
  }
}

// The parts added up: thread t < ROWS·VS gets the sum of sample t / VS at V t % VS.
fn together(sums: ptr<function, Sums>, t: u32) -> V {
#unroll r ROWS
  parts_back[t / VS * VS_PITCH + $ru * VS + t % VS] = (*sums)[$r];
#endunroll
  workgroupBarrier();
  var total = V(0.0);
  if (t < ROWS * VS) {
    for (var p = 0u; p < PARTS_BACK; p++) { total += parts_back[p * VS_PITCH + t]; }
  }
  workgroupBarrier();
  return total;
}

@compute @workgroup_size(64) ${subgroupSize}
fn backward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let b0 = wg.y * ROWS;
  let dir = wg.z;
  let most = longest(b0);
  for (var i = 0u; i < d.steps; i++) {
    let s = d.first - i;
    for (var tile = wg.x; tile < d.tiles; tile += groups.x) {
      let q = tile * VS + t % VS;
      var sums = Sums();
      if (s + 1u < most) { product(&sums, b0, s + 1u, dir, q, t / VS); }
      let later = together(&sums, t);
      if (t < ROWS * VS && b0 + t / VS < d.B && q < width()) { cell_backward(b0 + t / VS, s, dir, q, later); }
    }
    storageBarrier();
  }
}

@compute @workgroup_size(64) ${subgroupSize}
fn backward_initial(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b0 = wg.y * ROWS;
  let q = wg.x * VS + t % VS;
  var sums = Sums();
  product(&sums, b0, 0u, wg.z, q, t / VS);
  let later = together(&sums, t);
  if (t < ROWS * VS && b0 + t / VS < d.B && q < width()) { dh0[state(b0 + t / VS, wg.z) + q] = later; }
}
