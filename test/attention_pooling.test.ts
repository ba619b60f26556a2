/** Attention pooling and additive attention: what PyTorch computed, masks, gradients. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { AdditiveAttention, type Attended, AttentionPooling } from "../src/nn/attention_pooling.ts";
import { Weights } from "../src/nn/weights.ts";
import { mul } from "../src/ops/elementwise.ts";
import { sum } from "../src/ops/reduce.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { LAS_FOLDER, stored } from "./las_reference.ts";
import { near } from "./ops_fixture.ts";
import { normal } from "./reference.ts";

const device = await testDevice();

async function read({ context, probabilities }: Attended) {
  const values = { context: await context.read(), probabilities: await probabilities.read() };
  context.release();
  probabilities.release();
  return values;
}

test("additive pooling gives what PyTorch gave", async () => {
  const outputs = await stored("outputs_f64");
  const encoder = outputs.get("encoder")!;
  const file = await openSafetensors(await currentHost(), LAS_FOLDER);
  const weights = new Weights(device, { file });
  const [B, T, C] = encoder.shape;
  const pooling = new AttentionPooling(weights.at("pooling"), C, { kind: "additive" });
  await weights.initialize();
  // Padded frames have no weight.
  const mask = Uint32Array.from(outputs.get("pooling")!.data, (p) => (p > 0 ? 1 : 0));
  const got = scope(device, () =>
    pooling.forward(Tensor.from(device, encoder.data, encoder.shape), Tensor.from(device, mask, [B, T])),
  );
  const { context, probabilities } = await read(got);
  near(context, outputs.get("pooled")!.data, 2e-6, "context");
  near(probabilities, outputs.get("pooling")!.data, 2e-6, "probabilities");
  weights.dispose();
  await file.close();
});

for (const kind of ["additive", "dot"] as const)
  test(`${kind} pooling: no weight on padding, equal ones without a frame, gradients by finite differences`, async () => {
    const [B, T, C] = [3, 7, 6];
    const weights = new Weights(device, { seed: 4 });
    const pooling = new AttentionPooling(weights.at("pooling"), C, { kind, width: 5 });
    await weights.initialize();
    for (const p of weights.parameters) p.write(normal(p.value.size, 9));
    const x = Tensor.from(device, normal(B * T * C, 1), [B, T, C]);
    const lengths = [7, 4, 0];
    const flags = Uint32Array.from({ length: B * T }, (_, i) => (i % T < lengths[Math.floor(i / T)] ? 1 : 0));
    const mask = Tensor.from(device, flags, [B, T]);
    const { context, probabilities } = await read(scope(device, () => pooling.forward(x, mask)));
    for (const [b, n] of lengths.entries()) {
      const row = [...probabilities.subarray(b * T, (b + 1) * T)];
      assert.ok(Math.abs(row.reduce((a, p) => a + p, 0) - 1) < 1e-6);
      if (n > 0) assert.ok(row.every((p, t) => p > 0 === t < n));
      else assert.ok(row.every((p) => Math.abs(p - 1 / T) < 1e-6));
    }
    // Alone and without padding the second sample is the same.
    const alone = await read(
      scope(device, () =>
        pooling.forward(Tensor.from(device, normal(B * T * C, 1).slice(T * C, T * C + 4 * C), [1, 4, C])),
      ),
    );
    near(context.subarray(C, 2 * C), alone.context, 1e-6, "a sample by itself");
    const w = Tensor.from(device, normal(B * C, 2), [B, C]);
    // Of a sample without a frame the gradient is by definition that of a softmax, not the derivative.
    const heard = Tensor.from(device, flags.fill(1, 2 * T, 2 * T + 2), [B, T]);
    await gradcheck(device, [x, ...weights.parameters], () => sum(mul(pooling.forward(x, heard).context, w)));
    for (const t of [x, mask, heard, w]) t.release();
    weights.dispose();
  });

test("additive attention of several queries: gradients by finite differences, and none on a masked frame", async () => {
  const [B, Q, T] = [2, 3, 5];
  const weights = new Weights(device, { seed: 4 });
  const attention = new AdditiveAttention(weights.at("attention"), { query: 4, memory: 6, width: 8 });
  await weights.initialize();
  for (const p of weights.parameters) p.write(normal(p.value.size, 9));
  const query = Tensor.from(device, normal(B * Q * 4, 1), [B, Q, 4]);
  const memory = Tensor.from(device, normal(B * T * 6, 2), [B, T, 6]);
  const mask = Tensor.from(device, Uint32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 0, 0), [B, T]);
  const w = Tensor.from(device, normal(B * Q * 6, 3), [B, Q, 6]);
  const loss = () => sum(mul(attention.forward(query, memory, attention.keys(memory), mask).context, w));
  await gradcheck(device, [query, memory, ...weights.parameters], loss);
  const { value, gradients } = scope(device, () => valueAndGrad(device, [memory], loss));
  const g = await gradients.get(memory)!.read();
  assert.ok(g.subarray(T * 6 + 3 * 6).every((v) => v === 0));
  assert.ok(g.subarray(0, T * 6).every((v) => v !== 0));
  gradients.get(memory)!.release();
  for (const t of [query, memory, mask, w, value]) t.release();
  weights.dispose();
  assert.deepEqual(
    weights.parameters.map(({ key }) => key),
    [
      "attention.query_layer.weight",
      "attention.memory_layer.weight",
      "attention.memory_layer.bias",
      "attention.v.weight",
    ],
  );
  assert.equal(device.pool.statistics.live, 0);
});
