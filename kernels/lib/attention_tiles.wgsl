// attention by tiles in workgroup memory. A workgroup of 64 threads owns 32 rows of one head, queries or, in backward_kv,
// keys, and walks over the others, the columns, 32 at a time. With tx = t % 8 and ty = t / 8 a thread has
//   scores   of rows ty + 8i and columns 4·tx + j, i and j below 4
//   sums     of rows ty + 8i: EACH quads of the output, tx + 8j
// Both products read their operands from `left` and `right`, a chunk at a time: 9 KiB of workgroup memory for any head size.
// What comes next is fetched into registers while a chunk is multiplied.
//
// A head wider than 32·EACH floats (EACH ≤ 4) is cut into slices, each a workgroup that computes the scores anew: the sums
// of more would not stay in registers, and a wide head is one of few, whose workgroups would leave a GPU empty.
// dk and dv are workgroups of their own for the same two reasons: a quarter more arithmetic than both at once, half the sums.
//
// QUADS: of a head.  CHUNK: quads of a row that a chunk holds.  LOADS = CHUNK / 2: those that a thread fetches.
// LINES: rows of columns for the sums that a thread fetches; a chunk holds 8·LINES of them.
const QUADS = ${QUADS}u;
const CHUNK = ${CHUNK}u;
const PITCH = CHUNK + 1u; // a quad more than a row has: neighbours lie in different banks
const WIDE = ${EACH}u * 8u;
const SLICES = (QUADS + WIDE - 1u) / WIDE;
const TAKEN = ${LINES}u * 8u;

alias Quads = array<vec4f, 4>;
alias Sums = array<vec4f, ${SUMS}>;

// A chunk of the rows, or the weights of the columns: 9 quads a row, of which the last is not used.
var<workgroup> left: array<vec4f, 288>;
// A chunk of the columns, for scores by `slot`, for sums one after the other.
var<workgroup> right: array<vec4f, 288>;
// One quad a thread: its four rows' part of a maximum or sum over all columns.
var<workgroup> parts: array<vec4f, 64>;

#if ${vec}
fn load_q(at: u32, c: u32) -> vec4f { return vec4f(q[(at >> 2u) + c]); }
fn load_k(at: u32, c: u32) -> vec4f { return vec4f(k[(at >> 2u) + c]); }
fn load_v(at: u32, c: u32) -> vec4f { return vec4f(v[(at >> 2u) + c]); }
fn load_dO(at: u32, c: u32) -> vec4f { return vec4f(dO[(at >> 2u) + c]); }
fn load_savedO(at: u32, c: u32) -> vec4f { return vec4f(savedO[(at >> 2u) + c]); }
fn store_o(at: u32, c: u32, x: vec4f) { o[(at >> 2u) + c] = E(x); }
fn store_dq(at: u32, c: u32, x: vec4f) { dq[(at >> 2u) + c] = E(x); }
fn store_dkv(at: u32, c: u32, x: vec4f) { dkv[(at >> 2u) + c] = E(x); }
#else
// 1 for the floats of quad c that belong to the head.
fn inside(c: u32) -> vec4f {
  return select(vec4f(0.0), vec4f(1.0), vec4u(4u * c) + vec4u(0u, 1u, 2u, 3u) < vec4u(d.D));
}

fn load_q(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return vec4f(f32(q[i]), f32(q[i + 1u]), f32(q[i + 2u]), f32(q[i + 3u])) * inside(c);
}
fn load_k(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return vec4f(f32(k[i]), f32(k[i + 1u]), f32(k[i + 2u]), f32(k[i + 3u])) * inside(c);
}
fn load_v(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return vec4f(f32(v[i]), f32(v[i + 1u]), f32(v[i + 2u]), f32(v[i + 3u])) * inside(c);
}
fn load_dO(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return vec4f(f32(dO[i]), f32(dO[i + 1u]), f32(dO[i + 2u]), f32(dO[i + 3u])) * inside(c);
}
fn load_savedO(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return vec4f(f32(savedO[i]), f32(savedO[i + 1u]), f32(savedO[i + 2u]), f32(savedO[i + 3u])) * inside(c);
}
fn store_o(at: u32, c: u32, x: vec4f) {
#unroll e 4
  if (4u * c + $eu < d.D) { o[at + 4u * c + $eu] = E(x[$e]); }
#endunroll
}
fn store_dq(at: u32, c: u32, x: vec4f) {
#unroll e 4
  if (4u * c + $eu < d.D) { dq[at + 4u * c + $eu] = E(x[$e]); }
#endunroll
}
fn store_dkv(at: u32, c: u32, x: vec4f) {
#unroll e 4
  if (4u * c + $eu < d.D) { dkv[at + 4u * c + $eu] = E(x[$e]); }
#endunroll
}
#endif

// The i-th row of a chunk that thread t fetches.
fn line(t: u32, i: u32) -> u32 {
  return t / CHUNK + i * (64u / CHUNK);
}

// Past the head's last quad a chunk holds zeros.
fn padded(x: vec4f, c: u32) -> vec4f {
  if (QUADS % CHUNK == 0u) { return x; }
  return select(vec4f(0.0), x, c < QUADS);
}

fn fetch_q(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, c0: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_q(place(b, t0 + line(t, $iu), d.Tq, d.qRow, d.qStart, h), min(c0 + t % CHUNK, QUADS - 1u)), c0 + t % CHUNK);
#endunroll
}

fn fetch_k(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, c0: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_k(place(b, t0 + line(t, $iu), d.Tk, d.kRow, d.kStart, h), min(c0 + t % CHUNK, QUADS - 1u)), c0 + t % CHUNK);
#endunroll
}

fn fetch_v(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, c0: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_v(place(b, t0 + line(t, $iu), d.Tk, d.vRow, d.vStart, h), min(c0 + t % CHUNK, QUADS - 1u)), c0 + t % CHUNK);
#endunroll
}

fn fetch_dO(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, c0: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_dO(place(b, t0 + line(t, $iu), d.Tq, d.H * d.D, 0u, h), min(c0 + t % CHUNK, QUADS - 1u)), c0 + t % CHUNK);
#endunroll
}

fn take_q(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_q(place(b, t0 + t / 8u + $iu * 8u, d.Tq, d.qRow, d.qStart, h), min(first + $ju * 8u, QUADS - 1u));
#endunroll
#endunroll
}

fn take_k(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_k(place(b, t0 + t / 8u + $iu * 8u, d.Tk, d.kRow, d.kStart, h), min(first + $ju * 8u, QUADS - 1u));
#endunroll
#endunroll
}

fn take_v(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_v(place(b, t0 + t / 8u + $iu * 8u, d.Tk, d.vRow, d.vStart, h), min(first + $ju * 8u, QUADS - 1u));
#endunroll
#endunroll
}

fn take_dO(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_dO(place(b, t0 + t / 8u + $iu * 8u, d.Tq, d.H * d.D, 0u, h), min(first + $ju * 8u, QUADS - 1u));
#endunroll
#endunroll
}

fn put_rows(t: u32, quads: ptr<function, Quads>) {
#unroll i LOADS
  left[line(t % 64u, $iu) * PITCH + t % CHUNK] = (*quads)[$i];
#endunroll
}

// Column 4·x + j stands in slot x + 8j: the eight threads that read their own columns at once read neighbours.
fn put_columns(t: u32, quads: ptr<function, Quads>) {
#unroll i LOADS
  {
    let column = line(t % 64u, $iu);
    right[(column % 4u * 8u + column / 4u) * PITCH + t % CHUNK] = (*quads)[$i];
  }
#endunroll
}

fn put_taken(t: u32, quads: ptr<function, Quads>) {
#unroll i LINES
#unroll j EACH
  right[((t / 8u) % 8u + $iu * 8u) * WIDE + t % 8u + $ju * 8u] = (*quads)[$i * ${EACH} + $j];
#endunroll
#endunroll
}

fn put_weights(t: u32, quads: ptr<function, Quads>) {
#unroll i 4
  left[((t / 8u) % 8u + $iu * 8u) * 9u + t % 8u] = (*quads)[$i];
#endunroll
}

// scores += rows · columns, over one chunk.
fn multiply(t: u32, scores: ptr<function, Quads>) {
  let row = (t / 8u) % 8u;
  let slot = t % 8u;
  for (var c = 0u; c < CHUNK; c++) {
#unroll j 4
    let y$j = right[(slot + $ju * 8u) * PITCH + c];
#endunroll
#unroll i 4
    {
      let x = left[(row + $iu * 8u) * PITCH + c];
      let s = (*scores)[$i];
      (*scores)[$i] = vec4f(chain(x, y0, s.x), chain(x, y1, s.y), chain(x, y2, s.z), chain(x, y3, s.w));
    }
#endunroll
  }
}

// sums += weights of columns c0 … c0 + TAKEN - 1 times what was taken of them.
fn apply(t: u32, c0: u32, sums: ptr<function, Sums>) {
  let row = (t / 8u) % 8u;
  let at = t % 8u;
  for (var c = 0u; c < TAKEN / 4u; c++) {
#unroll i 4
    let w$i = left[(row + $iu * 8u) * 9u + (c0 / 4u + c) % 8u];
#endunroll
#unroll j EACH
#unroll e 4
    {
      let x = right[(4u * c + $eu) * WIDE + at + $ju * 8u];
#unroll i 4
      (*sums)[$i * ${EACH} + $j] = fma(vec4f(w$i[$e]), x, (*sums)[$i * ${EACH} + $j]);
#endunroll
    }
#endunroll
#endunroll
  }
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b = wg.z;
  let h = wg.y / SLICES;
  let first = wg.y % SLICES * WIDE + t % 8u;
  let q0 = wg.x * 32u;
  let row = q0 + t / 8u;
  var rows: Quads;
  var columns: Quads;
  var sums: Sums;
  var m = vec4f(LOWEST);
  var l = vec4f(0.0);
  fetch_q(&rows, t, b, h, q0, 0u);
  fetch_k(&columns, t, b, h, 0u, 0u);
  for (var k0 = 0u; k0 < d.Tk; k0 += 32u) {
    var scores = Quads();
    for (var c = 0u; c < QUADS; c += CHUNK) {
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
      if (c + CHUNK < QUADS) {
        fetch_q(&rows, t, b, h, q0, c + CHUNK);
        fetch_k(&columns, t, b, h, k0, c + CHUNK);
      } else {
        take_v(&columns, t, b, h, k0, first);
      }
      multiply(t, &scores);
    }
    let key = k0 + t % 8u * 4u;
    var top = m;
#unroll j 4
    let there$j = key + $ju < d.Tk;
    let open$j = open(b, key + $ju) > 0.0;
#unroll i 4
    scores[$i][$j] = select(LOWEST, scores[$i][$j] * d.scale, open$j);
    top[$i] = max(top[$i], select(LOWEST, scores[$i][$j], there$j));
#endunroll
#endunroll
    parts[t] = top;
    workgroupBarrier();
#unroll x 8
    top = max(top, parts[t / 8u * 8u + $xu]);
#endunroll
    let shrink = exp(m - top);
    l *= shrink;
    m = top;
#unroll i 4
#unroll j EACH
    sums[$i * ${EACH} + $j] *= shrink[$i];
#endunroll
    scores[$i] = select(vec4f(0.0), exp(scores[$i] - top[$i]), vec4<bool>(there0, there1, there2, there3));
    l[$i] += dot(scores[$i], vec4f(1.0));
#endunroll
    if (d.dropBelow != 0u) {
#unroll i 4
#unroll j 4
      scores[$i][$j] *= kept(b, h, row + $iu * 8u, key + $ju);
#endunroll
#endunroll
    }
    put_weights(t, &scores);
    for (var c = 0u; c < 32u; c += TAKEN) {
      if (c > 0u) { workgroupBarrier(); }
      put_taken(t, &columns);
      workgroupBarrier();
      if (c + TAKEN < 32u) {
        take_v(&columns, t, b, h, k0 + c + TAKEN, first);
      } else {
        fetch_q(&rows, t, b, h, q0, 0u);
        fetch_k(&columns, t, b, h, k0 + 32u, 0u);
      }
      apply(t, c, &sums);
    }
  }
  parts[t] = l;
  workgroupBarrier();
  l = vec4f(0.0);
#unroll x 8
  l += parts[t / 8u * 8u + $xu];
#endunroll
#unroll i 4
  if (row + $iu * 8u < d.Tq) {
    let out = place(b, row + $iu * 8u, d.Tq, d.H * d.D, 0u, h);
#unroll j EACH
    if (first + $ju * 8u < QUADS) { store_o(out, first + $ju * 8u, sums[$i * ${EACH} + $j] / l[$i]); }
#endunroll
    if (first == 0u) { lse[(b * d.H + h) * d.Tq + row + $iu * 8u] = m[$i] + log(l[$i]); }
  }
#endunroll
}

@compute @workgroup_size(64)
fn probabilities(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let h = wg.z % d.H;
  let b = wg.z / d.H;
  var rows: Quads;
  var columns: Quads;
  var scores: Quads;
  for (var c = 0u; c < QUADS; c += CHUNK) {
    fetch_q(&rows, t, b, h, wg.y * 32u, c);
    fetch_k(&columns, t, b, h, wg.x * 32u, c);
    workgroupBarrier();
    put_rows(t, &rows);
    put_columns(t, &columns);
    workgroupBarrier();
    multiply(t, &scores);
  }
#unroll i 4
#unroll j 4
  {
    let tq = wg.y * 32u + t / 8u + $iu * 8u;
    let tk = wg.x * 32u + t % 8u * 4u + $ju;
    if (tq < d.Tq && tk < d.Tk) {
      let row = wg.z * d.Tq + tq;
      p[row * d.Tk + tk] = weigh(select(LOWEST, scores[$i][$j] * d.scale, open(b, tk) > 0.0), savedLse[row]);
    }
  }
#endunroll
#endunroll
}

@compute @workgroup_size(64)
fn backward_delta(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let row = wg.x * 32u + t / 8u;
  var part = vec4f(0.0);
  for (var c = t % 8u; c < QUADS; c += 8u) {
#unroll i 4
    {
      let at = place(wg.z, row + $iu * 8u, d.Tq, d.H * d.D, 0u, wg.y);
      part[$i] = chain(load_dO(at, c), load_savedO(at, c), part[$i]);
    }
#endunroll
  }
  parts[t] = part;
  workgroupBarrier();
  var sum = vec4f(0.0);
#unroll x 8
  sum += parts[t / 8u * 8u + $xu];
#endunroll
#unroll i 4
  if (t % 8u == 0u && row + $iu * 8u < d.Tq) { delta[(wg.z * d.H + wg.y) * d.Tq + row + $iu * 8u] = sum[$i]; }
#endunroll
}

@compute @workgroup_size(64)
fn backward_q(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b = wg.z;
  let h = wg.y / SLICES;
  let first = wg.y % SLICES * WIDE + t % 8u;
  let q0 = wg.x * 32u;
  let row = q0 + t / 8u;
  var rows: Quads;
  var columns: Quads;
  var sums: Sums;
  var z: vec4f;
  var del: vec4f;
#unroll i 4
  z[$i] = savedLse[(b * d.H + h) * d.Tq + min(row + $iu * 8u, d.Tq - 1u)];
  del[$i] = savedDelta[(b * d.H + h) * d.Tq + min(row + $iu * 8u, d.Tq - 1u)];
#endunroll
  fetch_q(&rows, t, b, h, q0, 0u);
  fetch_k(&columns, t, b, h, 0u, 0u);
  for (var k0 = 0u; k0 < d.Tk; k0 += 32u) {
    var scores = Quads();
    for (var c = 0u; c < QUADS; c += CHUNK) {
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
      if (c + CHUNK < QUADS) {
        fetch_q(&rows, t, b, h, q0, c + CHUNK);
        fetch_k(&columns, t, b, h, k0, c + CHUNK);
      } else {
        fetch_dO(&rows, t, b, h, q0, 0u);
        fetch_v(&columns, t, b, h, k0, 0u);
      }
      multiply(t, &scores);
    }
    var along = Quads(); // do·v
    for (var c = 0u; c < QUADS; c += CHUNK) {
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
      if (c + CHUNK < QUADS) {
        fetch_dO(&rows, t, b, h, q0, c + CHUNK);
        fetch_v(&columns, t, b, h, k0, c + CHUNK);
      } else {
        take_k(&columns, t, b, h, k0, first);
      }
      multiply(t, &along);
    }
    let key = k0 + t % 8u * 4u;
#unroll j 4
    {
      let there = key + $ju < d.Tk;
      let isOpen = open(b, key + $ju) > 0.0;
#unroll i 4
      {
        let weight = select(0.0, weigh(select(LOWEST, scores[$i][$j] * d.scale, isOpen), z[$i]), there);
        scores[$i][$j] = weight * (kept(b, h, row + $iu * 8u, key + $ju) * along[$i][$j] - del[$i]) * d.scale;
      }
#endunroll
    }
#endunroll
    workgroupBarrier();
    put_weights(t, &scores);
    for (var c = 0u; c < 32u; c += TAKEN) {
      if (c > 0u) { workgroupBarrier(); }
      put_taken(t, &columns);
      workgroupBarrier();
      if (c + TAKEN < 32u) {
        take_k(&columns, t, b, h, k0 + c + TAKEN, first);
      } else {
        fetch_q(&rows, t, b, h, q0, 0u);
        fetch_k(&columns, t, b, h, k0 + 32u, 0u);
      }
      apply(t, c, &sums);
    }
  }
#unroll i 4
  if (row + $iu * 8u < d.Tq) {
    let out = place(b, row + $iu * 8u, d.Tq, d.qRow, d.qStart, h);
#unroll j EACH
    if (first + $ju * 8u < QUADS) { store_dq(out, first + $ju * 8u, sums[$i * ${EACH} + $j]); }
#endunroll
  }
#endunroll
}

// z < B: dk, of sample z; else dv, of sample z - B.
@compute @workgroup_size(64)
fn backward_kv(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) t: u32) {
  let b = wg.z % d.B;
  let ofKeys = wg.z < d.B;
  let h = wg.y / SLICES;
  let first = wg.y % SLICES * WIDE + t % 8u;
  let k0 = wg.x * 32u;
  let row = k0 + t / 8u;
  var rows: Quads;
  var columns: Quads;
  var sums: Sums;
  fetch_k(&rows, t, b, h, k0, 0u);
  fetch_q(&columns, t, b, h, 0u, 0u);
  for (var q0 = 0u; q0 < d.Tq; q0 += 32u) {
    var scores = Quads();
    for (var c = 0u; c < QUADS; c += CHUNK) {
      workgroupBarrier();
      put_rows(t, &rows);
      put_columns(t, &columns);
      workgroupBarrier();
      if (c + CHUNK < QUADS) {
        fetch_k(&rows, t, b, h, k0, c + CHUNK);
        fetch_q(&columns, t, b, h, q0, c + CHUNK);
      } else if (ofKeys) {
        fetch_v(&rows, t, b, h, k0, 0u);
        fetch_dO(&columns, t, b, h, q0, 0u);
      } else {
        take_dO(&columns, t, b, h, q0, first);
      }
      multiply(t, &scores);
    }
    var along = Quads(); // v·do
    if (ofKeys) {
      for (var c = 0u; c < QUADS; c += CHUNK) {
        workgroupBarrier();
        put_rows(t, &rows);
        put_columns(t, &columns);
        workgroupBarrier();
        if (c + CHUNK < QUADS) {
          fetch_v(&rows, t, b, h, k0, c + CHUNK);
          fetch_dO(&columns, t, b, h, q0, c + CHUNK);
        } else {
          take_q(&columns, t, b, h, q0, first);
        }
        multiply(t, &along);
      }
    }
    let query = q0 + t % 8u * 4u;
#unroll j 4
    {
      let stat = (b * d.H + h) * d.Tq + min(query + $ju, d.Tq - 1u);
      let z = savedLse[stat];
      let del = savedDelta[stat];
      let there = query + $ju < d.Tq;
#unroll i 4
      {
        let isOpen = open(b, row + $iu * 8u) > 0.0;
        let weight = select(0.0, weigh(select(LOWEST, scores[$i][$j] * d.scale, isOpen), z), there);
        let keep = kept(b, h, query + $ju, row + $iu * 8u);
        scores[$i][$j] = weight * select(keep, (keep * along[$i][$j] - del) * d.scale, ofKeys);
      }
#endunroll
    }
#endunroll
    workgroupBarrier();
    put_weights(t, &scores);
    for (var c = 0u; c < 32u; c += TAKEN) {
      if (c > 0u) { workgroupBarrier(); }
      put_taken(t, &columns);
      workgroupBarrier();
      if (c + TAKEN >= 32u) {
        fetch_k(&rows, t, b, h, k0, 0u);
        fetch_q(&columns, t, b, h, q0 + 32u, 0u);
      } else if (ofKeys) {
        take_q(&columns, t, b, h, q0 + c + TAKEN, first);
      } else {
        take_dO(&columns, t, b, h, q0 + c + TAKEN, first);
      }
      apply(t, c, &sums);
    }
  }
#unroll i 4
  if (row + $iu * 8u < d.Tk) {
    let out = place(b, row + $iu * 8u, d.Tk, select(d.vRow, d.kRow, ofKeys), select(d.vStart, d.kStart, ofKeys), h);
#unroll j EACH
    if (first + $ju * 8u < QUADS) { store_dkv(out, first + $ju * 8u, sums[$i * ${EACH} + $j]); }
#endunroll
  }
#endunroll
}
