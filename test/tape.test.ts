import assert from "node:assert/strict";
import { test } from "node:test";
import { twin } from "../src/gpu/kernel.ts";
import { selfAttentionWithProbabilities } from "../src/ops/attention.ts";
import { conv1d, packWeight } from "../src/ops/conv1d.ts";
import { convert, halved } from "../src/ops/convert.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { add, full, mul, reshape, scale } from "../src/ops/elementwise.ts";
import { embedding } from "../src/ops/embedding.ts";
import { matmul } from "../src/ops/matmul.ts";
import { sum } from "../src/ops/reduce.ts";
import { scope } from "../src/tensor/scope.ts";
import { valueAndGrad, vjp } from "../src/tensor/autograd.ts";
import { checkpoint } from "../src/tensor/checkpoint.ts";
import { isRecording, isTracked, noGrad, notDifferentiable, record } from "../src/tensor/tape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const live = () => device.pool.statistics.live;
const filled = (value: number, on = device) => full(on, [3], value);

/** vjp() with a cotangent of ones; the values of the gradients, undefined where there is none. */
async function gradients(inputs: readonly Tensor[], body: () => Tensor): Promise<(number | undefined)[]> {
  const { device: on } = inputs[0];
  const result = scope(on, () => vjp(on, inputs, () => ({ outputs: [body()], cotangents: [filled(1, on)] })));
  const found = await Promise.all(inputs.map(async (t) => (await result.gradients.get(t)?.read())?.[0]));
  if (!inputs.includes(result.outputs[0])) result.outputs[0].release();
  for (const g of new Set(result.gradients.values())) g.release();
  return found;
}

test("vjp() adds up the gradients of a tensor that is used more than once", async () => {
  const before = live();
  const [x, w] = [filled(5), filled(7)];
  // 2x·w + x + x·x:  d/dx = 2w + 1 + 2x,  d/dw = 2x
  const got = await gradients([x, w], () => add(add(mul(scale(x, 2), w), x), mul(x, x)));
  assert.deepEqual(got, [25, 10]);
  for (const t of [x, w]) t.release();
  assert.equal(live(), before);
});

test("vjp() gives the cotangent itself where the output is an input or a plain sum, and leaks neither", async () => {
  const before = live();
  const [x, w] = [filled(5), filled(7)];
  assert.deepEqual(await gradients([x], () => x), [1]);
  assert.deepEqual(await gradients([x, w], () => add(x, w)), [1, 1]);
  for (const t of [x, w]) t.release();
  assert.equal(live(), before);
});

test("vjp() leaves out an input that no output depends on", async () => {
  const [x, w] = [filled(5), filled(7)];
  assert.deepEqual(await gradients([x, w], () => scale(x, 4)), [4, undefined]);
  for (const t of [x, w]) t.release();
});

test("vjp() sums over several outputs", async () => {
  const x = filled(5);
  const { gradients: found } = scope(device, () =>
    vjp(device, [x], () => ({
      outputs: [scale(x, 2), scale(x, 3)],
      cotangents: [filled(1), filled(10)],
    })),
  );
  assert.equal((await found.get(x)?.read())?.[0], 32);
});

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

test("vjp() refuses a backward that gives no gradient, or one of another shape", async () => {
  const x = filled(1);
  const before = live();
  const op = (given: () => Tensor | undefined) => record("odd", [x], scale(x, 1), [], () => [given()]);
  await assert.rejects(
    gradients([x], () => op(() => undefined)),
    {
      message: "Cannot differentiate odd: it gave no gradient for input 0 of shape (3)",
    },
  );
  await assert.rejects(
    gradients([x], () => op(() => full(device, [4], 1))),
    {
      message: "Cannot differentiate odd: the gradient of input 0 is (4) but should be (3)",
    },
  );
  assert.equal(live(), before);
  x.release();
});

test("vjp() refuses a cotangent of another shape or one too few, a Promise, and a tape inside a tape", () => {
  const before = live();
  scope(device, () => {
    const x = filled(1);
    const none = { outputs: [], cotangents: [] };
    assert.throws(() => vjp(device, [x], () => ({ outputs: [x], cotangents: [full(device, [4], 1)] })), {
      name: "TypeError",
      message: "Cannot run vjp: cotangent 0 is (4) but should be (3)",
    });
    assert.throws(() => vjp(device, [x], () => ({ outputs: [x, x], cotangents: [filled(1)] })), {
      name: "TypeError",
      message: "Cannot run vjp: the outputs are 2 and the cotangents 1, expected one for each",
    });
    assert.throws(() => vjp(device, [x], (async () => none) as never), {
      name: "TypeError",
      message: "Cannot run vjp: its body returned a Promise, but must be synchronous",
    });
    const nested = () => vjp(device, [x], () => vjp(device, [x], () => none) as never);
    assert.throws(nested, { message: "Cannot run vjp: a tape is running on this device already" });
    assert.ok(!isRecording(device));
  });
  assert.equal(live(), before);
});

test("valueAndGrad() gives a scalar loss and its gradients by tensor and by parameter, and what is beside the loss", async () => {
  const before = live();
  const [x, w, unused] = [filled(5), filled(7), filled(1)];
  const parameter = { value: w };
  const plain = scope(device, () =>
    valueAndGrad(device, [x, parameter, unused], () => sum(mul(mul(x, x), w))),
  );
  assert.deepEqual(await plain.value.read(), Float32Array.of(3 * 25 * 7));
  assert.deepEqual([...plain.gradients.keys()], [x, parameter]);
  assert.deepEqual(await plain.gradients.get(x)?.read(), new Float32Array(3).fill(70));
  assert.deepEqual(await plain.gradients.get(parameter)?.read(), new Float32Array(3).fill(25));
  assert.equal(plain.gradients.get(unused), undefined);
  const scaled = scope(device, () =>
    valueAndGrad(
      device,
      [parameter],
      () => {
        const product = mul(x, w);
        return { loss: sum(product), parts: { product, all: [scale(product, 2)] } };
      },
      { lossScale: 0.5 },
    ),
  );
  const { product, all } = scaled.aux.parts;
  assert.deepEqual(await scaled.value.read(), Float32Array.of(105), "the loss is not scaled");
  assert.deepEqual(await scaled.gradients.get(parameter)?.read(), new Float32Array(3).fill(2.5));
  assert.deepEqual(await product.read(), new Float32Array(3).fill(35));
  assert.deepEqual(await all[0].read(), new Float32Array(3).fill(70));
  for (const t of [plain.value, ...plain.gradients.values(), scaled.value, ...scaled.gradients.values()])
    t.release();
  for (const t of [product, ...all, x, w, unused]) t.release();
  assert.equal(live(), before);
});

test("valueAndGrad() gives the same gradient to a parameter and to its tensor", async () => {
  const before = live();
  const w = full(device, [], 3);
  const parameter = { value: w };
  const { value, gradients: found } = scope(device, () =>
    valueAndGrad(device, [w, parameter], () => mul(w, w)),
  );
  assert.equal(found.get(w), found.get(parameter));
  assert.deepEqual(await found.get(w)?.read(), Float32Array.of(6));
  for (const t of [value, w, ...new Set(found.values())]) t.release();
  assert.equal(live(), before);
});

test("valueAndGrad() refuses what is no scalar loss of its parameters", () => {
  const before = live();
  scope(device, () => {
    const [x, y] = [filled(1), filled(2)];
    const refused = (body: () => Tensor | { loss: Tensor }, name: string, message: string) =>
      assert.throws(() => valueAndGrad(device, [x], body as () => Tensor), { name, message });
    refused(
      () => scale(x, 2),
      "TypeError",
      "Cannot run valueAndGrad: the loss is (3) but should be (), a scalar; take its mean() or sum(), or use vjp()",
    );
    refused(
      () => ({ loss: reshape(sum(x), [1]) }),
      "TypeError",
      "Cannot run valueAndGrad: the loss is (1) but should be (), a scalar; take its mean() or sum(), or use vjp()",
    );
    refused(
      () => Tensor.from(device, Int32Array.of(1), []),
      "TypeError",
      "Cannot run valueAndGrad: the loss is i32 but should be f32",
    );
    refused(
      () => ({ value: sum(x) }) as never,
      "TypeError",
      "Cannot run valueAndGrad: its body returned no loss, expected a tensor of shape ()",
    );
    refused(
      () => undefined as never,
      "TypeError",
      "Cannot run valueAndGrad: its body returned no loss, expected a tensor of shape ()",
    );
    refused(
      (async () => sum(x)) as never,
      "TypeError",
      "Cannot run valueAndGrad: its body returned a Promise, but must be synchronous",
    );
    refused(() => sum(y), "Error", "Cannot run valueAndGrad: the loss depends on none of the parameters");
    refused(() => bare(sum(x)), "Error", cutBy("elementwise.scale", "()").message);
    assert.throws(() => valueAndGrad(device, [x], () => sum(x), { lossScale: Number.NaN }), {
      name: "RangeError",
      message: "Cannot run valueAndGrad: lossScale is NaN but should be finite",
    });
    assert.ok(!isRecording(device));
  });
  assert.equal(live(), before);
});

test("vjp() on two devices at once keeps their tapes apart", async () => {
  const other = await testDevice();
  const [x, w] = [filled(2), filled(3, other)];
  const inner: { found?: Promise<(number | undefined)[]> } = {};
  const outer = await gradients([x], () => {
    inner.found = gradients([w], () => mul(w, w));
    return scale(x, 4);
  });
  assert.deepEqual([outer, await inner.found], [[4], [6]]);
  assert.throws(() => add(x, w), { message: "Cannot run elementwise.add: b lives on another device" });
  other.dispose();
  assert.deepEqual(await gradients([x], () => scale(x, 5)), [5], "one device outlives the other");
  x.release();
});

/** 2·t by a kernel, and no record. */
function bare(t: Tensor): Tensor {
  const y = t.like();
  twin("elementwise").run("scale", { a: t, y }, { quads: Math.ceil(t.size / 4), alpha: 2, beta: 1 }, [1]);
  return y;
}
const cutBy = (kernel: string, shape = "(3)") => ({
  message: `Cannot differentiate ${kernel}: it made a tensor of shape ${shape} from a tracked one without a record; record() its backward, or notDifferentiable()`,
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
    message: "Cannot differentiate convert: it reads stored bytes; halved() has a gradient",
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
