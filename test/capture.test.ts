/** capture(): a replay does what the body would do, bit by bit, or says in one line why it cannot. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AdamW,
  capture,
  checkpoint,
  Conv1d,
  type Device,
  HubertModel,
  LayerNorm,
  Linear,
  ops,
  type Optimizer,
  redrawn,
  scope,
  SelfAttention,
  SGD,
  Tensor,
  trainingStream,
  twin,
  valueAndGrad,
  varies,
  Weights,
  xavierUniform,
} from "wavegate";
import { hubertConfig } from "../src/models/config.ts";
import { testDevice } from "./device.ts";
import { FLAGS } from "./elementwise_flags.ts";

const device = await testDevice();

const wave = (size: number, phase = 0) => Float32Array.from({ length: size }, (_, i) => Math.sin(i + phase));
const live = () => device.pool.statistics.live;

/** A small transformer with dropout everywhere, and its loss of `x` against `target`. */
async function model(on: Device, seed: number) {
  const weights = new Weights(on, { seed });
  const init = xavierUniform(8, 8);
  const attention = new SelfAttention(weights.at("self"), 8, { heads: 2, dropout: 0.3 });
  const norm = new LayerNorm(weights.at("norm"), 8, 1e-5);
  const head = new Linear(weights.at("head"), 8, 3, { init });
  await weights.initialize();
  const forward = (x: Tensor, training?: { next: () => number }) => {
    const y = norm.forward(attention.forward(x, { mode: { training }, residual: x }));
    return head.forward(ops.dropout(y, 0.2, training));
  };
  return { weights, forward };
}

test("a seed of attention that is a function is asked once for forward and backward, and once a replay", async () => {
  const start = live();
  const x = Tensor.from(device, wave(120), [1, 5, 24]);
  const gradient = (seed: number | (() => number)) =>
    scope(device, () => {
      const loss = () => ops.mean(ops.selfAttention(x, { heads: 2, dropout: { rate: 0.4, seed } }));
      return valueAndGrad(device, [x], loss).gradients.get(x)!;
    });
  let asked = 0;
  const step = capture(device, () => gradient(() => ++asked), { constants: true });
  for (const expected of [1, 2, 3]) {
    if (expected > 1) step.replay();
    assert.equal(asked, expected);
    const same = gradient(expected);
    assert.deepEqual(await step.value.read(), await same.read());
    same.release();
  }
  step.dispose();
  x.release();
  assert.equal(live(), start);
});

test("a replay computes from what its inputs hold by then, and makes no buffer or bind group", async () => {
  const start = live();
  const { weights, forward } = await model(device, 1);
  const x = Tensor.from(device, wave(40), [1, 5, 8]);
  const step = capture(device, () => ({ y: forward(x), doubled: [ops.mul(x, 2)] }));
  const expect = async (phase: number) => {
    const values = wave(40, phase);
    const other = Tensor.from(device, values, [1, 5, 8]);
    const y = scope(device, () => forward(other));
    assert.deepEqual(await step.value.y.read(), await y.read());
    assert.deepEqual(
      await step.value.doubled[0].read(),
      values.map((v) => 2 * v),
    );
    for (const tensor of [other, y]) tensor.release();
  };
  await expect(0);
  const count = () => [device.pool.statistics.created, device.counters.bindGroups, device.counters.pipelines];
  for (let i = 1; i < 4; i++) {
    x.write(wave(40, i));
    const [before, dispatches] = [count(), device.recorder.dispatches];
    step.replay();
    assert.equal(device.recorder.dispatches - dispatches, step.size);
    assert.deepEqual(count(), before);
    await expect(i);
  }
  // Twice without a wait in between: the upload goes before the second alone.
  x.write(wave(40, 7));
  step.replay();
  x.write(wave(40, 8));
  step.replay();
  await expect(8);
  step.dispose();
  x.release();
  weights.dispose();
  assert.equal(live(), start);
});

const optimizers: Record<string, (on: Device, weights: Weights) => Optimizer> = {
  AdamW: (on, w) => new AdamW(on, w.parameters, { learningRate: 0.01, weightDecay: 0.1, maxGradNorm: 0.5 }),
  SGD: (on, w) =>
    new SGD(on, w.parameters, { learningRate: (k) => (k.startsWith("head") ? 0.1 : 0.05), momentum: 0.9 }),
};

for (const [name, make] of Object.entries(optimizers)) {
  test(`a training step with dropout, a schedule and ${name} has the same bits replayed as run`, async () => {
    const run = async (captured: boolean) => {
      const { weights, forward } = await model(device, 2);
      const optimizer = make(device, weights);
      const [x, target] = [
        Tensor.from(device, wave(40), [1, 5, 8]),
        Tensor.from(device, wave(15, 9), [1, 5, 3]),
      ];
      const training = trainingStream(5);
      let at = 0;
      const factor = () => 1 / (1 + at);
      const step = () => {
        const loss = () => ops.mse(forward(x, training), target);
        const { value, gradients } = valueAndGrad(device, weights.parameters, loss);
        return { value, clip: optimizer.step(gradients, { factor }) };
      };
      const values: number[][] = [];
      const note = async ({ value, clip }: { value: Tensor; clip: Tensor }) =>
        void values.push([await value.item(), ...(await clip.read())]);
      const options = { constants: true }; // the cotangent of the loss
      const kept = captured ? capture(device, step, options) : undefined;
      if (kept) await note(kept.value);
      for (at = kept ? 1 : 0; at < 6; at++) {
        x.write(wave(40, at));
        if (at === 0) x.write(wave(40));
        if (at === 4) optimizer.learningRate = 0.002;
        kept?.replay();
        const result = kept?.value ?? scope(device, step);
        await note(result);
        if (!kept) for (const tensor of [result.value, result.clip]) tensor.release();
      }
      const state = await Promise.all([
        ...weights.parameters.map((p) => p.value.read()),
        ...[...optimizer.moments()].map(({ tensor }) => tensor.read()),
      ]);
      const { steps } = optimizer;
      for (const owned of [...(kept ? [kept] : []), optimizer, weights]) owned.dispose();
      for (const tensor of [x, target]) tensor.release();
      return { values, state, steps };
    };
    const start = live();
    const [eager, replayed] = [await run(false), await run(true)];
    assert.equal(new Set(eager.values.map(String)).size, 6, "no two steps are alike");
    assert.deepEqual(replayed, eager);
    assert.equal(live(), start);
  });
}

test("gradients of a captured pass are accumulated as they were at the time", async () => {
  const weights = new Weights(device, { seed: 3 });
  const layer = new Linear(weights.at("layer"), 8, 3);
  await weights.initialize();
  const x = Tensor.from(device, wave(16), [2, 8]);
  const pass = () =>
    valueAndGrad(device, weights.parameters, () => ops.sum(ops.tanh(layer.forward(x)))).gradients;
  const norms: number[] = [];
  using step = capture(device, pass, { constants: true });
  for (const captured of [true, false]) {
    const optimizer = new SGD(device, weights.parameters, { learningRate: 0 });
    for (let i = 0; i < 3; i++) {
      x.write(wave(16, i));
      if (captured) step.replay();
      scope(device, () => optimizer.accumulate(captured ? step.value : pass()));
    }
    const clip = scope(device, () => optimizer.step());
    norms.push((await clip.read())[1]);
    clip.release();
    optimizer.dispose();
  }
  assert.equal(norms[0], norms[1]);
  weights.dispose();
  x.release();
});

test("nobody else is handed the memory of a captured body, till it is disposed of", async () => {
  const start = live();
  const x = Tensor.from(device, wave(64), [64]);
  const step = capture(device, () => ops.add(ops.mul(ops.mul(x, 2), 3), 1));
  const mine = Array.from({ length: 8 }, (_, i) => ops.full(device, [64], i));
  step.replay();
  for (const [i, tensor] of mine.entries())
    assert.deepEqual(await tensor.read(), new Float32Array(64).fill(i));
  const y = step.value.keep();
  step.dispose();
  step.dispose();
  assert.deepEqual(
    await y.read(),
    wave(64)
      .map((v) => Math.fround(Math.fround(v * 2) * 3) + 1)
      .map(Math.fround),
  );
  for (const tensor of [x, y, ...mine]) tensor.release();
  assert.equal(live(), start);
});

test("a capture holds more dispatches than one submit, copies, and what a body brings from the CPU", async () => {
  const x = Tensor.from(device, wave(16), [16]);
  using step = capture(
    device,
    () => {
      let sum = Tensor.from(device, new Float32Array(16), [16]);
      // Each constant is let go at once, and stays what it is all the same.
      for (let i = 0; i < 150; i++)
        sum = scope(device, () => ops.add(sum, Tensor.from(device, new Float32Array(16).fill(i), [16])));
      const copy = sum.like();
      device.recorder.copy(sum.buffer, 0, copy.buffer, 0, sum.bytes);
      return ops.add(copy, x);
    },
    { constants: true },
  );
  for (let i = 1; i < 4; i++) {
    x.write(wave(16, i));
    step.replay();
    assert.deepEqual(
      await step.value.read(),
      wave(16, i).map((v) => Math.fround(v + (149 * 150) / 2)),
    );
  }
  x.release();
});

test("a kernel of one's own says by varies() which numbers a replay asks for", async () => {
  const shift = twin(
    "test/shift",
    `struct Dims { by: f32, times: u32, minus: i32 }
    @group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @group(0) @binding(1) var<uniform> d: Dims;
    @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) t: u32) {
      y[t] = d.by * f32(d.times) + f32(d.minus);
    }`,
  );
  let n = 0;
  using step = capture(device, () => {
    const y = Tensor.empty(device, [4]);
    const times = redrawn(device, () => ++n);
    const dims = { by: 0.5, times: times(), minus: -1 };
    varies(device, dims, { by: () => n / 4, times, minus: () => -n });
    shift.run("main", { y }, dims, [1]);
    return y;
  });
  assert.equal((await step.value.read())[0], -0.5);
  step.replay();
  step.replay();
  assert.equal((await step.value.read())[0], 0.75 * 3 - 3);
  n = 2 ** 40;
  assert.throws(() => step.replay(), {
    message: `Cannot replay test/shift.main: Dims.times is ${2 ** 40 + 1}, a value of u32 expected`,
  });
});

test("a profile of a replay has the labels of the body", async (t) => {
  if (!device.info.timestamps) return t.diagnostic(`${device.info.name} has no timestamps`);
  using x = Tensor.from(device, wave(16), [16]);
  using step = capture(device, () => device.labelled("outer", () => ops.scale(x, 2)));
  device.startProfile();
  step.replay();
  step.replay();
  const rows = await device.endProfile();
  assert.deepEqual(
    rows.map(({ label, count }) => [label, count]),
    [["outer/elementwise.scale", 2]],
  );
});

test("capture() refuses what a replay could not repeat, and leaves nothing behind", async () => {
  const x = Tensor.from(device, wave(4), [4]);
  const start = live();
  const refused = (body: () => unknown, message: string | RegExp, options?: { constants: boolean }) => {
    assert.throws(() => capture(device, body, options), { message });
    assert.equal(live(), start);
    assert.equal(device.recorder.capturing, undefined);
  };
  refused(
    () => Tensor.from(device, wave(6), [2, 3]),
    "Cannot capture values from the CPU, a tensor of shape (2, 3): make it outside and write() to it, or say `constants: true` where they never change",
  );
  const write = "Cannot capture Tensor.write: a replay would not repeat it; write before replay()";
  refused(() => x.write(wave(4)), write, { constants: true });
  refused(
    async () => ops.scale(x, 2),
    "Cannot run capture: its body returned a Promise, but must be synchronous",
  );
  refused(() => capture(device, () => ops.scale(x, 2)), "Cannot capture: another capture is under way");
  refused(
    () => fill(Tensor.from(device, wave(4), [4])),
    "Cannot capture elementwise.fill: it writes to y, whose values came from the CPU inside the body; make that tensor outside",
    { constants: true },
  );
  refused(() => {
    ops.scale(x, 2);
    throw new Error("the body's own");
  }, "the body's own");
  for (const [wait, what] of [
    [() => x.read(), "read a tensor"],
    [() => device.idle(), "wait"],
    [() => device.precompile(() => {}), "precompile"],
  ] as const) {
    let waiting: Promise<unknown> = Promise.resolve();
    using _ = capture(device, () => {
      waiting = wait();
      return ops.scale(x, 2);
    });
    await assert.rejects(waiting, { message: `Cannot ${what} inside capture(): do it after` });
  }
  await assert.rejects(
    device.precompile(() => void capture(device, () => ops.scale(x, 2))),
    { message: "Cannot capture inside precompile() or plan(): nothing is dispatched there" },
  );
  assert.throws(() => duringTape(x, () => void capture(device, () => ops.scale(x, 2))), {
    message: "Cannot capture while gradients are recorded: valueAndGrad() goes into the capture",
  });
  const dropout = () => ops.dropout(ops.mul(x, x), 0.5, trainingStream(1));
  const twice = () => valueAndGrad(device, [x], () => ops.sum(checkpoint(device, [], dropout)));
  refused(twice, /^Cannot capture checkpoint\(\) of a body with dropout: /, { constants: true });
  assert.throws(() => capture(device, "x" as unknown as () => void), {
    message: 'Cannot capture "x": a function without arguments expected',
  });
  assert.throws(() => capture(device, () => x, { constant: true } as object), {
    message: "Cannot capture: options has no constant; did you mean constants?",
  });
  assert.deepEqual(await x.read(), wave(4));
  x.release();
});

/** Runs `body` while gradients by `x` are recorded. */
const duringTape = (x: Tensor, body: () => void) =>
  scope(device, () => {
    valueAndGrad(device, [x], () => {
      body();
      return ops.sum(x);
    });
  });

/** Writes in place. `vary` and `dims` are for varies(), `size` for the grid. */
function fill(y: Tensor, vary?: Record<string, () => number>, copied = false, size = 1): Tensor {
  const dims = { quads: 1, alpha: 1, beta: 1 };
  if (vary) varies(device, dims, vary);
  twin("elementwise", {}).run("fill", { y }, copied ? { ...dims } : dims, [size], { flags: FLAGS });
  return y;
}

test("capture() refuses values that would not vary", async () => {
  const alpha = () => 2;
  assert.throws(() => capture(device, () => fill(Tensor.empty(device, [4]), { gamma: alpha })), {
    message: "Cannot capture elementwise.fill: Dims has no gamma, by which it varies",
  });
  assert.throws(() => capture(device, () => fill(Tensor.empty(device, [4]), { alpha }, true)), {
    message:
      "Cannot capture: varies() was given dims that no kernel was run with; give run() the same object",
  });
  capture(device, () => fill(Tensor.empty(device, [4]), { alpha }, false, 0)).dispose();
  const raw = { hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64 };
  const conv = { conv_dim: [16], conv_kernel: [10], conv_stride: [5], num_conv_pos_embeddings: 4 };
  const weights = new Weights(device, { seed: 3 });
  const names = ["layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout"] as const;
  const model = (rates: Partial<Record<(typeof names)[number], number>>) =>
    new HubertModel(
      weights.at(`${rates.layerdrop}`),
      hubertConfig({ ...raw, ...conv, num_conv_pos_embedding_groups: 2, ...rates }, "test"),
    );
  const [drops, keeps] = [model({ layerdrop: 0.5 }), model({ layerdrop: 0 })];
  await weights.initialize();
  const audio = Tensor.from(device, wave(400), [1, 400]);
  const forward = (of: HubertModel) => of.forward({ audio }, { training: trainingStream(1) });
  assert.throws(() => capture(device, () => forward(drops)), {
    message: "Cannot capture a HuBERT that drops layers, at a rate of 0.5: a replay would drop the same",
  });
  using step = capture(device, () => forward(keeps));
  const first = await step.value.hidden.read();
  step.replay();
  assert.notDeepEqual(await step.value.hidden.read(), first, "other elements are dropped");
  audio.release();
  weights.dispose();
});

test("replay() refuses what is gone or has changed", async () => {
  const x = Tensor.from(device, wave(4), [4]);
  const step = capture(device, () => ops.scale(x, 2));
  const refused = (message: string) => assert.throws(() => step.replay(), { message });
  assert.throws(() => duringTape(x, () => step.replay()), {
    message: "Cannot replay: gradients are recorded, and none would pass what is replayed",
  });
  assert.throws(() => capture(device, () => step.replay()), {
    message: "Cannot replay: a capture is under way; replay after it",
  });
  step.replay();
  x.release();
  refused("Cannot replay: a tensor that the captured body used was released since");
  const again = Tensor.from(device, wave(4), [4]); // the same buffer, another tensor
  refused("Cannot replay: a tensor that the captured body used was released since");
  step.dispose();
  refused("Cannot replay: the capture was disposed");
  again.release();

  const weights = new Weights(device, { seed: 1 });
  const conv = new Conv1d(weights.at("conv"), 4, 4, 3, false, { stride: 1, padding: 1 });
  await weights.initialize();
  const frames = Tensor.from(device, wave(24), [1, 6, 4]);
  scope(device, () => void conv.forward(frames)); // its packed weight is kept from here on
  using packed = capture(device, () => conv.forward(frames));
  packed.replay();
  weights.parameters[0].write(new Float32Array(weights.parameters[0].value.size));
  assert.throws(() => packed.replay(), {
    message: "Cannot replay: conv.weight has changed since it was captured",
  });
  weights.dispose();
  frames.release();

  const own = await testDevice();
  const y = ops.full(own, [4], 1);
  const last = capture(own, () => ops.scale(y, 2));
  own.dispose();
  assert.throws(() => last.replay(), { message: "Cannot use the device: it was disposed" });
  last.dispose();
});
