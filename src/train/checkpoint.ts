/** Weights and optimiser state as safetensors, in Hugging Face's keys. */
import type { Host } from "../host/host.ts";
import { openSafetensors, readF32 } from "../io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../io/safetensors_writer.ts";
import type { Parameter } from "../nn/parameter.ts";
import { sizeOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { AdamW } from "./adamw.ts";

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

/** Writes the values of the parameters. */
export function saveWeights(host: Host, path: string, parameters: readonly Parameter[]): Promise<void> {
  const named = parameters.flatMap((p) => p.parts.map((part) => ({ ...part, tensor: p.value })));
  return writeSafetensors(host, path, sources(named), { format: "pt" });
}

export function saveOptimizer(host: Host, path: string, optimizer: AdamW): Promise<void> {
  return writeSafetensors(host, path, sources(optimizer.moments()));
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
