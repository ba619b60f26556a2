// group_norm where neighbouring threads take neighbouring channels: a tile is LANES elements E of a frame by HELD frames for
// each of WG / LANES rows of threads, read once and held in registers.
//   measure    x (B,T,C)                               -> momentsOut (B,C,S)      of each split of the frames, S of them
//   combine    moments                                 -> mean (B,G,2) rstd (B,G)      one workgroup a group of a sample
//   normalise  x w b mean rstd                         -> y (B,T,C)
//   correlate  dy x (B,T,C) mean rstd                  -> slopesOut (B,C,S)       Σ dy·xh and Σ dy of each split
//   gather     slopes w (C)                            -> dw db (B,C) shareOut (B,G)
//   input      dy x (B,T,C) w mean rstd share          -> dx (B,T,C)
// measure and correlate: grid (tiles of a frame, S, B).   combine and gather: WG a power of two.
// normalise and input: as measure, but by 2 frames a row of threads, as those of input need two registers each.

// Of the frames of a split in one channel: mean, what it was rounded by, Σ of squares about it, their number.
@group(0) @binding(4) var<storage, read_write> momentsOut: array<vec4f>;
@group(0) @binding(0) var<storage, read> moments: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> slopesOut: array<vec2f>;
@group(0) @binding(0) var<storage, read> slopes: array<vec2f>;
// The mean of the gradient over a group, and of the gradient along the normalised x.
@group(0) @binding(8) var<storage, read_write> shareOut: array<vec2f>;
@group(0) @binding(4) var<storage, read> share: array<vec2f>;

const LANES = ${LANES}u;
fn rows() -> u32 { return WG / LANES; } // of threads
#if ${vec}
const SIZE = 4u;
fn part(v: E, i: u32) -> f32 { return v[i]; }
#else
const SIZE = 1u;
fn part(v: E, i: u32) -> f32 { return v; }
#endif

var<workgroup> gathered: array<E, WG>;

// Sum over the rows of threads, by lane; every thread gets that of its lane.
fn row_sum(t: u32, value: E) -> E {
  workgroupBarrier();
  gathered[t] = value;
  for (var half = WG / 2u; half >= LANES; half /= 2u) {
    workgroupBarrier();
    if (t < half) { gathered[t] = gathered[t] + gathered[t + half]; }
  }
  workgroupBarrier();
  return gathered[t % LANES];
}

struct Tile { column: u32, columns: u32, first: u32, start: u32, inside: bool }

// The tile of a workgroup as a thread sees it: its element of a frame, and its first frame.
fn tile_of(wg: vec3u, t: u32, held: u32) -> Tile {
  let columns = d.C / SIZE;
  let column = wg.x * LANES + t % LANES;
  let start = wg.y * rows() * held;
  return Tile(min(column, columns - 1u), columns, start + t / LANES, start, column < columns);
}

// Where an element of frame f lies; past the end the last frame is read again.
fn place(tile: Tile, s: u32, f: u32) -> u32 { return (s * d.T + min(f, d.T - 1u)) * tile.columns + tile.column; }

// Mean, its rest and 1/deviation of the groups that an element's channels are in.
struct Statistics { first: E, rest: E, r: E }

fn statistics(s: u32, column: u32) -> Statistics {
  let each = d.C / d.G;
#if ${vec}
  let g = vec4u(s * d.G) + (4u * column + vec4u(0u, 1u, 2u, 3u)) / each;
  let m = array<vec2f, 4>(savedMean[g.x], savedMean[g.y], savedMean[g.z], savedMean[g.w]);
  let r = vec4f(savedRstd[g.x], savedRstd[g.y], savedRstd[g.z], savedRstd[g.w]);
  return Statistics(vec4f(m[0].x, m[1].x, m[2].x, m[3].x), vec4f(m[0].y, m[1].y, m[2].y, m[3].y), r);
#else
  let g = s * d.G + column / each;
  return Statistics(savedMean[g].x, savedMean[g].y, savedRstd[g]);
#endif
}

@compute @workgroup_size(WG)
fn measure(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let tile = tile_of(wg, t, ${HELD}u);
  let count = f32(min(rows() * ${HELD}u, d.T - tile.start));
  let origin = E(x[place(tile, wg.z, tile.start)]);
#unroll h HELD
  let x_$h = E(x[place(tile, wg.z, tile.first + $hu * rows())]);
#endunroll
  var sum = E(0.0);
#unroll h HELD
  sum += select(E(0.0), x_$h - origin, tile.first + $hu * rows() < d.T);
#endunroll
  let first = origin + row_sum(t, sum) / count;
  var deviations = E(0.0);
  var squares = E(0.0);
#unroll h HELD
  let v_$h = select(E(0.0), x_$h - first, tile.first + $hu * rows() < d.T);
  deviations += v_$h;
  squares += v_$h * v_$h;
#endunroll
  let rest = row_sum(t, deviations) / count;
  let about = max(E(0.0), row_sum(t, squares) - count * rest * rest);
  if (t < LANES && tile.inside) {
    for (var i = 0u; i < SIZE; i++) {
      let c = wg.z * d.C + SIZE * tile.column + i;
      momentsOut[c * groups.y + wg.y] = vec4f(part(first, i), part(rest, i), part(about, i), count);
    }
  }
}

// What a split's mean is from `origin`.
fn from_origin(m: vec4f, origin: f32) -> f32 { return (m.x - origin) + m.y; }

@compute @workgroup_size(WG)
fn combine(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let each = d.C / d.G;
  let n = each * d.splits;
  let base = (wg.y * d.C + wg.x * each) * d.splits;
  let total = f32(d.T * each);
  let origin = moments[base].x;
  var sum = 0.0;
  for (var i = t; i < n; i += WG) {
    let m = moments[base + i];
    sum += m.w * from_origin(m, origin);
  }
  let first = origin + workgroup_sum(t, sum) / total;
  var deviations = 0.0;
  var squares = 0.0;
  for (var i = t; i < n; i += WG) {
    let m = moments[base + i];
    let v = from_origin(m, first);
    deviations += m.w * v;
    squares += m.z + m.w * v * v;
  }
  let rest = workgroup_sum(t, deviations) / total;
  let variance = max(0.0, workgroup_sum(t, squares) / total - rest * rest);
  if (t == 0u) {
    mean[wg.y * d.G + wg.x] = vec2f(first, rest);
    rstd[wg.y * d.G + wg.x] = 1.0 / sqrt(variance + d.eps);
  }
}

@compute @workgroup_size(WG)
fn normalise(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let tile = tile_of(wg, t, 2u);
  let stats = statistics(wg.z, tile.column);
  let gain = w[tile.column];
  let bias = b[tile.column];
#unroll h 2
  let at_$h = place(tile, wg.z, tile.first + $hu * rows());
  let x_$h = E(x[at_$h]);
#endunroll
#unroll h 2
  if (tile.inside && tile.first + $hu * rows() < d.T) { y[at_$h] = S(((x_$h - stats.first) - stats.rest) * stats.r * gain + bias); }
#endunroll
}

@compute @workgroup_size(WG)
fn correlate(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {
  let tile = tile_of(wg, t, ${HELD}u);
  let stats = statistics(wg.z, tile.column);
#unroll h HELD
  let at_$h = place(tile, wg.z, tile.first + $hu * rows());
  let x_$h = E(x[at_$h]);
  let dy_$h = E(dy[at_$h]);
#endunroll
  var along = E(0.0);
  var sum = E(0.0);
#unroll h HELD
  let g_$h = select(E(0.0), dy_$h, tile.first + $hu * rows() < d.T);
  along += g_$h * ((x_$h - stats.first) - stats.rest) * stats.r;
  sum += g_$h;
#endunroll
  along = row_sum(t, along);
  sum = row_sum(t, sum);
  if (t < LANES && tile.inside) {
    for (var i = 0u; i < SIZE; i++) {
      let c = wg.z * d.C + SIZE * tile.column + i;
      slopesOut[c * groups.y + wg.y] = vec2f(part(along, i), part(sum, i));
    }
  }
}

@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let each = d.C / d.G;
  var both = vec2f(0.0); // of the group: Σ dy·w and Σ dy·w·xh
  for (var i = 0u; i < each; i++) {
    let column = wg.x * each + i;
    let c = wg.y * d.C + column;
    var sums = vec2f(0.0);
    for (var split = t; split < d.splits; split += WG) { sums += slopes[c * d.splits + split]; }
    let along = workgroup_sum(t, sums.x);
    let sum = workgroup_sum(t, sums.y);
#if ${vec}
    both += w[column / 4u][column % 4u] * vec2f(sum, along);
#else
    both += w[column] * vec2f(sum, along);
#endif
    if (t == 0u) {
      dw[c] = along;
      db[c] = sum;
    }
  }
  if (t == 0u) { shareOut[wg.y * d.G + wg.x] = both / f32(d.T * each); }
}

@compute @workgroup_size(WG)
fn input(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let tile = tile_of(wg, t, 2u);
  let stats = statistics(wg.z, tile.column);
  let gain = w[tile.column];
  let each = d.C / d.G;
#if ${vec}
  let g = vec4u(wg.z * d.G) + (4u * tile.column + vec4u(0u, 1u, 2u, 3u)) / each;
  let both = array<vec2f, 4>(share[g.x], share[g.y], share[g.z], share[g.w]);
  let meanG = vec4f(both[0].x, both[1].x, both[2].x, both[3].x);
  let meanAlong = vec4f(both[0].y, both[1].y, both[2].y, both[3].y);
#else
  let g = wg.z * d.G + tile.column / each;
  let meanG = share[g].x;
  let meanAlong = share[g].y;
#endif
#unroll h 2
  let at_$h = place(tile, wg.z, tile.first + $hu * rows());
  let x_$h = E(x[at_$h]);
  let dy_$h = E(dy[at_$h]);
#endunroll
#unroll h 2
  if (tile.inside && tile.first + $hu * rows() < d.T) {
    let xh = ((x_$h - stats.first) - stats.rest) * stats.r;
    dx[at_$h] = S(stats.r * (dy_$h * gain - meanG - xh * meanAlong));
  }
#endunroll
}
