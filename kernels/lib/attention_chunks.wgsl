// What attention's tiles are made of: chunks of rows and columns on their way to workgroup memory, and the two products there.
//
// CHUNK: quads of a row, 4 or 8, that a chunk holds for scores; a thread fetches LOADS = CHUNK / 2 of them.
// EACH: quads of an output row that a thread sums up.  LINES: columns that a thread takes for that; a chunk holds 8·LINES.
// X % 8 and X % 64 of what is less anyway tell Dawn that an index needs no bounds check.
const CHUNK = ${CHUNK}u;
const PITCH = CHUNK + 1u; // a quad more than a row has: neighbours lie in different banks
const WIDE = ${EACH}u * 8u;
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
fn start(at: u32) -> u32 { return at >> 2u; }
fn load_q(at: u32, c: u32) -> vec4f { return vec4f(q[at + c]); }
fn load_k(at: u32, c: u32) -> vec4f { return vec4f(k[at + c]); }
fn load_v(at: u32, c: u32) -> vec4f { return vec4f(v[at + c]); }
fn load_dO(at: u32, c: u32) -> vec4f { return vec4f(dO[at + c]); }
fn load_savedO(at: u32, c: u32) -> vec4f { return vec4f(savedO[at + c]); }
fn store_o(at: u32, c: u32, x: vec4f) { o[at + c] = E(x); }
fn store_dq(at: u32, c: u32, x: vec4f) { dq[at + c] = E(x); }
fn store_dkv(at: u32, c: u32, x: vec4f) { dkv[at + c] = E(x); }
#else
fn start(at: u32) -> u32 { return at; }

// Which floats of quad c belong to the head.
fn inside(c: u32) -> vec4<bool> {
  return vec4u(4u * c) + vec4u(0u, 1u, 2u, 3u) < vec4u(d.D);
}

fn load_q(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return select(vec4f(0.0), vec4f(f32(q[i]), f32(q[i + 1u]), f32(q[i + 2u]), f32(q[i + 3u])), inside(c));
}
fn load_k(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return select(vec4f(0.0), vec4f(f32(k[i]), f32(k[i + 1u]), f32(k[i + 2u]), f32(k[i + 3u])), inside(c));
}
fn load_v(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return select(vec4f(0.0), vec4f(f32(v[i]), f32(v[i + 1u]), f32(v[i + 2u]), f32(v[i + 3u])), inside(c));
}
fn load_dO(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return select(vec4f(0.0), vec4f(f32(dO[i]), f32(dO[i + 1u]), f32(dO[i + 2u]), f32(dO[i + 3u])), inside(c));
}
fn load_savedO(at: u32, c: u32) -> vec4f {
  let i = at + 4u * c;
  return select(vec4f(0.0), vec4f(f32(savedO[i]), f32(savedO[i + 1u]), f32(savedO[i + 2u]), f32(savedO[i + 3u])), inside(c));
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

fn slices() -> u32 {
  return (d.quads + WIDE - 1u) / WIDE;
}

fn within(c: u32) -> u32 {
  if (CHUNK == 8u) { return c; }
  return min(c, d.quads - 1u);
}

// Past the head's last quad a chunk holds zeros.
fn padded(x: vec4f, c: u32) -> vec4f {
  if (CHUNK == 8u) { return x; }
  return select(vec4f(0.0), x, c < d.quads);
}

// Which of the keys from `key` on may be looked at.
fn open4(b: u32, key: u32) -> vec4<bool> {
  if (d.hasMask == 0u) { return vec4<bool>(true); }
  let keys = min(vec4u(key) + vec4u(0u, 1u, 2u, 3u), vec4u(d.Tk - 1u)) + b * d.Tk;
  return vec4u(mask[keys.x], mask[keys.y], mask[keys.z], mask[keys.w]) != vec4u(0u);
}

// What weigh() multiplies by: in a sample without an open key lse is LOWEST too (the log is lost in so large a number) and
// the difference says 1 where 1/Tk is meant.
fn share(z: f32) -> f32 {
  return select(1.0, 1.0 / f32(d.Tk), z <= LOWEST);
}

fn lines_q(t: u32, b: u32, h: u32, t0: u32) -> vec4u {
  var at: vec4u;
#unroll i LOADS
  at[$i] = start(place(b, t0 + line(t, $iu), d.Tq, d.qRow, d.qStart, h));
#endunroll
  return at;
}

fn fetch_q(to: ptr<function, Quads>, at: vec4u, c: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_q(at[$i], within(c)), c);
#endunroll
}

fn lines_k(t: u32, b: u32, h: u32, t0: u32) -> vec4u {
  var at: vec4u;
#unroll i LOADS
  at[$i] = start(place(b, t0 + line(t, $iu), d.Tk, d.kRow, d.kStart, h));
#endunroll
  return at;
}

fn fetch_k(to: ptr<function, Quads>, at: vec4u, c: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_k(at[$i], within(c)), c);
#endunroll
}

fn lines_v(t: u32, b: u32, h: u32, t0: u32) -> vec4u {
  var at: vec4u;
#unroll i LOADS
  at[$i] = start(place(b, t0 + line(t, $iu), d.Tk, d.vRow, d.vStart, h));
#endunroll
  return at;
}

fn fetch_v(to: ptr<function, Quads>, at: vec4u, c: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_v(at[$i], within(c)), c);
#endunroll
}

fn lines_dO(t: u32, b: u32, h: u32, t0: u32) -> vec4u {
  var at: vec4u;
#unroll i LOADS
  at[$i] = start(place(b, t0 + line(t, $iu), d.Tq, d.H * d.D, 0u, h));
#endunroll
  return at;
}

fn fetch_dO(to: ptr<function, Quads>, at: vec4u, c: u32) {
#unroll i LOADS
  (*to)[$i] = padded(load_dO(at[$i], within(c)), c);
#endunroll
}

fn take_q(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
  let at$i = start(place(b, t0 + t / 8u + $iu * 8u, d.Tq, d.qRow, d.qStart, h));
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_q(at$i, min(first + $ju * 8u, d.quads - 1u));
#endunroll
#endunroll
}

fn take_k(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
  let at$i = start(place(b, t0 + t / 8u + $iu * 8u, d.Tk, d.kRow, d.kStart, h));
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_k(at$i, min(first + $ju * 8u, d.quads - 1u));
#endunroll
#endunroll
}

fn take_v(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
  let at$i = start(place(b, t0 + t / 8u + $iu * 8u, d.Tk, d.vRow, d.vStart, h));
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_v(at$i, min(first + $ju * 8u, d.quads - 1u));
#endunroll
#endunroll
}

fn take_dO(to: ptr<function, Quads>, t: u32, b: u32, h: u32, t0: u32, first: u32) {
#unroll i LINES
  let at$i = start(place(b, t0 + t / 8u + $iu * 8u, d.Tq, d.H * d.D, 0u, h));
#unroll j EACH
  (*to)[$i * ${EACH} + $j] = load_dO(at$i, min(first + $ju * 8u, d.quads - 1u));
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

// scores += rows · columns, over the chunk that begins at quad c0. rolled: the bounds of this loop and the next are no
// constants. Mesa's compiler for Intel would unroll them, load all of a chunk at once, and spill.
fn multiply(t: u32, c0: u32, scores: ptr<function, Quads>) {
#if ${rolled}
  let steps = min(d.quads - c0, CHUNK);
#else
  const steps = CHUNK;
#endif
  for (var step = 0u; step < steps; step++) {
    let c = step % CHUNK;
    let x = (t / 8u) % 8u * PITCH + c;
    let y = t % 8u * PITCH + c;
#unroll j 4
    let y$j = right[y + $ju * 8u * PITCH];
#endunroll
#unroll i 4
    let x$i = left[x + $iu * 8u * PITCH];
    let s$i = (*scores)[$i];
    (*scores)[$i] = vec4f(chain(x$i, y0, s$i.x), chain(x$i, y1, s$i.y), chain(x$i, y2, s$i.z), chain(x$i, y3, s$i.w));
#endunroll
  }
}

// sums += weights · columns, over the columns from c0 on that were taken; `columns` of the tile are there.
fn apply(t: u32, c0: u32, columns: u32, sums: ptr<function, Sums>) {
#if ${rolled}
  let steps = (min(columns - c0, TAKEN) + 3u) / 4u;
#else
  const steps = TAKEN / 4u;
#endif
  for (var step = 0u; step < steps; step++) {
    let c = step % (TAKEN / 4u);
    let w = (t / 8u) % 8u * 9u + (c0 / 4u + c) % 8u;
    let x = c * 4u * WIDE + t % 8u;
#unroll i 4
    let w$i = left[w + $iu * 72u];
#endunroll
#unroll j EACH
#unroll e 4
    {
      let x$e = right[x + $eu * WIDE + $ju * 8u];
#unroll i 4
      (*sums)[$i * ${EACH} + $j] = fma(vec4f(w$i[$e]), x$e, (*sums)[$i * ${EACH} + $j]);
#endunroll
    }
#endunroll
#endunroll
  }
}
