import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../src/io/safetensors_writer.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig } from "../src/models/config.ts";
import { Weights } from "../src/nn/weights.ts";
import { forwardWorkload } from "../src/speech/system/profile.ts";
import { validateModel } from "../src/speech/validate/models.ts";
import { maskPassed, numberOf, readCase, readOpCases } from "../src/validate/case.ts";
import { distance, compareStages } from "../src/validate/compare.ts";
import { watchMemory } from "../src/validate/cost.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { testDevice } from "./device.ts";
import { normal } from "./reference.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const host = await currentHost();
const device = await testDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-validate-"));
after(() => rmSync(folder, { recursive: true }));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

function validate(...args: string[]) {
  const options = { cwd: root, encoding: "utf8", maxBuffer: 2 ** 26 } as const;
  return spawnSync(process.execPath, [...runtime, "tools/validate.ts", ...args], options);
}

interface Stage {
  name: string;
  kind: string;
  relL2: number;
  pass: boolean;
  torch?: number;
}

test("validate passes on everything that PyTorch computed, with --json as documented", () => {
  const names = [
    "hubert-tiny-stable",
    "hubert-tiny-base",
    "wav2vec2-tiny-stable",
    "bert-tiny",
    ...["cross-gated", "pooled", "self-gated", "small"].map((name) => `cmgi/${name}`),
    "e2e-tiny",
    "ops",
    "hubert-tiny-seqcls",
    "wav2vec2-tiny-seqcls",
  ];
  const folders = names.map((name) => `test/reference/${name}`);
  // A folder of cases stands for them.
  const given = new Set(folders.map((name) => name.replace(/(cmgi)\/.*/, "$1")));
  const { status, stdout } = validate("--json", ...given);
  const result = JSON.parse(stdout);
  assert.deepEqual(Object.keys(result), ["cases"]);
  assert.deepEqual(
    result.cases.map((c: { case: string }) => c.case),
    folders,
  );
  for (const { case: name, pass, stages, ...rest } of result.cases) {
    assert.deepEqual(rest, {});
    for (const stage of stages as Stage[]) {
      const { torch, ...always } = stage;
      assert.deepEqual(Object.keys(always).sort(), ["cosine", "kind", "maxAbs", "name", "pass", "relL2"]);
      assert.ok(
        torch === undefined || torch < 1e-5 || stage.kind === "gradient",
        `${torch} of ${stage.name}`,
      );
      assert.ok(stage.pass, `${name}: ${stage.name} departs, relative L2 ${stage.relL2}`);
      if (/hidden|logits/.test(stage.name) && stage.kind === "forward")
        assert.ok(stage.relL2 <= 3e-6, `${name}: ${stage.name} is ${stage.relL2} from float64`);
    }
    assert.ok(pass && stages.length > 0);
  }
  const of = (name: string): Set<string> =>
    new Set(result.cases[names.indexOf(name)].stages.map((s: Stage) => s.name));
  for (const name of ["conv.6", "attentions.2", "logits", "loss"])
    assert.ok(of("hubert-tiny-stable").has(name), `${name} was not compared`);
  for (const name of ["fused", "gate_s", "gate_t", "grad.gate.weight", "grad_input.x_s", "grad_input.x_t"])
    assert.ok(
      of("cmgi/cross-gated").has(name) && of("cmgi/self-gated").has(name),
      `${name} of a gated fusion was not compared`,
    );
  assert.ok(of("e2e-tiny").has("grad.hubert.feature_projection.projection.weight"));
  assert.ok([...of("hubert-tiny-stable")].some((name) => String(name).startsWith("outputs_spec: ")));
  assert.ok([...of("hubert-tiny-base")].some((name) => String(name).startsWith("outputs_masked: ")));
  for (const name of ["logits", "grad.layer_weights", "grad.projector.weight", "grad_input.input_values"])
    assert.ok(of("hubert-tiny-seqcls").has(name), `${name} was not compared`);
  for (const name of ["logits", "grad.projector.weight"])
    for (const masked of ["", "outputs_masked: "]) assert.ok(of("wav2vec2-tiny-seqcls").has(masked + name));
  assert.equal(status, 0);
});

test("validate compares a case's other spellings of the same weights: newer weight norms, the names of 2018", async () => {
  const spell = async (name: string, variant: string, rename: (key: string) => string) => {
    const path = join(folder, name);
    cpSync(`${root}test/reference/${name}`, path, { recursive: true });
    const to = `${path}/model.${variant}.safetensors`;
    await editCheckpoint(`${path}/model.safetensors`, to, (tensors) => {
      for (const [key, tensor] of [...tensors]) {
        tensors.delete(key);
        tensors.set(rename(key), tensor);
      }
    });
    return path;
  };
  const newer = await spell("hubert-tiny-stable", "parametrized", (key) =>
    key
      .replace(/weight_g$/, "parametrizations.weight.original0")
      .replace(/weight_v$/, "parametrizations.weight.original1"),
  );
  const older = await spell(
    "bert-tiny",
    "legacy",
    (key) =>
      `bert.${key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")}`,
  );
  const { status, stdout } = validate("--json", newer, older);
  assert.equal(status, 0);
  const [first, second] = JSON.parse(stdout).cases;
  for (const [{ stages }, prefix] of [
    [first, "parametrized: "],
    [second, "legacy: "],
  ] as const) {
    const plain = stages.filter((s: Stage) => !s.name.includes(": ")).length;
    const renamed = stages.filter((s: Stage) => s.name.startsWith(prefix));
    assert.equal(renamed.length, plain);
  }
});

test("validate names the first stage that departs, prints what the case cost, and ends with status 1", async () => {
  const broken = join(folder, "broken");
  cpSync(`${root}weights/demo`, broken, { recursive: true });
  await editCheckpoint(`${broken}/model.safetensors`, `${broken}/model.safetensors`, (tensors) => {
    floats(tensors, "hubert.feature_extractor.conv_layers.3.conv.weight")[0] += 0.1;
  });
  const { status, stdout } = validate(broken);
  assert.equal(status, 1);
  assert.match(stdout, /stages depart from PyTorch; the first is conv\.3\n/);
  assert.match(
    stdout,
    /forward [\d.]+ m?s, GPU buffers at most .*; while loading, heap and array buffers at most [\d.]+ MiB/,
  );
});

test("a damaged case or model leaves no file open", async () => {
  const damaged = join(folder, "damaged");
  cpSync(`${root}test/reference/bert-tiny`, damaged, { recursive: true });
  await editCheckpoint(`${damaged}/model.safetensors`, `${damaged}/model.safetensors`, (tensors) =>
    tensors.delete("embeddings.LayerNorm.weight"),
  );
  let files = 0;
  const counting: Host = {
    ...host,
    open: async (path) => {
      const file = await host.open(path);
      files++;
      return {
        ...{ size: file.size, read: (into, position) => file.read(into, position) },
        close: () => {
          files--;
          return file.close();
        },
      };
    },
  };
  const missing = /embeddings\.LayerNorm\.weight/;
  await assert.rejects(validateModel(counting, device, damaged), missing);
  assert.equal(files, 0);
  await assert.rejects(
    forwardWorkload(counting, damaged, { openDevice: testDevice, samples: 400, tokens: 8, dtype: "f32" }),
    missing,
  );
  assert.equal(files, 0);
});

test("validate refuses what is no case, in one line, before it opens a GPU", () => {
  const empty = join(folder, "empty");
  cpSync(`${root}weights/demo/clips`, empty, { recursive: true });
  const wrong: [string[], number, RegExp][] = [
    [[], 2, /^wavegate validate: Cannot run without CASE…\n$/],
    [[join(folder, "absent")], 1, /^wavegate validate: Cannot validate .*absent: it is no folder\n$/],
    [
      [empty],
      1,
      /^wavegate validate: Cannot validate .*empty: it holds neither config\.json nor index\.json, nor folders that do\n$/,
    ],
  ];
  for (const [args, status, message] of wrong) {
    const done = validate(...args);
    assert.deepEqual([done.status, done.stdout], [status, ""]);
    assert.match(done.stderr, message);
  }
});

test("readCase() and readOpCases() refuse what they would have to guess", async () => {
  const home = join(folder, "guessed");
  mkdirSync(home);
  const write = (name: string, value: unknown) => writeFileSync(join(home, name), JSON.stringify(value));
  assert.deepEqual(await readCase(host, home), {});
  write("case.json", { outputs: { attention_mask_passed: "no" }, outputs_spec: "as said", seed: 1 });
  const info = await readCase(host, home);
  assert.equal(maskPassed(info, home, "outputs_spec"), true);
  assert.throws(() => maskPassed(info, home, "outputs"), {
    message: `Cannot use ${home}/case.json (outputs): attention_mask_passed is "no" but should be true or false`,
  });
  write("case.json", { audio: "a.wav" });
  await assert.rejects(readCase(host, home), /case\.json: audio is "a\.wav" but should be a list$/);
  const op = { case: "gelu", file: "a.safetensors", attrs: { op: "gelu" }, inputs: ["x"], outputs: ["out"] };
  const wrong: [unknown, RegExp][] = [
    [{}, /index\.json: it lacks the key cases, a list$/],
    [{ cases: [{ ...op, inputs: "x" }] }, /cases\.0\.inputs is "x" but should be a list$/],
    [{ cases: [op, { ...op, attrs: [] }] }, /cases\.1\.attrs is \[\] but should be an object$/],
    [{ cases: [{ ...op, attrs: { betas: [0.9] } }] }, /cases\.0\.attrs\.betas/],
  ];
  for (const [index, message] of wrong) {
    write("index.json", index);
    await assert.rejects(readOpCases(host, home), message);
  }
  write("index.json", { cases: [op] });
  const [first] = await readOpCases(host, home);
  assert.throws(
    () => numberOf(first, "eps"),
    /^Error: Cannot validate gelu: it lacks the attribute eps, a number$/,
  );
});

test("compareStages() passes a stage that is no farther from the truth than PyTorch's own f32, and no other", () => {
  const truth = [1, 2, 3];
  const at = (got: number[] | undefined, torch?: number[]) =>
    compareStages([{ name: "x", kind: "forward", got, truth, torch }], 1e-4)[0].pass;
  assert.equal(at([1, 2, 3.0001]), true);
  assert.equal(at([1, 2, 3.01]), false);
  assert.equal(at([1, 2, 3.01], [1, 2, 3.02]), true);
  assert.equal(at([1, 2]), false);
  assert.equal(at(undefined), false);
  assert.equal(distance([Number.NaN, 1], [Number.NaN, 1]).relL2, 0);
  assert.equal(distance([0, 1], [Number.NaN, 1]).relL2, Number.POSITIVE_INFINITY);
});

test("Weights.initialize() streams: a checkpoint of 100 MB costs the JavaScript heap and array buffers a fraction of it", async () => {
  const path = join(folder, "large");
  const settings = {
    vocab_size: 20_000,
    hidden_size: 512,
    num_hidden_layers: 4,
    num_attention_heads: 8,
    intermediate_size: 4096,
  };
  const config = bertConfig(settings, "config.json");
  const blueprint = new Weights(device);
  new BertModel(blueprint.root.at("bert"), config);
  // The same block of noise over and over: the file matters, not what is in it.
  const block = new Uint8Array(normal(2 ** 16, 1, 0.02).buffer);
  const sources: TensorSource[] = blueprint.parameters.flatMap((parameter) =>
    parameter.parts.map(({ key, shape }) => ({
      key,
      dtype: "F32" as const,
      shape,
      *data() {
        for (let left = 4 * shape.reduce((a, b) => a * b, 1); left > 0; left -= block.length)
          yield block.subarray(0, Math.min(left, block.length));
      },
    })),
  );
  await writeSafetensors(host, path, sources);
  const file = await openSafetensors(host, path);
  const bytes = [...file.tensors.values()].reduce((sum, t) => sum + t.bytes, 0);
  assert.ok(bytes > 100e6, `the file is ${bytes} bytes`);
  const weights = new Weights(device, { file, path });
  new BertModel(weights.root.at("bert"), config);
  const before = process.memoryUsage();
  const { hostPeak } = await watchMemory(host, (sample) => weights.initialize(sample));
  const growth = hostPeak - before.heapUsed - before.arrayBuffers;
  assert.ok(device.pool.statistics.live >= bytes, "the weights are not on the GPU");
  assert.ok(growth < 60e6, `heap and array buffers grew by ${growth} bytes`);
  weights.dispose();
  await file.close();
});
