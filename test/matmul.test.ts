import assert from "node:assert/strict";
import { test } from "node:test";
import { f16ToF32, f32ToF16 } from "../src/io/dtype.ts";
import type { ActivationKind } from "../src/ops/activation.ts";
import { convert } from "../src/ops/convert.ts";
import { full } from "../src/ops/elementwise.ts";
import { gemm, linear, matmul } from "../src/ops/matmul.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import * as reference from "./float64.ts";
import { agree, forward, type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

interface Linear {
  readonly M: number;
  readonly K: number;
  readonly N: number;
  readonly bias?: boolean;
  readonly activation?: ActivationKind;
  readonly residual?: boolean;
}

/** linear() in float64, with gradients in the order of the given tensors. */
function linearReference(inputs: readonly Given[], { M, K, N, bias, activation }: Linear, dy: Float32Array) {
  const [x, w, ...rest] = inputs.map((g) => g.data);
  const b = bias ? rest.shift() : undefined;
  const residual = rest.shift();
  const inside = reference.product(x, w, { M, N, K, transB: true }).map((v, i) => v + (b?.[i % N] ?? 0));
  const act = activation && reference.activations[activation];
  const y = inside.map((v, i) => (act ? act.f(v) : v) + (residual?.[i] ?? 0));
  const dInside = act ? inside.map((v, i) => act.slope(v) * dy[i]) : Float64Array.from(dy);
  return {
    y,
    gradients: [
      reference.product(dInside, w, { M, N: K, K: N }),
      reference.product(dInside, x, { M: N, N: K, K: M, transA: true }),
      ...(b ? [reference.columnSums(dInside, N)] : []),
      ...(residual ? [dy] : []),
    ],
  };
}

function linearInputs({ M, K, N, bias, residual }: Linear): Given[] {
  const w = given([N, K], 2, 1 / Math.sqrt(K));
  return [given([M, K], 1), w, ...(bias ? [given([N], 3)] : []), ...(residual ? [given([M, N], 4)] : [])];
}

const linearCases: Linear[] = [
  { M: 1, K: 1, N: 1 },
  { M: 1, K: 7, N: 1023, bias: true },
  { M: 1023, K: 7, N: 3, bias: true },
  { M: 17, K: 1023, N: 9, bias: true, residual: true },
  { M: 5, K: 6, N: 33, bias: true, activation: "gelu" },
  { M: 67, K: 70, N: 65, residual: true },
  { M: 1, K: 4, N: 4 },
  { M: 17, K: 64, N: 36, bias: true, residual: true },
  { M: 3, K: 1024, N: 8, bias: true, activation: "gelu" },
  { M: 33, K: 68, N: 132, bias: true, activation: "gelu_tanh" },
  { M: 16, K: 32, N: 64, bias: true, activation: "tanh" },
  { M: 70, K: 20, N: 12, bias: true, activation: "relu" },
  { M: 9, K: 12, N: 20, bias: true, activation: "sigmoid" },
];

for (const c of linearCases) {
  const tail = [c.bias && "bias", c.activation, c.residual && "residual"].filter(Boolean).join(", ");
  test(`linear() agrees with float64: (${c.M}, ${c.K}) to ${c.N}${tail && ` with ${tail}`}`, async () => {
    const inputs = linearInputs(c);
    const ran = await run(device, inputs, (x, w, ...rest) => {
      const b = c.bias ? rest.shift() : undefined;
      return linear(x, w, b, { activation: c.activation, residual: rest.shift() });
    });
    agree(ran, linearReference(inputs, c, ran.dy));
  });
}

test("linear() fuses activation and residual where nothing is recorded, and refuses to where something is", async () => {
  const c: Linear = { M: 7, K: 20, N: 24, bias: true, activation: "gelu", residual: true };
  const inputs = linearInputs(c);
  const op = (x: Tensor, w: Tensor, b: Tensor, residual: Tensor) =>
    linear(x, w, b, { activation: "gelu", residual });
  const y = await forward(device, inputs, op as (...t: Tensor[]) => Tensor);
  near(y, linearReference(inputs, c, new Float32Array(y.length)).y, 2e-6, "y");
  await assert.rejects(run(device, inputs, op as (...t: Tensor[]) => Tensor), {
    message: "Cannot run linear: a residual after an activation has no backward; add it apart",
  });
});

test("linear() keeps leading axes and agrees with float64 at values of ±1e4", async () => {
  const x = given([2, 3, 5], 1, 1e4);
  const w = given([7, 5], 2, 1e4);
  const ran = await run(device, [x, w], (a, b) => linear(a, b));
  assert.deepEqual(ran.shape, [2, 3, 7]);
  agree(ran, linearReference([x, w], { M: 6, K: 5, N: 7 }, ran.dy));
});

for (const [M, K, N] of [
  [7, 33, 9],
  [20, 64, 40],
]) {
  test(`linear() reads f16 weights: (${M}, ${K}) to ${N}`, async (t) => {
    if (!device.info.f16) {
      t.diagnostic(`${device.info.name} has no f16: nothing to run`);
      return;
    }
    const x = given([M, K], 1);
    const w = given([N, K], 2);
    const halves = f32ToF16(w.data);
    const rounded = { shape: w.shape, data: f16ToF32(halves) };
    const words = new Uint32Array(Math.ceil(halves.length / 2));
    new Uint16Array(words.buffer).set(halves);
    const half = () => convert(Tensor.from(device, words, [words.length]), "F16", [N, K], "f16");
    const ran = await run(device, [x], (a) => linear(a, half()));
    const { y, gradients } = linearReference([x, rounded], { M, K, N }, ran.dy);
    agree(ran, { y, gradients: gradients.slice(0, 1) });
  });
}

for (const c of [
  { Z: 1, M: 5, K: 7, N: 3, transB: false, alpha: 1 },
  { Z: 3, M: 17, K: 33, N: 9, transB: false, alpha: 0.25 },
  { Z: 3, M: 17, K: 33, N: 9, transB: true, alpha: -2 },
  { Z: 2, M: 20, K: 36, N: 68, transB: false, alpha: 1 },
  { Z: 2, M: 36, K: 64, N: 20, transB: true, alpha: 0.125 },
]) {
  const { Z, M, K, N, transB, alpha } = c;
  test(`matmul() agrees with float64: ${Z} × (${M}, ${K})·(${K}, ${N})${transB ? " transposed" : ""}, alpha ${alpha}`, async () => {
    const lead = Z > 1 ? [Z] : [];
    const a = given([...lead, M, K], 1);
    const b = given([...lead, ...(transB ? [N, K] : [K, N])], 2);
    const ran = await run(device, [a, b], (x, w) => matmul(x, w, { transB, alpha }));
    assert.deepEqual(ran.shape, [...lead, M, N]);
    const part = (x: Float32Array, z: number) => x.subarray((z * x.length) / Z, ((z + 1) * x.length) / Z);
    const each = Array.from({ length: Z }, (_, z) => {
      const [x, w, dy] = [part(a.data, z), part(b.data, z), part(ran.dy, z)];
      return {
        y: reference.product(x, w, { M, N, K, transB, alpha }),
        dx: reference.product(dy, w, { M, N: K, K: N, transB: !transB, alpha }),
        dw: transB
          ? reference.product(dy, x, { M: N, N: K, K: M, transA: true, alpha })
          : reference.product(x, dy, { M: K, N, K: M, transA: true, alpha }),
      };
    });
    const joined = (name: "y" | "dx" | "dw") => each.flatMap((e) => [...e[name]]);
    agree(ran, { y: joined("y"), gradients: [joined("dx"), joined("dw")] });
  });
}

test("matmul() takes any number of batch axes, or one b for all of them", async () => {
  for (const [shapeA, shapeB, transB] of [
    [[2, 3, 5, 7], [2, 3, 7, 4], false],
    [[2, 3, 5, 7], [2, 3, 4, 7], true],
    [[2, 3, 5, 7], [7, 4], false],
    [[3, 5, 8], [4, 8], true],
    [[0, 5, 7], [7, 4], false],
    [[0, 5, 7], [0, 7, 4], false],
  ] as const) {
    const [a, b] = [given(shapeA, 1), given(shapeB, 2)];
    const [M, K, N] = [5, shapeA[shapeA.length - 1], 4];
    const ran = await run(device, [a, b], (x, w) => matmul(x, w, { transB }));
    assert.deepEqual(ran.shape, [...shapeA.slice(0, -1), N]);
    const [y, da, db] = [ran.y, a.data, b.data].map((x) => new Float64Array(x.length));
    for (let z = 0; z < a.data.length / (M * K); z++) {
      const bAt = shapeB.length > 2 ? z * K * N : 0;
      const [x, dy] = [a.data.subarray(z * M * K), ran.dy.subarray(z * M * N)];
      const w = b.data.subarray(bAt, bAt + K * N);
      y.set(reference.product(x, w, { M, N, K, transB }), z * M * N);
      da.set(reference.product(dy, w, { M, N: K, K: N, transB: !transB }), z * M * K);
      const dw = transB
        ? reference.product(dy, x, { M: N, N: K, K: M, transA: true })
        : reference.product(x, dy, { M: K, N, K: M, transA: true });
      for (const [i, v] of dw.entries()) db[bAt + i] += v;
    }
    agree(ran, { y, gradients: [da, db] });
  }
});

test("gemm() adds to what the output holds if told to accumulate", async () => {
  const [a, b] = [given([3, 5], 1), given([7, 5], 2)];
  const y = await forward(device, [a, b], (x, w) => {
    const sum = full(device, [3, 7], 10);
    gemm(sum, x, w, {
      ...{ M: 3, N: 7, K: 5, transB: true, accumulate: true },
      ...{ a: { rowStride: 5 }, b: { rowStride: 5 }, y: { rowStride: 7 } },
    });
    return sum;
  });
  const plain = reference.product(a.data, b.data, { M: 3, N: 7, K: 5, transB: true });
  near(
    y,
    plain.map((v) => v + 10),
    1e-6,
    "y",
  );
});

test("linear() gives the same bits every time", async () => {
  const inputs = [given([19, 101], 1), given([37, 101], 2)];
  const first = await run(device, inputs, (x, w) => linear(x, w));
  const second = await run(device, inputs, (x, w) => linear(x, w));
  assert.deepEqual(second, first);
});

test("linear() computes no gradient that nobody asked for", () => {
  scope(device, () => {
    const [x, w] = [given([2, 8], 1), given([4, 8], 2)].map((g) => Tensor.from(device, g.data, g.shape));
    const before = device.recorder.dispatches;
    const { gradients } = vjp(device, [w], () => {
      const y = linear(x, w);
      return { outputs: [y], cotangents: [full(device, y.shape, 1)] };
    });
    assert.equal(device.recorder.dispatches - before, 3, "forward, cotangent, dw");
    assert.deepEqual([...gradients.keys()], [w]);
  });
});

test("linear() and matmul() say which shapes do not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => linear(of(2, 5), of(3, 4)), {
      name: "TypeError",
      message: "Cannot run linear: w is (3, 4) but the last axis of x (2, 5) is 5",
    });
    assert.throws(() => linear(of(2, 4), of(3, 4), of(4)), {
      message: "Cannot run linear: b is (4) but should be (3)",
    });
    assert.throws(() => linear(of(2, 4), of(3, 4), undefined, { residual: of(3, 2) }), {
      message: "Cannot run linear: residual is (3, 2) but should be (2, 3)",
    });
    assert.throws(() => matmul(of(2, 4), of(3, 4)), {
      message: "Cannot run matmul: a is (2, 4) and b is (3, 4), expected (…, M, K) and (…, K, N)",
    });
    assert.throws(() => matmul(of(4), of(4, 3)), {
      name: "TypeError",
      message: "Cannot run matmul: a is (4) and b is (4, 3), expected (…, M, K) and (…, K, N)",
    });
    assert.throws(() => matmul(of(2, 4), of(3, 4, 5)), {
      name: "TypeError",
      message: "Cannot run matmul: a is (2, 4) and b is (3, 4, 5), expected (…, M, K) and (…, K, N)",
    });
    assert.throws(() => matmul(of(2, 2, 4), of(3, 3, 4), { transB: true }), {
      message:
        "Cannot run matmul: a is (2, 2, 4) and b is (3, 3, 4) (transposed), expected (…, M, K) and (…, N, K)",
    });
  });
});
