import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AttentionOptions,
  crossAttention,
  crossAttentionWithProbabilities,
  selfAttention,
  selfAttentionWithProbabilities,
} from "../src/ops/attention.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import * as reference from "./float64.ts";
import { agree, forward, type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

interface Case {
  readonly B: number;
  readonly H: number;
  readonly Tq: number;
  /** Absent: self-attention. */
  readonly Tk?: number;
  readonly D: number;
  readonly scale?: number;
  /** 1 = open, by sample and key. */
  readonly mask?: readonly number[];
  readonly dropout?: { readonly rate: number; readonly seed: number };
  /** Standard deviation of queries and keys. */
  readonly spread?: number;
}

/** Packed tensors of a case: qkv, or q and kv. */
function inputs({ B, H, Tq, Tk, D, spread = 1 }: Case): Given[] {
  const C = H * D;
  const spreadOut = (g: Given, width: number, from: number): Given => ({
    ...g,
    data: g.data.map((v, i) => (i % width < from ? v * spread : v)),
  });
  return Tk === undefined
    ? [spreadOut(given([B, Tq, 3 * C], 1), 3 * C, 2 * C)]
    : [spreadOut(given([B, Tq, C], 1), C, C), spreadOut(given([B, Tk, 2 * C], 2), 2 * C, C)];
}

/** Columns from … from + width of rows as long as `row`. */
const columns = (x: Float32Array, row: number, from: number, width: number) =>
  x.filter((_, i) => i % row >= from && i % row < from + width);

const pack = (parts: readonly Float64Array[], width: number) =>
  Array.from({ length: parts[0].length / width }, (_, r) =>
    parts.flatMap((p) => [...p.subarray(r * width, (r + 1) * width)]),
  ).flat();

function wanted(c: Case, given: readonly Given[], dy: Float32Array) {
  const C = c.H * c.D;
  const self = c.Tk === undefined;
  const [first, second = first] = given.map((g) => g.data);
  const [kRow, kFrom] = self ? [3 * C, C] : [2 * C, 0];
  const rate = c.dropout?.rate ?? 0;
  const Tk = c.Tk ?? c.Tq;
  const r = reference.attention(
    columns(first, self ? 3 * C : C, 0, C),
    columns(second, kRow, kFrom, C),
    columns(second, kRow, kFrom + C, C),
    dy,
    {
      ...{ B: c.B, H: c.H, Tq: c.Tq, Tk, D: c.D, scale: c.scale, mask: c.mask },
      kept: (b, h, i, j) =>
        reference.randomBits(c.dropout?.seed ?? 0, ((b * c.H + h) * c.Tq + i) * Tk + j) >= rate * 2 ** 32
          ? 1 / (1 - rate)
          : 0,
    },
  );
  const gradients = self ? [pack([r.dq, r.dk, r.dv], C)] : [r.dq, pack([r.dk, r.dv], C)];
  return { y: r.y, p: r.p, gradients };
}

const options = (c: Case): AttentionOptions => ({
  ...{ heads: c.H, scale: c.scale, dropout: c.dropout },
  mask: c.mask && Tensor.from(device, Uint32Array.from(c.mask), [c.B, c.Tk ?? c.Tq]),
});

async function check(c: Case, limit = 2e-6, gradientLimit = 5e-6): Promise<void> {
  const packed = inputs(c);
  const ran = await run(device, packed, (q, kv) =>
    kv ? crossAttention(q, kv, options(c)) : selfAttention(q, options(c)),
  );
  assert.deepEqual(ran.shape, [c.B, c.Tq, c.H * c.D]);
  agree(ran, wanted(c, packed, ran.dy), limit, gradientLimit);
}

/** Sample 0 whole, the others ever shorter, with a hole in each. */
const holes = (B: number, T: number) =>
  Array.from({ length: B * T }, (_, i) => {
    const [b, t] = [Math.floor(i / T), i % T];
    return t < T - 2 * b && t !== b + 1 ? 1 : 0;
  });

for (const c of [
  { B: 1, H: 1, Tq: 1, D: 1 },
  { B: 2, H: 3, Tq: 7, D: 7 },
  { B: 1, H: 2, Tq: 17, D: 16 },
  { B: 1, H: 2, Tq: 149, D: 64, mask: holes(1, 149) },
  { B: 3, H: 2, Tq: 33, D: 20, mask: holes(3, 33) },
  { B: 1, H: 1, Tq: 5, D: 128 },
])
  test(`selfAttention() agrees with float64: ${c.B} × ${c.Tq}, ${c.H} heads of ${c.D}${c.mask ? ", masked" : ""}`, () =>
    check(c));

for (const c of [
  { B: 2, H: 2, Tq: 1, Tk: 149, D: 16 },
  { B: 1, H: 4, Tq: 149, Tk: 1, D: 7 },
  { B: 3, H: 1, Tq: 17, Tk: 7, D: 80, mask: holes(3, 7) },
  { B: 2, H: 1, Tq: 7, Tk: 33, D: 1, mask: holes(2, 33) },
  { B: 1, H: 1, Tq: 19, Tk: 9, D: 768 },
  { B: 2, H: 1, Tq: 3, Tk: 18, D: 1024, mask: holes(2, 18) },
])
  test(`crossAttention() agrees with float64: ${c.B} × ${c.Tq} on ${c.Tk}, ${c.H} heads of ${c.D}${c.mask ? ", masked" : ""}`, () =>
    check(c));

test("selfAttention() of a sample whose keys are all masked weighs them all the same, forward and backward", () =>
  check({ B: 3, H: 2, Tq: 19, D: 8, mask: holes(3, 19).map((m, i) => (Math.floor(i / 19) === 1 ? 0 : m)) }));

test("selfAttention() agrees with float64 at scores of ±1e4", () => {
  // Scores are products of two values near ±100; neighbours differ by far more than f32 rounds.
  return check({ B: 2, H: 2, Tq: 20, D: 4, scale: 1, spread: 70, mask: holes(2, 20) }, 1e-5, 2e-3);
});

test("crossAttention() is finite and picks the largest key at scores of ±1e4", async () => {
  const q: Given = { shape: [1, 2, 1], data: Float32Array.of(100, -100) };
  const kv: Given = { shape: [1, 3, 2], data: Float32Array.of(100, 1, 0, 2, -100, 3) };
  const ran = await run(device, [q, kv], (a, b) => crossAttention(a, b, { heads: 1 }));
  assert.deepEqual([...ran.y], [1, 3]);
  for (const g of ran.gradients) assert.ok(g.every(Number.isFinite));
});

test("selfAttention() of one sample is the same alone and padded in a batch", async () => {
  const [T, D] = [11, 12];
  const [packed] = inputs({ B: 1, H: 1, Tq: T, D });
  const alone = await forward(device, [packed], (x) => selfAttention(x, { heads: 1 }));
  const row = 3 * D;
  const data = new Float32Array(2 * 20 * row).fill(1e4);
  data.set(packed.data, 20 * row);
  const mask = Uint32Array.from({ length: 40 }, (_, i) => (i % 20 < T ? 1 : 0));
  const padded = await forward(device, [{ shape: [2, 20, row], data }], (x) =>
    selfAttention(x, { heads: 1, mask: Tensor.from(device, mask, [2, 20]) }),
  );
  assert.deepEqual(padded.subarray(20 * D, (20 + T) * D), alone);
});

const dropped = { B: 2, H: 2, Tq: 9, D: 8, dropout: { rate: 0.3, seed: 12345 } };

test("selfAttention() drops the same weights forward and backward, masked or not", async () => {
  await check(dropped);
  await check({ ...dropped, D: 7, mask: holes(2, 9) });
});

test("crossAttention() drops the same weights forward and backward", () => check({ ...dropped, Tk: 21 }));

test("selfAttention() with dropout of rate 0 gives the bits of one without", async () => {
  const [packed] = inputs(dropped);
  const y = (dropout?: AttentionOptions["dropout"]) =>
    forward(device, [packed], (x) => selfAttention(x, { heads: 2, dropout }));
  assert.deepEqual(await y({ rate: 0, seed: 9 }), await y());
});

test("selfAttention() drops as many weights as the rate says, others with another seed", async () => {
  // Zero queries weigh all keys 1/T; each value is 1, so a row of the result is the kept share times 1/(1 − rate).
  const [B, H, T] = [2, 4, 101];
  const packed: Given = {
    shape: [B, T, 3 * H],
    data: new Float32Array(B * T * 3 * H).map((_, i) => (i % (3 * H) < 2 * H ? 0 : 1)),
  };
  const y = (seed: number, rate: number) =>
    forward(device, [packed], (x) => selfAttention(x, { heads: H, dropout: { rate, seed } }));
  for (const rate of [0.1, 0.5]) {
    const [one, other] = [await y(1, rate), await y(2, rate)];
    const kept = (one.reduce((a, b) => a + b, 0) / one.length) * (1 - rate);
    const deviation = Math.sqrt((rate * (1 - rate)) / (one.length * T));
    assert.ok(
      Math.abs(kept - (1 - rate)) < 5 * deviation,
      `${kept} of the weights were kept at rate ${rate}`,
    );
    assert.notDeepEqual(one, other);
  }
});

for (const c of [
  { B: 2, H: 2, Tq: 17, D: 7, mask: holes(2, 17) },
  { B: 2, H: 1, Tq: 5, Tk: 21, D: 16, mask: [...new Array(21).fill(0), ...holes(1, 21)] },
]) {
  const cross = c.Tk !== undefined;
  test(`${cross ? "cross" : "self"}AttentionWithProbabilities() agrees with float64, and its rows sum to 1`, async () => {
    const packed = inputs(c);
    const both = scope(device, () => {
      const [q, kv] = packed.map((g) => Tensor.from(device, g.data, g.shape));
      return kv
        ? crossAttentionWithProbabilities(q, kv, options(c))
        : selfAttentionWithProbabilities(q, options(c));
    });
    const want = wanted(c, packed, new Float32Array(both.y.size));
    assert.deepEqual(both.probabilities.shape, [c.B, c.H, c.Tq, c.Tk ?? c.Tq]);
    near(await both.y.read(), want.y, 2e-6, "y");
    near(await both.probabilities.read(), want.p, 2e-6, "the probabilities");
    both.y.release();
    both.probabilities.release();
  });
}

test("selfAttentionWithProbabilities() has no T² too large for a grid", async () => {
  const [T, heads] = [2100, 1];
  const { y, probabilities } = scope(device, () =>
    selfAttentionWithProbabilities(Tensor.from(device, new Float32Array(T * 12), [1, T, 12]), { heads }),
  );
  const values = await probabilities.read();
  assert.ok(values.every((p) => Math.abs(p * T - 1) < 1e-5));
  y.release();
  probabilities.release();
});

test("selfAttention() gives the same bits every time", async () => {
  const c = { B: 2, H: 2, Tq: 37, D: 16 };
  const once = () => run(device, inputs(c), (x) => selfAttention(x, { heads: 2 }));
  assert.deepEqual(await once(), await once());
});

test("selfAttention() and crossAttention() say what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => selfAttention(of(1, 2, 30), { heads: 3 }), {
      name: "RangeError",
      message: "Cannot run selfAttention: width 10 of (1, 2, 30) does not divide into 3 heads",
    });
    assert.throws(() => crossAttention(of(1, 2, 8), of(1, 3, 8), { heads: 1 }), {
      message: "Cannot run crossAttention: kv is (1, 3, 8) but should be (1, any, 16)",
    });
    const mask = Tensor.empty(device, [1, 3], "u32");
    assert.throws(() => selfAttention(of(1, 2, 24), { heads: 1, mask }), {
      message: "Cannot run selfAttention: mask is (1, 3) but should be (1, 2)",
    });
    assert.throws(() => crossAttention(of(1, 2, 8), of(1, 0, 16), { heads: 1 }), {
      message: "Cannot run crossAttention: 2 queries meet 0 keys, both must be at least 1",
    });
  });
});
