/** Edits a safetensors file: for tests that need a checkpoint with something wrong, or something particular. */
import { currentHost } from "../src/host/current.ts";
import type { StoredDType } from "../src/io/dtype.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../src/io/safetensors_writer.ts";

export interface Edited {
  dtype: StoredDType;
  shape: readonly number[];
  data: Uint8Array<ArrayBuffer>;
}

/** Writes what `edit` makes of the tensors in `from` to `to`. */
export async function editCheckpoint(
  from: string,
  to: string,
  edit: (tensors: Map<string, Edited>) => void,
): Promise<void> {
  const host = await currentHost();
  const file = await openSafetensors(host, from);
  const tensors = new Map<string, Edited>();
  for (const [key, { dtype, shape, bytes }] of file.tensors) {
    const data = new Uint8Array(bytes);
    await file.read(key, data);
    tensors.set(key, { dtype, shape, data });
  }
  await file.close();
  edit(tensors);
  const sources: TensorSource[] = [...tensors].map(([key, t]) => ({ key, ...t }));
  await writeSafetensors(host, to, sources);
}

/** The f32 values of an edited tensor; writing to them edits it. */
export function floats(tensors: ReadonlyMap<string, Edited>, key: string): Float32Array {
  const tensor = tensors.get(key);
  if (!tensor) throw new RangeError(`Cannot edit ${key}: the checkpoint does not hold it`);
  return new Float32Array(tensor.data.buffer);
}
