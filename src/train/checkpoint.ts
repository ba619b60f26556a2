/** Weights and optimiser state as safetensors, in Hugging Face's keys. */
import type { Host } from "../host/host.ts";
import { openSafetensors, readF32 } from "../io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../io/safetensors_writer.ts";
import type { Parameter } from "../nn/parameter.ts";
import { sizeOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { AdamW } from "./adamw.ts";
import { writeChecksum } from "./checksum.ts";

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

/** Writes the values of the parameters, and their checksum. */
export function saveWeights(host: Host, path: string, parameters: readonly Parameter[]): Promise<void> {
  const named = parameters.flatMap((p) => p.parts.map((part) => ({ ...part, tensor: p.value })));
  return save(host, path, named, { format: "pt" });
}

export function saveOptimizer(host: Host, path: string, optimizer: AdamW): Promise<void> {
  return save(host, path, optimizer.moments());
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

/** Restores moments that saveOptimizer() wrote, with the counts kept beside them. */
export async function loadOptimizer(
  host: Host,
  path: string,
  optimizer: AdamW,
  steps: Readonly<Record<string, number>>,
): Promise<void> {
  const file = await openSafetensors(host, path);
  try {
    await optimizer.restore(steps, (key) => readF32(file, key));
  } finally {
    await file.close();
  }
}
