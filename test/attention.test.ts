import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AttentionOptions,
  crossAttention,
  crossAttentionWithProbabilities,
  selfAttention,
  selfAttentionWithProbabilities,
} from "../src/ops/attention.ts";
import { backwardByProducts } from "../src/ops/attention_products.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

/** Packed q, k and v of `heads` heads as wide as `D`. */
const packedOf = (B: number, T: number, heads: number, D: number) => given([B, T, 3 * heads * D], 1);

test("crossAttention() is finite and picks the largest key at scores of ±1e4", async () => {
  const q: Given = { shape: [1, 2, 1], data: Float32Array.of(100, -100) };
  const kv: Given = { shape: [1, 3, 2], data: Float32Array.of(100, 1, 0, 2, -100, 3) };
  const ran = await run(device, [q, kv], (a, b) => crossAttention(a, b, { heads: 1 }));
  assert.deepEqual([...ran.y], [1, 3]);
  for (const g of ran.gradients) assert.ok(g.every(Number.isFinite));
});

test("selfAttention() of one sample is the same alone and padded in a batch", async () => {
  const [T, D] = [11, 12];
  const packed = packedOf(1, T, 1, D);
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

test("crossAttention() of one sample has the same gradients alone and before one that is not finite", async () => {
  // Of five keys the last quad has one: what follows it in the buffer belongs to the other sample.
  const [Tq, Tk, D] = [3, 5, 8];
  const [q, kv] = [given([1, Tq, D], 1), given([1, Tk, 2 * D], 2)];
  const twice = ({ shape: [, T, row], data }: Given): Given => ({
    shape: [2, T, row],
    data: Float32Array.from({ length: 2 * data.length }, (_, i) => data[i] ?? Number.NaN),
  });
  const gradients = async (...inputs: Given[]): Promise<readonly Float32Array[]> =>
    (await run(device, inputs, (a, b) => crossAttention(a, b, { heads: 2 }))).gradients;
  const alone = await gradients(q, kv);
  const before = await gradients(twice(q), twice(kv));
  for (const [i, gradient] of alone.entries())
    assert.deepEqual(before[i].subarray(0, gradient.length), gradient);
});

test("backwardByProducts() multiplies head by head what lies in packed rows", async () => {
  // Nothing between: scores = scale·q·kᵀ, dP = dO·vᵀ, and dq = dP·k, dk = dPᵀ·q, dv = scoresᵀ·dO.
  const [B, H, Tq, Tk, D, scale] = [2, 2, 3, 4, 4, 0.5];
  const C = H * D;
  const [q, kv, dO] = [given([B, Tq, C], 1), given([B, Tk, 2 * C], 2), given([B, Tq, C], 3)];
  const tensor = ({ data, shape }: Given) => Tensor.from(device, data, shape);
  const [queries, keys] = [tensor(q), tensor(kv)];
  const [dq, dkv] = [tensor(q), tensor(kv)];
  const slices = (of: Tensor, others: Tensor) =>
    [
      { tensor: of, start: 0 },
      { tensor: others, start: 0 },
      { tensor: others, start: C },
    ] as const;
  const [ofQ, ofK, ofV] = slices(queries, keys);
  const [toQ, toK, toV] = slices(dq, dkv);
  backwardByProducts(
    { q: ofQ, k: ofK, v: ofV, dims: { B, H, Tq, Tk, D, scale } },
    tensor(dO),
    { dq: toQ, dk: toK, dv: toV },
    () => {},
  );
  const wantQ = new Float64Array(q.data.length);
  const wantKV = new Float64Array(kv.data.length);
  for (let b = 0; b < B; b++)
    for (let at = 0; at < C; at += D)
      for (let i = b * Tq; i < (b + 1) * Tq; i++)
        for (let j = b * Tk; j < (b + 1) * Tk; j++) {
          let [score, dP] = [0, 0];
          for (let e = at; e < at + D; e++) {
            score += scale * q.data[i * C + e] * kv.data[j * 2 * C + e];
            dP += dO.data[i * C + e] * kv.data[j * 2 * C + C + e];
          }
          for (let e = at; e < at + D; e++) {
            wantQ[i * C + e] += dP * kv.data[j * 2 * C + e];
            wantKV[j * 2 * C + e] += dP * q.data[i * C + e];
            wantKV[j * 2 * C + C + e] += score * dO.data[i * C + e];
          }
        }
  near(await dq.read(), wantQ, 1e-6, "dq");
  near(await dkv.read(), wantKV, 1e-6, "dk and dv");
});

test("selfAttention() with dropout of rate 0 gives the bits of one without", async () => {
  const packed = packedOf(2, 9, 2, 8);
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
  const packed = packedOf(2, 37, 2, 16);
  const once = () => run(device, [packed], (x) => selfAttention(x, { heads: 2 }));
  assert.deepEqual(await once(), await once());
});

test("selfAttention() and crossAttention() say what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => selfAttention(of(1, 2, 30), { heads: 3 }), {
      name: "RangeError",
      message: "Cannot run selfAttention: a width of 10 does not divide into 3 heads",
    });
    assert.throws(() => crossAttention(of(1, 2, 8), of(1, 3, 8), { heads: 1 }), {
      message: "Cannot run crossAttention: kv is (1, 3, 8) but should be (1, any, 16)",
    });
    assert.throws(() => crossAttentionWithProbabilities(of(1, 2, 8), of(2, 3, 16), { heads: 1 }), {
      message: "Cannot run crossAttention: kv is (2, 3, 16) but should be (1, any, 16)",
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
