/**
 * What the kernels are held to: the reference cases that PyTorch computed, and a measure of distance. The plain float64
 * loops are in the operators' records.
 */
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { toF32 } from "../src/io/dtype.ts";
import { parseJson } from "../src/io/json.ts";
import { openSafetensors } from "../src/io/safetensors.ts";

export { relativeL2 } from "../src/records/float64.ts";

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `size` normal numbers times `scale`. */
export function normal(size: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  const next = uniform(seed);
  const draw = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  return Float32Array.from({ length: size }, () => scale * draw());
}

interface Case {
  readonly case: string;
  readonly file: string;
  readonly attrs: Readonly<Record<string, unknown>>;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly grads: readonly string[];
}

export interface ReferenceCase extends Case {
  /** Any tensor of the case by its short name; I64, F32 and F64 alike. Throws where there is none. */
  values(name: string): Float64Array;
  shape(name: string): readonly number[];
  has(name: string): boolean;
}

const folder = fileURLToPath(new URL("./reference/ops/", import.meta.url));

/** All cases of one file under test/reference/ops, as PyTorch wrote them: `<name>64` is the same in float64. */
export async function referenceCases(file: string): Promise<ReferenceCase[]> {
  const host = await currentHost();
  const { cases } = parseJson(await host.readText(`${folder}index.json`)) as { cases: Case[] };
  const store = await openSafetensors(host, folder + file);
  const values = new Map<string, Float64Array>();
  for (const [key, { dtype, bytes }] of store.tensors) {
    const raw = new Uint8Array(bytes);
    await store.read(key, raw);
    const wide =
      dtype === "F64"
        ? new Float64Array(raw.buffer)
        : dtype === "I64"
          ? Float64Array.from(new BigInt64Array(raw.buffer), Number)
          : Float64Array.from(toF32(dtype, raw));
    values.set(key, wide);
  }
  await store.close();
  return cases
    .filter((c) => c.file === file)
    .map((c) => ({
      ...c,
      values(name: string) {
        const found = values.get(`${c.case}/${name}`);
        if (!found) throw new RangeError(`Cannot read ${c.case}/${name}: ${file} does not hold it`);
        return found;
      },
      shape: (name: string) => store.tensors.get(`${c.case}/${name}`)?.shape ?? [],
      has: (name: string) => values.has(`${c.case}/${name}`),
    }));
}
