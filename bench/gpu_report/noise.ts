/**
 * Random numbers in a second where drawing each would take half a minute: the same million over and over. What is measured does
 * not depend on their values.
 */
import type { Device } from "../../src/gpu/device.ts";
import type { Safetensors, TensorEntry } from "../../src/io/safetensors.ts";
import { draw, type Init } from "../../src/nn/init.ts";
import { type WeightScope, Weights } from "../../src/nn/weights.ts";
import { type Shape, sizeOf } from "../../src/tensor/shape.ts";
import { Tensor } from "../../src/tensor/tensor.ts";

/** A prime: rows begin at other places of the noise. */
const PERIOD = 1_000_003;

/** Copies `block`, from its byte `from` on and then again and again. */
function repeat(block: Float32Array, into: Uint8Array, from = 0): void {
  const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
  for (let at = 0; at < into.byteLength; ) {
    const begin = (from + at) % bytes.byteLength;
    const piece = bytes.subarray(begin, Math.min(bytes.byteLength, begin + into.byteLength - at));
    into.set(piece, at);
    at += piece.byteLength;
  }
}

/** A tensor of standard normal numbers. */
export function noiseTensor(device: Device, shape: Shape, seed: number): Tensor {
  const values = new Float32Array(sizeOf(shape));
  const rule: Init = { kind: "normal", std: 1 };
  repeat(draw(rule, Math.min(values.length, PERIOD), seed, "noise"), new Uint8Array(values.buffer));
  return Tensor.from(device, values, shape);
}

/** A file of all parameters that `build` declares, by their rules; those of a distribution repeat every million numbers. */
export function noiseFile(build: (root: WeightScope) => unknown): Safetensors {
  const declared = new Weights(undefined);
  build(declared.root);
  const tensors = new Map<string, TensorEntry>();
  const rules = new Map<string, Init>();
  for (const { init, parts } of declared.parameters)
    for (const { key, shape } of parts) {
      rules.set(key, init);
      tensors.set(key, { dtype: "F32", shape, bytes: 4 * sizeOf(shape), file: "noise", position: 0 });
    }
  const drawn = new Map<string, Float32Array>();
  const valuesOf = (init: Init, size: number): Float32Array => {
    if (init.kind === "gabor") return draw(init, size, 1, "");
    const rule = JSON.stringify(init);
    const known = drawn.get(rule) ?? draw(init, PERIOD, 1, rule);
    drawn.set(rule, known);
    return known;
  };
  return {
    tensors,
    metadata: {},
    async read(key, into, byteOffset = 0) {
      const [entry, init] = [tensors.get(key), rules.get(key)];
      if (!entry || !init || byteOffset + into.byteLength > entry.bytes)
        throw new RangeError(`Cannot read ${key}: no ${into.byteLength} bytes of it from ${byteOffset} on`);
      repeat(valuesOf(init, entry.bytes / 4), into, byteOffset);
    },
    async close() {},
  };
}
