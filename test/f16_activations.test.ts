/** f16 activations: as near to float64 as torch.autocast, the same gradients within their rounding, less memory, clear errors. */
import assert from "node:assert/strict";
import { cp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { activationsOf, type Mode } from "../src/nn/mode.ts";
import { selfAttention } from "../src/ops/attention.ts";
import { conv1d } from "../src/ops/conv1d.ts";
import { cast, halved } from "../src/ops/convert.ts";
import { add, scale } from "../src/ops/elementwise.ts";
import { linear, matmul } from "../src/ops/matmul.ts";
import { sum } from "../src/ops/reduce.ts";
import { applySettings, checkConfig, recipeOf } from "../src/speech/recipes/config.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { resetPeak } from "../src/validate/cost.ts";
import { validateModel } from "../src/speech/validate/models.ts";
import type { Batch } from "../src/speech/training/examples.ts";
import { trainStage } from "../src/train/loop.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { trainingStream } from "../src/train/seeds.ts";
import type { Task } from "../src/train/task.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { testDevice } from "./device.ts";
import { normal, relativeL2 } from "./reference.ts";
import { temporary } from "./temporary.ts";
import { tinyBatch, type TinySystem, tinySystem } from "./tiny_system.ts";

const host = await currentHost();
const device = await testDevice();
const options = { skip: !device.info.f16 && "no shader-f16" };
const reference = fileURLToPath(new URL("reference", import.meta.url));
/** A convolution that a norm follows. */
const LARGE = "hubert.feature_extractor.conv_layers.1.conv.weight";
const demo = fileURLToPath(new URL("../weights/demo", import.meta.url));

type Distances = Record<string, Record<string, { float16: number; bfloat16: number }>>;
const autocast: Distances = JSON.parse(await readFile(join(reference, "autocast.json"), "utf8"));

for (const [name, stages] of Object.entries(autocast))
  test(`${name} with f16 activations is about as near to float64 as torch.autocast`, options, async () => {
    const found = await validateModel(host, device, join(reference, name), {
      dtype: "f16",
      activations: "f16",
    });
    const departing = found.stages.filter(({ pass }) => !pass).map((stage) => stage.name);
    assert.deepEqual(departing, [], "stages depart from PyTorch");
    for (const [stage, { float16, bfloat16 }] of Object.entries(stages)) {
      const relL2 = found.stages.find((s) => s.name === stage)?.relL2 ?? Number.NaN;
      assert.ok(relL2 < 1.5 * float16, `${stage} is ${relL2} from float64, autocast(float16) ${float16}`);
      assert.ok(relL2 < bfloat16 / 2, `${stage} is ${relL2} from float64, autocast(bfloat16) ${bfloat16}`);
      assert.ok(relL2 > 1e-5, `${stage} is ${relL2} from float64: was it f16?`);
    }
  });

/** Gradients of one batch by the first key of each parameter, all f32. */
async function gradientsOf({ weights, task }: TinySystem, mode: Mode) {
  const batch = tinyBatch(3, 0.7);
  const lossScale = 1024;
  const { gradients, value } = scope(device, () =>
    valueAndGrad(device, weights.parameters, () => task.losses(batch, mode).loss, { lossScale }),
  );
  const found = new Map<string, Float32Array>();
  for (const [{ key }, g] of gradients) {
    assert.equal(g.dtype, "f32", `the gradient of ${key}`);
    found.set(
      key,
      (await g.read()).map((v) => v / lossScale),
    );
    g.release();
  }
  value.release();
  return found;
}

/** Those large enough that they are no rounding noise, as a bias of keys is analytically. */
function assertNear(got: ReadonlyMap<string, Float32Array>, want: ReadonlyMap<string, Float32Array>): void {
  const largest = Math.max(...[...want.values()].flatMap((g) => Array.from(g, Math.abs)));
  assert.deepEqual([...got.keys()], [...want.keys()]);
  for (const [key, g] of want) {
    if (g.every((x) => Math.abs(x) < 1e-4 * largest)) continue;
    const off = relativeL2(got.get(key)!, g);
    assert.ok(off < 0.05, `the gradient of ${key} is off by ${off}`);
  }
}

for (const bounded of [true, false])
  test(
    `gradients with f16 activations are near those with f32, gate ${bounded ? "" : "un"}bounded`,
    options,
    async () => {
      const masked = { mask_time_prob: 0.5, mask_time_min_masks: 1, mask_feature_prob: 0.2 };
      const system = await tinySystem(device, "both-cmgi", 2, masked, { bounded });
      for (const parameter of system.weights.parameters) parameter.matmulDType = "f16";
      const training = () => ({ training: trainingStream("test") });
      const want = await gradientsOf(system, training());
      const got = await gradientsOf(system, { ...training(), activations: "f16" });
      assertNear(got, want);
      assert.ok(
        [...want].some(([key, g]) => relativeL2(got.get(key)!, g) > 1e-5),
        "f16 changed nothing",
      );
      const recomputed = await gradientsOf(system, { ...training(), activations: "f16", checkpoint: true });
      for (const [key, g] of got) assert.deepEqual(recomputed.get(key), g, `recomputed, ${key} differs`);
      system.weights.dispose();
    },
  );

test("a training step with f16 activations takes less memory", options, async () => {
  const { weights, task } = await tinySystem(device, "acoustic-asr", 1);
  const batch = tinyBatch(4, 4);
  const most = async (activations: "f32" | "f16") => {
    await device.idle();
    resetPeak(device);
    const before = device.pool.statistics.peak;
    scope(device, () => {
      const step = valueAndGrad(device, weights.parameters, () => task.losses(batch, { activations }).loss);
      for (const t of [step.value, ...step.gradients.values()]) t.keep().release();
    });
    return device.pool.statistics.peak - before;
  };
  const [full, half] = [await most("f32"), await most("f16")];
  assert.ok(half < 0.8 * full, `${half} bytes, ${full} with f32`);
  weights.dispose();
});

test("acoustic systems of the group-norm form learn with f16 activations too", options, async () => {
  const base = { feat_extract_norm: "group", do_stable_layer_norm: false, conv_bias: false };
  const system = await tinySystem(device, "acoustic-asr", 1, base);
  assertNear(await gradientsOf(system, { activations: "f16" }), await gradientsOf(system, {}));
  system.weights.dispose();
});

test(
  "trainStage() with f16 activations skips what overflows, and names the tensor of a loss that does",
  options,
  async () => {
    const { weights, task } = await tinySystem(device, "acoustic", 1);
    const stage = recipeOf(
      trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 }).stage1,
    );
    const config = { ...stage, epochs: 1, precision: "f16", activations: "f16" } as const;
    const modes = new Set<string | undefined>();
    const of = (factor: number): Task<Batch> => ({
      parameters: task.parameters,
      plan: () => Array.from({ length: 8 }, (_, i) => [i]),
      load: async ([i]) => tinyBatch(2, 0.6, i),
      losses(batch, mode) {
        modes.add(mode.activations);
        const first = weights.parameters[0].value;
        const { loss } = task.losses(batch, mode);
        return { loss: add(scale(loss, factor), scale(sum(first), 0)), parts: {} };
      },
      save: (folder) => task.save(folder),
    });
    const run = async (folder: string, factor: number) => {
      const run = await RunFolder.create(host, folder, {});
      await trainStage({
        ...{ device, run, task: of(factor), stage: 1, config, seed: 1, group: () => "heads" },
        of: { recipe: "", data: "" },
      });
      await run.flush();
      const lines = (await readFile(join(folder, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
      return lines.map((line) => JSON.parse(line) as { loss: number; skipped: boolean });
    };
    await temporary(async (folder) => {
      const steps = await run(join(folder, "steep"), 3000);
      assert.deepEqual([...modes], ["f16"]);
      assert.ok(steps[0].skipped, "a gradient of 2^16 times the scale is beyond f16");
      assert.ok(
        steps.some(({ skipped }) => !skipped),
        "no step was done",
      );
      assert.ok((await readdir(join(folder, "steep", "checkpoints"))).length > 0);
      const convolution = weights.parameters.find(({ key }) => key.endsWith("conv_layers.1.conv.weight"))!;
      convolution.write((await convolution.value.read()).map((v) => 1e6 * v));
      await assert.rejects(run(join(folder, "large"), 1), {
        message: "Stopped at step 1 of stage 1: conv.1 is not finite; f16 activations end at 65504",
      });
    });
    weights.dispose();
  },
);

test("f16 activations without the loss scaling of f16 are refused", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  await temporary(async (folder) => {
    const run = await RunFolder.create(host, join(folder, "run"), {});
    const config = { epochs: 1, learningRate: { all: 0.1 }, activations: "f16" } as const;
    const whole = {
      ...task,
      parameters: task.parameters,
      plan: () => [[0]],
      load: async () => tinyBatch(1, 0.6),
    };
    const training = trainStage({
      ...{ device, run, config, of: { recipe: "", data: "" } },
      task: whole as unknown as Task<Batch>,
    });
    await assert.rejects(training, {
      message:
        "Cannot train stage 0: config.activations is f16 and config.precision f32, but gradients of f16 activations need the loss scaling of precision f16",
    });
  });
  weights.dispose();
});

test("a recipe's activations are kept, need precision f16, and are no key of a recipe without them", () => {
  const config = trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 });
  assert.deepEqual(
    checkConfig(JSON.parse(JSON.stringify(config)), "RUN/config.json"),
    JSON.parse(JSON.stringify(config)),
  );
  const changed = (...settings: string[]) => checkConfig(applySettings(config, settings), "RUN/config.json");
  const half = changed("stage1.precision=f16", "stage1.activations=f16");
  assert.equal(recipeOf(half.stage1).activations, "f16");
  assert.throws(() => changed("stage1.activations=f16"), {
    message:
      "Cannot use RUN/config.json: stage1.activations is f16 and stage1.precision f32, but f16 activations need precision f16",
  });
});

test("activationsOf() refuses f16 where the device has none, and other dtypes", () => {
  const without = { info: { name: "old", f16: false } } as Device;
  assert.equal(activationsOf(without, {}), "f32");
  assert.throws(() => activationsOf(without, { activations: "f16" }), {
    message: "Cannot compute with f16 activations: old has no shader-f16; use f32",
  });
  assert.throws(
    () => activationsOf(device, { activations: "bf16" as "f16" }),
    /activations is "bf16" but should be/,
  );
});

test(
  "a recognizer answers alike with f16 activations, and says where a value went beyond f16",
  options,
  async () => {
    const { samples } = await readWav(host, `${demo}/clips/furious.wav`);
    const answer = async (model: string, activations: "f32" | "f16") => {
      const recognizer = await openRecognizer(host, device, model, { activations });
      try {
        return (await recognizer.recognize([samples]))[0];
      } finally {
        recognizer.dispose();
      }
    };
    const [full, half] = [await answer(demo, "f32"), await answer(demo, "f16")];
    for (const [label, p] of Object.entries(full.probabilities ?? {}))
      assert.ok(Math.abs((half.probabilities?.[label] ?? Number.NaN) - p) < 0.01, label);
    await temporary(async (folder) => {
      await cp(demo, folder, { recursive: true });
      await editCheckpoint(`${demo}/model.safetensors`, `${folder}/model.safetensors`, (tensors) => {
        floats(tensors, LARGE).forEach((v, i, all) => {
          all[i] = 1e6 * v;
        });
      });
      assert.ok((await answer(folder, "f32")).probabilities, "the norm that follows makes it small again");
      await assert.rejects(answer(folder, "f16"), {
        message: "Cannot decode: the model's logits are not finite; f16 activations end at 65504, use f32",
      });
    });
  },
);

test("the audio stays f32: conv1d() and linear() make f16 of it, with f32 gradients", options, async () => {
  const [x, w] = [normal(2 * 65, 1), normal(16 * 10, 2)];
  const result = (dtype: "f32" | "f16") =>
    scope(device, () => {
      const [tx, tw] = [Tensor.from(device, x, [2, 65, 1]), Tensor.from(device, w, [16, 1, 10])];
      const { gradients, aux } = valueAndGrad(device, [tx, tw], () => {
        const y = conv1d(tx, tw, undefined, { stride: 5, dtype });
        return { loss: sum(y), y };
      });
      assert.equal(aux.y.dtype, dtype);
      assert.deepEqual([gradients.get(tx)!.dtype, gradients.get(tw)!.dtype], ["f32", "f32"]);
      return [cast(aux.y, "f32").keep(), gradients.get(tx)!.keep(), gradients.get(tw)!.keep()];
    });
  const [half, full] = [result("f16"), result("f32")];
  for (const [i, t] of half.entries()) assert.ok(relativeL2(await t.read(), await full[i].read()) < 1e-3);
  for (const t of [...half, ...full]) t.release();
});

test("a weight that an f16 product reads gets its gradient in f32, an f16 activation in f16", options, () => {
  scope(device, () => {
    const of = (shape: number[]) => Tensor.from(device, normal(shape[0] * shape[1], 1), shape);
    const [x, w, b] = [of([4, 8]), of([4, 8]), of([8, 4])];
    const { gradients } = valueAndGrad(device, [x, w, b], () => {
      const h = linear(cast(x, "f16"), halved(w), undefined, { activation: "gelu" });
      return sum(matmul(matmul(h, cast(b, "f16"), { transB: true }), halved(w), { transB: true }));
    });
    for (const t of [x, w, b]) assert.equal(gradients.get(t)?.dtype, "f32");
  });
});

test("operands of two dtypes are refused in one line", options, () => {
  scope(device, () => {
    const x = Tensor.from(device, new Float32Array(24), [1, 2, 12]);
    const half = cast(x, "f16");
    const w = Tensor.from(device, new Float32Array(144), [12, 12]);
    assert.throws(() => linear(half, w, undefined, { residual: x }), {
      message: "Cannot run linear: residual is f32 but should be f16, as the result is",
    });
    assert.throws(() => add(half, x), /b is f32 but should be f16, as a is$/);
    assert.throws(() => selfAttention(w, { heads: 1 }));
  });
});
