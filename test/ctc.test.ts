import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { type CtcOptions, ctcLoss } from "../src/ops/ctc.ts";
import { ctcOfSample, someTarget } from "../src/records/ctc.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { normal, referenceCases, relativeL2 } from "./reference.ts";

const device = await openDevice(await currentHost());
after(() => device.dispose());

interface Problem {
  readonly logits: Float32Array;
  readonly shape: readonly [B: number, T: number, V: number];
  readonly targets: readonly (readonly number[])[];
  readonly lengths: readonly number[];
}

/** Loss and gradient on the GPU; `cotangent` weighs the losses of reduction "none". */
async function run(
  { logits, shape, targets, lengths }: Problem,
  options: CtcOptions,
  cotangent?: Float32Array,
) {
  const { loss, gradient } = scope(device, () => {
    const x = Tensor.from(device, logits, shape);
    const {
      outputs: [loss],
      gradients,
    } = vjp(device, [x], () => {
      const loss = ctcLoss(x, targets, lengths, options);
      const dy = Tensor.from(device, cotangent ?? Float32Array.of(1), loss.shape);
      return { outputs: [loss], cotangents: [dy] };
    });
    return { loss, gradient: gradients.get(x) as Tensor };
  });
  const result = { loss: await loss.read(), gradient: await gradient.read() };
  loss.release();
  gradient.release();
  return result;
}

/** The same by float64 loops, the losses summed. */
function reference({ logits, shape: [, T, V], targets, lengths }: Problem) {
  const each = targets.map((target, b) =>
    ctcOfSample(logits.subarray(b * T * V, (b + 1) * T * V), [T, V], target, lengths[b]),
  );
  return { losses: each.map((e) => e.loss), gradient: each.flatMap((e) => [...e.gradient]) };
}

for (const c of await referenceCases("ctc.safetensors")) {
  test(`ctcLoss() agrees with PyTorch in float64: ${c.case}`, async () => {
    const shape = c.shape("logits") as [number, number, number];
    const lengths = c.values("target_lengths");
    const width = c.shape("targets")[1];
    const problem: Problem = {
      logits: Float32Array.from(c.values("logits")),
      shape,
      targets: Array.from(lengths, (length, b) => [
        ...c.values("targets").slice(b * width, b * width + length),
      ]),
      lengths: [...c.values("input_lengths")],
    };
    const {
      blank,
      reduction,
      zero_infinity: zeroInfinity,
    } = c.attrs as { blank: number; reduction: "mean"; zero_infinity: boolean };
    const { loss, gradient } = await run(
      problem,
      { blank, reduction, zeroInfinity },
      c.has("cot.out") ? Float32Array.from(c.values("cot.out")) : undefined,
    );
    const distance = {
      loss: relativeL2(loss, c.values("out64")),
      gradient: relativeL2(gradient, c.values("grad.logits64")),
    };
    assert.ok(distance.loss <= 1e-6, `the loss is ${distance.loss} off`);
    assert.ok(distance.gradient <= 3e-6, `the gradient is ${distance.gradient} off`);
  });
}

/** Logits that spell the targets, each label for `hold` frames and then a blank, with `margin` above the noise. */
function spelled(targets: readonly (readonly number[])[], V: number, hold: number, margin: number): Problem {
  const T = Math.max(...targets.map((target) => target.length * (hold + 1)));
  const logits = normal(targets.length * T * V, 5);
  targets.forEach((target, b) => {
    for (let t = 0; t < T; t++) {
      const id = t % (hold + 1) < hold ? (target[Math.floor(t / (hold + 1))] ?? 0) : 0;
      logits[(b * T + t) * V + id] += margin;
    }
  });
  return { logits, shape: [targets.length, T, V], targets, lengths: targets.map(() => T) };
}

test("ctcLoss() keeps its precision where the model is sure of the right words and the gradient is small", async () => {
  for (const margin of [10, 15, 25]) {
    const problem = spelled([someTarget(60, 32, 6), someTarget(41, 32, 7)], 32, 6, margin);
    const got = await run(problem, { reduction: "sum" });
    const want = reference(problem);
    const loss = want.losses[0] + want.losses[1];
    const distance = {
      loss: relativeL2(got.loss, [loss]),
      gradient: relativeL2(got.gradient, want.gradient),
    };
    // A path is summed up at a precision of 2⁻³¹: what is left of a loss of 1e-6 are its first digits.
    assert.ok(
      distance.loss <= 1e-6 + 3e-8 / loss,
      `margin ${margin}: the loss ${loss} is ${distance.loss} off`,
    );
    assert.ok(distance.gradient <= 2e-6, `margin ${margin}: the gradient is ${distance.gradient} off`);
  }
});

test("ctcLoss() gives the same bits every run, and without a tape the same loss", async () => {
  const problem: Problem = {
    logits: normal(2 * 90 * 12, 8, 2),
    shape: [2, 90, 12],
    targets: [someTarget(30, 12, 9), someTarget(11, 12, 10)],
    lengths: [90, 77],
  };
  const [a, b] = [await run(problem, {}), await run(problem, {})];
  assert.deepEqual(a, b);
  const x = Tensor.from(device, problem.logits, problem.shape);
  const loss = scope(device, () => ctcLoss(x, problem.targets, problem.lengths));
  assert.deepEqual(await loss.read(), a.loss);
  for (const t of [x, loss]) t.release();
});

test("ctcLoss() reads no frame past a sample's length, whatever stands there", async () => {
  const logits = normal(10 * 5, 11);
  const targets = [[1, 2]];
  const clean = await run({ logits, shape: [1, 10, 5], targets, lengths: [7] }, {});
  const dirty = await run(
    { logits: logits.map((x, i) => (i < 35 ? x : Number.NaN)), shape: [1, 10, 5], targets, lengths: [7] },
    {},
  );
  assert.deepEqual(dirty, clean);
  assert.ok(clean.gradient.subarray(35).every((g) => g === 0));
});

test("ctcLoss() is NaN with a NaN gradient for the sample whose logits hold a NaN, and for no other", async () => {
  const logits = normal(2 * 6 * 4, 12);
  logits[5] = Number.NaN;
  const { loss, gradient } = await run(
    { logits, shape: [2, 6, 4], targets: [[1], [2]], lengths: [6, 6] },
    { reduction: "none" },
    Float32Array.of(1, 1),
  );
  assert.ok(Number.isNaN(loss[0]) && Number.isFinite(loss[1]));
  assert.ok(gradient.subarray(0, 24).every(Number.isNaN) && gradient.subarray(24).every(Number.isFinite));
});

test("ctcLoss() counts a logit of -inf as a class that cannot be", async () => {
  const logits = normal(8 * 4, 13);
  for (let t = 0; t < 8; t++) logits[4 * t + 3] = Number.NEGATIVE_INFINITY;
  const problem: Problem = { logits, shape: [1, 8, 4], targets: [[1, 2, 1]], lengths: [8] };
  const got = await run(problem, { reduction: "sum" });
  const want = reference(problem);
  assert.ok(relativeL2(got.loss, want.losses) < 1e-6);
  assert.ok(relativeL2(got.gradient, want.gradient) < 1e-6);
  const none = logits.map((x, i) => (i < 4 ? Number.NEGATIVE_INFINITY : x));
  const lost = await run({ ...problem, logits: none }, { reduction: "sum" });
  assert.ok(Number.isNaN(lost.loss[0]) && lost.gradient.every(Number.isNaN));
});

test("ctcLoss() refuses labels and lengths out of range, and targets beyond the adapter", () => {
  scope(device, () => {
    const x = Tensor.empty(device, [1, 5, 4]);
    const refuses = (targets: number[][], lengths: number[], message: RegExp, blank = 0) =>
      assert.throws(() => ctcLoss(x, targets, lengths, { blank }), { message });
    refuses([[1, 4]], [5], /^Cannot run ctcLoss: label 1 of target 0 is 4, expected a class from 0 to 3$/);
    refuses([[1, 0]], [5], /^Cannot run ctcLoss: label 1 of target 0 is the blank, 0$/);
    refuses([[1]], [6], /^Cannot run ctcLoss: input length 0 is 6, expected 0 to 5$/);
    refuses([[1]], [5], /^Cannot run ctcLoss: the blank is 4, expected a class from 0 to 3$/, 4);
    refuses([[1], [2]], [5], /^Cannot run ctcLoss: there are 2 targets, expected 1, one for each sample$/);
    refuses(
      [[1]],
      [5, 5],
      /^Cannot run ctcLoss: there are 2 input lengths, expected 1, one for each sample$/,
    );
    refuses(
      [new Array(60000).fill(1)],
      [5],
      /^Cannot run ctcLoss: a target has 60000 labels, .* has room for \d+$/,
    );
  });
});

test("ctcLoss() holds nothing once its results are released", () => {
  assert.equal(device.pool.statistics.live, 0);
});
