/** Weights and optimiser state as safetensors, in Hugging Face's keys. */
import type { Host } from "../host/host.ts";
import { isObject } from "../io/config.ts";
import { parseJson } from "../io/json.ts";
import { listed } from "../io/listed.ts";
import { openSafetensors, readF32, type Safetensors } from "../io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../io/safetensors_writer.ts";
import { Parameter } from "../nn/parameter.ts";
import { sameShape, showShape, sizeOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Optimizer } from "./optimizer.ts";
import { readChecked, writeChecksum } from "./checksum.ts";

interface Named {
  readonly key: string;
  readonly shape: readonly number[];
  readonly tensor: Tensor;
  readonly offset: number;
}

/** Reads each tensor from the GPU when its turn to be written has come. */
function sources(all: Iterable<Named>): TensorSource[] {
  return [...all].map(({ key, shape, tensor, offset }) => ({
    key,
    dtype: "F32" as const,
    shape,
    data: async () => {
      const values = (await tensor.read()).subarray(offset, offset + sizeOf(shape));
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    },
  }));
}

/** Throws unless this is a list of parameters: a Weights has one. */
function checkList(action: string, parameters: readonly Parameter[]): void {
  if (!Array.isArray(parameters) || !parameters.every((each) => each instanceof Parameter))
    throw new TypeError(`Cannot ${action}: expected a list of parameters, as weights.parameters`);
}

/** Throws where the file lacks one of these tensors, has it in another shape, or holds others; `who` lacks a place. */
function checkTensors(
  file: Safetensors,
  path: string,
  wanted: Iterable<Pick<Named, "key" | "shape">>,
  who: string,
): void {
  const left = new Set(file.tensors.keys());
  for (const { key, shape } of wanted) {
    const found = file.tensors.get(key);
    if (!found) throw new Error(`Cannot load ${path}: it holds no ${key}`);
    if (!sameShape(found.shape, shape))
      throw new TypeError(
        `Cannot load ${path}: ${key} is ${showShape(found.shape)} but ${who} needs ${showShape(shape)}`,
      );
    left.delete(key);
  }
  if (left.size > 0) throw new Error(`Cannot load ${path}: ${who} has no place for ${listed([...left], 3)}`);
}

/**
 * Writes the values of the parameters as safetensors, and PATH.sha256 beside it. Weights that are stored as f16 are refused.
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const layer = new Linear(weights.at("head"), 3, 2);
 * await weights.initialize();
 * const before = await layer.weight.value.read();
 * await saveWeights(host, "head.safetensors", weights.parameters);
 *
 * layer.weight.write(new Float32Array(6));
 * await loadWeights(host, "head.safetensors", weights.parameters);
 * console.log((await layer.weight.value.read()).every((w, i) => w === before[i])); // true
 * ```
 */
export async function saveWeights(host: Host, path: string, parameters: readonly Parameter[]): Promise<void> {
  checkList(`save ${path}`, parameters);
  const named = parameters.flatMap((p) => p.parts.map((part) => ({ ...part, tensor: p.value })));
  await save(host, path, named, { format: "pt" });
}

/**
 * Reads the values of the parameters from a file by their keys; f16 and bf16 become f32. Throws where the file lacks one,
 * has it in another shape, holds what none of them is, or is not as FILE.sha256 beside it says, where there is one; then no
 * parameter has changed. saveWeights() has an example.
 */
export async function loadWeights(host: Host, path: string, parameters: readonly Parameter[]): Promise<void> {
  checkList(`load ${path}`, parameters);
  const file = await openSafetensors(host, path);
  try {
    const parts = parameters.flatMap((p) => p.parts);
    checkTensors(file, path, parts, "the model");
    await readChecked(host, path);
    for (const parameter of parameters) {
      const values = new Float32Array(sizeOf(parameter.shape));
      for (const { key, offset } of parameter.parts) values.set(await readF32(file, key), offset);
      parameter.write(values);
    }
  } finally {
    await file.close();
  }
}

/** Writes the moments and the counts of updates, and their checksum. */
export function saveOptimizer(host: Host, path: string, optimizer: Optimizer): Promise<void> {
  return save(host, path, optimizer.moments(), { steps: JSON.stringify(optimizer.steps) });
}

/** The checksum is of the bytes as they are handed to the disk: what it changes afterwards shows. */
async function save(
  host: Host,
  path: string,
  all: Iterable<Named>,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const digest = host.sha256();
  await writeSafetensors(host, path, sources(all), metadata, (bytes) => digest.update(bytes));
  await writeChecksum(host, path, digest.hex());
}

/**
 * Restores what saveOptimizer() wrote. `steps` are the counts of updates of a file of version 0.1, which holds none. Throws
 * where the file lacks a moment or a count, has one of another shape or of another parameter, or is not as FILE.sha256
 * beside it says, where there is one; then the optimiser has not changed.
 */
export async function loadOptimizer(
  host: Host,
  path: string,
  optimizer: Optimizer,
  steps?: Readonly<Record<string, number>>,
): Promise<void> {
  const file = await openSafetensors(host, path);
  try {
    const counts = steps ?? stepsOf(file, path);
    checkTensors(file, path, optimizer.moments(), "the optimiser");
    await readChecked(host, path);
    await optimizer.restore(counts, (key) => readF32(file, key));
  } finally {
    await file.close();
  }
}

function stepsOf({ metadata }: Safetensors, path: string): Record<string, number> {
  const steps: unknown = metadata.steps === undefined ? undefined : parseJson(metadata.steps);
  if (!isObject(steps) || !Object.values(steps).every(Number.isSafeInteger))
    throw new SyntaxError(
      `Cannot load ${path}: it holds no counts of updates, expected a file of saveOptimizer()`,
    );
  return steps as Record<string, number>;
}
