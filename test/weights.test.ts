import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readJson } from "../src/io/config.ts";
import { type Device, openDevice } from "../src/gpu/device.ts";
import { type StoredDType, toF32 } from "../src/io/dtype.ts";
import { openSafetensors, type Safetensors } from "../src/io/safetensors.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { HubertForCTC } from "../src/models/hubert.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { type WeightScope, Weights, type WeightsOptions } from "../src/nn/weights.ts";
import { type Edited, editCheckpoint, floats } from "./checkpoint.ts";
import { testDevice } from "./device.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = `${root}weights/demo`;
const reference = `${root}test/reference`;
const host = await currentHost();
const device = await testDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-weights-"));
after(() => rmSync(folder, { recursive: true }));

type Section = "hubert" | "bert" | "cmgi";

/** A copy of the demo's model, with part of its config changed. */
function configured(name: string, section: Section, change: Record<string, unknown>): string {
  const path = join(folder, name);
  cpSync(demo, path, { recursive: true });
  const config = JSON.parse(readFileSync(`${demo}/config.json`, "utf8"));
  Object.assign(config[section], change);
  writeFileSync(`${path}/config.json`, JSON.stringify(config));
  return path;
}

/** Builds a model over an edited copy of a checkpoint and loads it; gives the parameter of a key. */
async function load(
  name: string,
  from: string,
  edit: (tensors: Map<string, Edited>) => void,
  build: (scope: WeightScope, config: unknown) => unknown,
  key: string,
  options: WeightsOptions = {},
): Promise<Float32Array> {
  const path = join(folder, `${name}.safetensors`);
  await editCheckpoint(`${reference}/${from}/model.safetensors`, path, edit);
  const file = await openSafetensors(host, path);
  const weights = new Weights(device, { file, path, spellings, mayIgnore, ...options });
  try {
    build(weights.root, await readJson(host, `${reference}/${from}/config.json`));
    await weights.initialize();
    const found = weights.parameters.find((p) => p.key === key);
    assert.ok(found, key);
    return await found.value.read();
  } finally {
    weights.dispose();
    await file.close();
  }
}

const hubert = (scope: WeightScope, c: unknown) => new HubertForCTC(scope, hubertConfig(c, "config.json"));
const bert = (scope: WeightScope, c: unknown) =>
  new BertModel(scope.at("bert"), bertConfig(c, "config.json"));
const some = (dtype: StoredDType, bytes: number): Edited => ({
  dtype,
  shape: [2, 3],
  data: new Uint8Array(bytes),
});

test("openRecognizer() refuses a file in which part of the model is left over", async () => {
  const wrong: [string, Section, Record<string, unknown>, RegExp][] = [
    [
      "deep hubert",
      "hubert",
      { num_hidden_layers: 1 },
      /has no place for hubert\.encoder\.layers\.[1-9]\.\S+ and \d+ more/,
    ],
    [
      "deep reader",
      "bert",
      { num_hidden_layers: 1 },
      /has no place for bert\.encoder\.layer\.1\.\S+ and 15 more of its tensors;/,
    ],
    ["biases", "hubert", { conv_bias: false }, /feature_extractor\.conv_layers\.0\.conv\.bias and 6 more/],
    ["gates", "cmgi", { gate: "none" }, /no place for cmgi\.gate_s\.bias and 3 more/],
  ];
  for (const [name, section, change, message] of wrong) {
    const path = configured(name, section, change);
    await assert.rejects(openRecognizer(host, device, path), (error: Error) => {
      assert.match(error.message, message);
      assert.ok(error.message.startsWith(`Cannot load ${path}/model.safetensors: `));
      assert.match(error.message, /; config and weights should be of one model$/);
      return true;
    });
  }
  assert.equal(device.pool.statistics.live, 0);
});

test("Weights.initialize() takes what published speech checkpoints hold beside the model", async () => {
  const bias = await load(
    "pretraining",
    "hubert-tiny-base",
    (tensors) => {
      for (const key of [
        "quantizer.codevectors",
        "quantizer.weight_proj.weight",
        "project_q.weight",
        "project_hid.bias",
        "classifier.weight",
        "projector.bias",
        "optimizer.state.0.exp_avg",
      ])
        tensors.set(key, some("F32", 24));
      // Newer torch's names of weight norm.
      for (const [end, name] of [
        ["g", "original0"],
        ["v", "original1"],
      ]) {
        const key = "hubert.encoder.pos_conv_embed.conv";
        const tensor = tensors.get(`${key}.weight_${end}`);
        assert.ok(tensor);
        tensors.delete(`${key}.weight_${end}`);
        tensors.set(`${key}.parametrizations.weight.${name}`, tensor);
      }
    },
    hubert,
    "lm_head.bias",
  );
  assert.equal(bias.length, 32);
});

test("Weights.initialize() asks for masked_spec_embed only where the config masks, and takes it anywhere", async () => {
  const json = JSON.parse(readFileSync(`${reference}/hubert-tiny-base/config.json`, "utf8"));
  const without = { ...json, mask_time_prob: 0, mask_feature_prob: 0 };
  const absent = (tensors: Map<string, Edited>) => void tensors.delete("hubert.masked_spec_embed");
  const unmasked = (scope: WeightScope) => hubert(scope, without);
  for (const [name, edit] of [
    ["unmasked", absent],
    ["spare", () => {}],
  ] as const)
    assert.equal((await load(name, "hubert-tiny-base", edit, unmasked, "lm_head.bias")).length, 32);
  await assert.rejects(
    load("masked", "hubert-tiny-base", absent, hubert, "lm_head.bias"),
    /masked_spec_embed/,
  );
});

test("Weights.initialize() takes what bert-base-uncased holds beside its encoder", async () => {
  const norm = await load(
    "bert-base",
    "bert-tiny",
    (tensors) => {
      const old = [...tensors];
      tensors.clear();
      for (const [key, tensor] of old)
        tensors.set(
          `bert.${key.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta")}`,
          tensor,
        );
      tensors.set("bert.embeddings.position_ids", some("I64", 48));
      for (const key of [
        "predictions.bias",
        "predictions.transform.dense.weight",
        "predictions.decoder.weight",
      ])
        tensors.set(`cls.${key}`, some("F32", 24));
      tensors.set("cls.seq_relationship.weight", some("F32", 24));
    },
    bert,
    "bert.embeddings.LayerNorm.weight",
  );
  assert.equal(norm.length, 64);
});

test("Weights.initialize() takes a bare BertModel with its pooler and buffers", async () => {
  const norm = await load(
    "bare",
    "bert-tiny",
    (tensors) => {
      tensors.set("embeddings.position_ids", some("I64", 48));
    },
    bert,
    "bert.embeddings.LayerNorm.weight",
  );
  assert.equal(norm.length, 64);
});

test("Weights refuses a weight of a format that is no float, and names file, key and format", async () => {
  for (const [dtype, wide] of [
    ["I32", 4],
    ["U32", 4],
    ["I64", 8],
    ["I8", 1],
    ["F8_E4M3", 1],
  ] as const)
    await assert.rejects(
      load(
        `as-${dtype}`,
        "hubert-tiny-base",
        (tensors) => tensors.set("lm_head.bias", { dtype, shape: [32], data: new Uint8Array(32 * wide) }),
        hubert,
        "lm_head.bias",
      ),
      {
        name: "TypeError",
        message: `Cannot load ${join(folder, `as-${dtype}.safetensors`)}: lm_head.bias is ${dtype} but a weight should be one of F32, F16, BF16, F64`,
      },
    );
});

test("Weights.initialize() reads F64 as the F32 nearest to it", async () => {
  const values = Float64Array.from({ length: 32 }, (_, i) => Math.sin(i) / 3);
  const read = await load(
    "doubles",
    "hubert-tiny-base",
    (tensors) => {
      assert.equal(floats(tensors, "lm_head.bias").length, 32);
      tensors.set("lm_head.bias", { dtype: "F64", shape: [32], data: new Uint8Array(values.buffer) });
    },
    hubert,
    "lm_head.bias",
  );
  assert.deepEqual(read, Float32Array.from(values));
});

test("Weights.initialize() names a weight beyond f16 where products or storage are f16, and only there", async () => {
  const key = "lm_head.weight";
  const bfloat = (value: number) => new Uint16Array(Float32Array.of(value).buffer)[1];
  const forms: Record<string, (value: number) => Edited["data"]> = {
    F32: (value) => new Uint8Array(new Float32Array(2048).fill(value, 5, 6).buffer),
    BF16: (value) => new Uint8Array(new Uint16Array(2048).fill(bfloat(value), 5, 6).buffer),
    F64: (value) => new Uint8Array(new Float64Array(2048).fill(value, 5, 6).buffer),
  };
  const tried: WeightsOptions[] = [
    { matmulDType: "f16" },
    ...(device.info.f16 ? [{ dtype: "f16" } as const] : []),
  ];
  const get = (dtype: StoredDType, value: number, options: WeightsOptions, tensor = key) =>
    load(
      "large",
      "hubert-tiny-base",
      (tensors) => {
        const { shape } = tensors.get(tensor) as Edited;
        const bytes = forms[dtype](value);
        const size = shape.reduce((a, b) => a * b, 1) * (bytes.length / 2048);
        tensors.set(tensor, { dtype, shape, data: bytes.slice(0, size) });
      },
      hubert,
      tensor,
      options,
    );
  for (const options of tried) {
    for (const [dtype, value] of [
      ["F32", 65520],
      ["F32", -1e30],
      ["BF16", 65536],
      ["F64", 70000],
    ] as const)
      await assert.rejects(get(dtype, value, options), (error: Error) => {
        assert.ok(error instanceof RangeError, error.stack);
        assert.match(
          error.message,
          /large\.safetensors for f16: lm_head\.weight holds -?\d\S* at element 5, f16 ends at 65504; use f32$/,
        );
        return true;
      });
  }
  // Halves round it to 65504; a bias stays f32.
  assert.equal((await get("F32", 65519, { matmulDType: "f16" }))[5], 65519);
  assert.equal((await get("F32", 1e6, { matmulDType: "f16" }, "lm_head.bias"))[5], 1e6);
  assert.equal((await get("F32", 70000, {}))[5], 70000);
  await assert.rejects(
    get("F32", Number.POSITIVE_INFINITY, tried[0]),
    /a value that is not finite, at element 5$/,
  );
});

/** A file of one packed weight whose parts, of an odd count of elements, end in the middle of the pieces in which they are written. */
function packed(
  dtype: "F32" | "F16",
  change?: (words: Uint32Array | Uint16Array, key: string) => void,
  on: Device = device,
) {
  const shape = [1, 700_001];
  const keys = ["a", "b", "c"].map((name) => `${name}.weight`);
  const data = new Map<string, Uint32Array | Uint16Array>();
  for (const [i, key] of keys.entries()) {
    const words = new (dtype === "F32" ? Uint32Array : Uint16Array)(shape[0] * shape[1]);
    // Bits of finite numbers in both formats; those of f32 are subnormal, which a copy keeps.
    for (let at = 0; at < words.length; at++) words[at] = ((at * 31 + i * 7919) % 30_000) + 1;
    change?.(words, key);
    data.set(key, words);
  }
  const entry = (words: Uint32Array | Uint16Array) => {
    return { dtype, shape, bytes: words.byteLength, position: 0, file: "packed.safetensors" } as const;
  };
  const file: Safetensors = {
    tensors: new Map([...data].map(([key, words]) => [key, entry(words)])),
    metadata: {},
    async read(key, into, from = 0) {
      const words = data.get(key)!;
      into.set(new Uint8Array(words.buffer, from, into.length));
    },
    async close() {},
  };
  const weights = new Weights(on, { file, path: "packed.safetensors" });
  const parameter = weights.root.pack(["a.weight", "b.weight", "c.weight"], shape, { kind: "zeros" });
  return { weights, parameter, parts: [...data.values()] };
}

test("Weights.initialize() reads parts that end inside the pieces in which they reach the GPU", async () => {
  for (const dtype of ["F32", "F16"] as const) {
    const { weights, parameter, parts } = packed(dtype);
    await weights.initialize();
    const read = await parameter.value.read();
    const each = read.length / parts.length;
    for (const [i, { buffer }] of parts.entries()) {
      const bits = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      const part = bits(read.subarray(i * each, (i + 1) * each));
      assert.ok(part.equals(bits(toF32(dtype, new Uint8Array(buffer)))), `${dtype}, part ${i}`);
    }
    weights.dispose();
  }
});

test("Weights.initialize() counts elements from the begin of a tensor, whatever piece a bad one is in, and can go on", async () => {
  const at = 600_000;
  const { weights } = packed("F32", (words, key) => {
    if (key === "b.weight") words[at] = 0x7fc00000;
  });
  const { live } = device.pool.statistics;
  await assert.rejects(weights.initialize(), {
    message: `Cannot load packed.safetensors: b.weight holds a value that is not finite, at element ${at}`,
  });
  assert.equal(device.pool.statistics.live, live, "the buffer of what was read so far is handed back");
  weights.dispose();
  const good = packed("F32");
  await good.weights.initialize();
  assert.ok(good.parameter.loaded);
  good.weights.dispose();
});

test("Weights.initialize() rejects where the device is disposed of meanwhile", async () => {
  const own = await openDevice(host, { adapter: process.env.WAVEGATE_ADAPTER || undefined });
  const { weights } = packed("F32", undefined, own);
  const done = weights.initialize();
  own.dispose();
  await assert.rejects(done, /disposed/);
});
