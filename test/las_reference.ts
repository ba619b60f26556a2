/** The case of a listen-attend-spell recogniser that PyTorch computed, test/reference/las. */
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { toF32 } from "../src/io/dtype.ts";
import { openSafetensors } from "../src/io/safetensors.ts";

export const LAS_FOLDER = fileURLToPath(new URL("./reference/las", import.meta.url));

export interface Stored {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** All tensors of one file of the case: whole numbers too. */
export async function stored(
  name: "inputs" | "outputs_f64",
  folder = LAS_FOLDER,
): Promise<ReadonlyMap<string, Stored>> {
  const host = await currentHost();
  const file = await openSafetensors(host, `${folder}/${name}.safetensors`);
  const found = new Map<string, Stored>();
  for (const [key, { dtype, shape, bytes }] of file.tensors) {
    const raw = new Uint8Array(bytes);
    await file.read(key, raw);
    const data =
      dtype === "I64"
        ? Float32Array.from(new BigInt64Array(raw.buffer), Number)
        : dtype === "F64"
          ? Float32Array.from(new Float64Array(raw.buffer))
          : toF32(dtype as "F32", raw);
    found.set(key, { shape, data });
  }
  await file.close();
  return found;
}
