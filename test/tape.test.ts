/** What the tape records, and what it says where a gradient would be lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { selfAttentionWithProbabilities } from "../src/ops/attention.ts";
import { conv1d, packWeight } from "../src/ops/conv1d.ts";
import { convert, halved } from "../src/ops/convert.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { add, full, mul, reshape, scale } from "../src/ops/elementwise.ts";
import { embedding } from "../src/ops/embedding.ts";
import { matmul } from "../src/ops/matmul.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { checkpoint } from "../src/tensor/checkpoint.ts";
import { scope } from "../src/tensor/scope.ts";
import { isRecording, isTracked, noGrad, notDifferentiable, record } from "../src/tensor/tape.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { bare, cutBy, gradients } from "./tape_fixture.ts";

const device = await testDevice();
const live = () => device.pool.statistics.live;
const filled = (value: number) => full(device, [3], value);

test("record() keeps nothing of an op whose inputs are all untracked", () => {
  scope(device, () => {
    const [x, frozen] = [filled(1), filled(2)];
    vjp(device, [x], () => {
      assert.ok(isRecording(device));
      const before = live();
      scope(device, () => {
        const y = mul(frozen, frozen);
        assert.ok(!isTracked(y));
      });
      assert.equal(live(), before, "the tape held an untracked result");
      scope(device, () => assert.ok(isTracked(mul(x, frozen))));
      assert.ok(live() > before, "the tape let a tracked result go");
      return { outputs: [], cotangents: [] };
    });
    assert.ok(!isRecording(device));
  });
});

test("noGrad() records nothing", async () => {
  const x = filled(3);
  const got = await gradients([x], () =>
    mul(
      x,
      noGrad(device, () => mul(x, x)),
    ),
  );
  assert.deepEqual(got, [9]);
  x.release();
});

test("notDifferentiable() throws where a gradient arrives, and nothing stays alive", async () => {
  const x = filled(1);
  const before = live();
  const argmax = (t: Tensor) =>
    record("argmax", [t], scale(t, 1), [], notDifferentiable("argmax", "it is a step"));
  await assert.rejects(
    gradients([x], () => scale(argmax(scale(x, 2)), 3)),
    { message: "Cannot differentiate argmax: it is a step" },
  );
  assert.equal(live(), before);
  assert.deepEqual(
    await gradients([x], () => {
      argmax(x);
      return scale(x, 2);
    }),
    [2],
    "an op that no gradient reaches may stand on the tape",
  );
  assert.equal(live(), before);
  x.release();
});

test("vjp() names the kernel whose result was not recorded, wherever its gradient would be lost", async () => {
  const [x, w] = [filled(5), filled(7)];
  const before = live();
  const bodies: Record<string, () => Tensor> = {
    "the loss itself": () => bare(x),
    "the only input": () => scale(bare(x), 3),
    "beside a tracked input": () => mul(bare(x), w),
    "beside another way for the gradient": () => add(x, bare(x)),
    "after recorded ops": () => mul(bare(scale(x, 2)), w),
    "two unrecorded kernels in a row": () => add(bare(bare(x)), w),
    "under another shape": () => reshape(scale(bare(x).reshaped([3, 1]), 2), [3]),
    "inside a checkpointed part": () => checkpoint(device, [], () => mul(bare(x), w)),
    "as all of a checkpointed part": () => checkpoint(device, [], () => bare(x)),
    "in a checkpointed part in another": () =>
      checkpoint(device, [], () =>
        scale(
          checkpoint(device, [], () => scale(bare(x), 2)),
          2,
        ),
      ),
  };
  for (const [where, body] of Object.entries(bodies)) {
    const shape = where === "under another shape" ? "(3, 1)" : "(3)";
    await assert.rejects(gradients([x, w], body), cutBy("elementwise.scale", shape), where);
    assert.equal(live(), before, where);
  }
  for (const t of [x, w]) t.release();
});

test("vjp() names a view without a record, made on the tape or before it", async () => {
  const x = filled(5);
  const early = x.reshaped([3, 1]);
  const message =
    "Cannot differentiate Tensor.reshaped: its view of shape (3, 1) of a tracked tensor has no record; use reshape() while the tape runs";
  await assert.rejects(
    gradients([x], () => reshape(scale(x.reshaped([3, 1]), 2), [3])),
    { message },
  );
  await assert.rejects(
    gradients([x], () => reshape(scale(early, 2), [3])),
    { message },
  );
  await assert.rejects(
    gradients([x], () => mul(x, bare(x.reshaped([3, 1])).reshaped([3]))),
    cutBy("elementwise.scale"),
  );
  assert.deepEqual(await gradients([x], () => reshape(scale(reshape(x, [3, 1]), 2), [3])), [2]);
  for (const t of [x, early]) t.release();
});

test("vjp() finds nothing wrong with an unrecorded tensor that no gradient would pass", async () => {
  const [x, w] = [filled(5), filled(7)];
  const before = live();
  const shown: Tensor[] = [];
  const got = await gradients([x], () => {
    shown.push(scale(bare(x), 3).keep()); // for show
    const constant = mul(bare(w), w); // from what is not tracked
    const [still, view] = noGrad(device, () => [bare(x), x.reshaped([3, 1])]);
    const stopped = add(still, reshape(bare(view), [3]));
    return mul(scale(x, 2), add(constant, stopped));
  });
  assert.deepEqual(got, [2 * (98 + 20)]);
  for (const t of shown) t.release();
  assert.equal(live(), before);
  // A buffer that is handed on takes no history with it.
  const reused = await gradients([x], () => {
    scope(device, () => bare(x));
    return mul(x, filled(3));
  });
  assert.deepEqual(reused, [3]);
  for (const t of [x, w]) t.release();
});

test("vjp() names what a checkpointed part let out", async () => {
  const x = filled(5);
  await assert.rejects(
    gradients([x], () => {
      let inside = x;
      const y = checkpoint(device, [], () => {
        inside = scale(x, 2).keep();
        return scale(inside, 3);
      });
      return add(y, inside);
    }),
    {
      message:
        "Cannot differentiate checkpoint: a tensor of shape (3) that was made inside it is used outside",
    },
  );
});

test("record() lets no kernel read a tracked tensor that is none of its inputs", async () => {
  const [logits, weight] = [full(device, [2, 3], 1), filled(2)];
  const loss = () => crossEntropy(logits, [0, 2], { weight });
  const own = () => reshape(loss(), [1]);
  const run = (leaves: Tensor[]) =>
    scope(device, () =>
      vjp(device, leaves, () => ({ outputs: [own()], cotangents: [full(device, [1], 1)] })),
    );
  assert.throws(() => run([logits, weight]), {
    message:
      "Cannot differentiate crossEntropy: it reads a tracked tensor of shape (3) that it has no gradient for",
  });
  assert.throws(() => run([weight]), {
    message: /^Cannot differentiate cross_entropy\.rows: it made a tensor/,
  });
  const { gradients: found, outputs } = run([logits]);
  assert.ok(found.get(logits));
  for (const t of [...found.values(), ...outputs, logits, weight]) t.release();
});

test("ops without a gradient say so where one arrives", async () => {
  const differentiated = (input: Tensor, body: () => Tensor) =>
    scope(device, () =>
      vjp(device, [input], () => {
        const y = body();
        return { outputs: [y], cotangents: [full(device, y.shape, 1)] };
      }),
    );
  const [table, qkv] = [full(device, [4, 4], 1), full(device, [1, 2, 12], 1)];
  assert.throws(() => differentiated(table, () => matmul(table, convert(table, "F32", [4, 4], "f32"))), {
    message: "Cannot differentiate convert: it reads stored bytes; cast() and halved() have a gradient",
  });
  const shown = () => selfAttentionWithProbabilities(qkv, { heads: 1 });
  assert.throws(() => differentiated(qkv, () => scale(shown().probabilities, 2)), {
    message: /^Cannot differentiate attention\.probabilities: /,
  });
  assert.throws(
    () => differentiated(table, () => embedding(bare(table), [0, 1], [2])),
    cutBy("elementwise.scale", "(4, 4)"),
  );
  const [frames, kernel] = [full(device, [1, 5, 4], 1), full(device, [4, 4, 3], 1)];
  const packed = packWeight(kernel);
  assert.throws(() => differentiated(kernel, () => conv1d(frames, kernel, undefined, {}, packed)), {
    message: "Cannot run conv1d: w is tracked but packed is not; call packWeight(w) while the tape runs",
  });
  for (const { outputs, gradients: found } of [
    differentiated(qkv, () => shown().y),
    differentiated(table, () => halved(table)),
  ])
    for (const t of new Set([...outputs, ...found.values()])) t.release();
  for (const t of [table, qkv, frames, kernel, packed]) t.release();
});
