/**
 * What the kernels are held to: plain float64 loops, the reference cases that PyTorch computed, and measures of distance.
 */
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { toF32 } from "../src/io/dtype.ts";
import { parseJson } from "../src/io/json.ts";
import { openSafetensors } from "../src/io/safetensors.ts";

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

type Numbers = ArrayLike<number>;

/** ‖got − want‖ / ‖want‖, or ‖got − want‖ where that is zero. NaN and inf must stand in the same places, else it is NaN or inf. */
export function relativeL2(got: Numbers, want: Numbers): number {
  if (got.length !== want.length)
    throw new RangeError(`Cannot compare ${got.length} values with ${want.length}`);
  let distance = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i], want[i]) && !Number.isFinite(want[i])) continue;
    distance += (got[i] - want[i]) ** 2;
    norm += want[i] ** 2;
  }
  return Math.sqrt(norm > 0 ? distance / norm : distance);
}

export function softmax(x: Numbers): number[] {
  const values = Array.from(x);
  const most = Math.max(...values);
  const e = values.map((v) => Math.exp(v - most));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}

export function logSoftmax(x: Numbers): number[] {
  const values = Array.from(x);
  const most = Math.max(...values);
  const logSum = Math.log(values.reduce((sum, v) => sum + Math.exp(v - most), 0));
  return values.map((v) => v - most - logSum);
}

const logAdd = (a: number, b: number): number => {
  const most = Math.max(a, b);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(Math.min(a, b) - most));
};

/** CTC of one sample by α and β in log space: logits (T, V), of which `frames` count. */
export function ctc(
  logits: Numbers,
  T: number,
  V: number,
  target: readonly number[],
  frames: number,
  blank: number,
): { loss: number; gradient: Float64Array } {
  const classes = [blank, ...target.flatMap((id) => [id, blank])];
  const S = classes.length;
  const rows = Array.from({ length: frames }, (_, t) =>
    logSoftmax(Array.from({ length: V }, (_, c) => logits[t * V + c])),
  );
  const walk = (times: readonly number[], states: readonly number[]): number[][] => {
    const result: number[][] = [];
    for (const t of times) {
      const before = result.at(-1);
      result.push(
        states.map((s, i) => {
          let sum = before ? before[i] : i < 2 ? 0 : -Infinity;
          if (before && i > 0) sum = logAdd(sum, before[i - 1]);
          if (before && i > 1 && classes[s] !== blank && classes[s] !== classes[states[i - 2]])
            sum = logAdd(sum, before[i - 2]);
          return sum + rows[t][classes[s]];
        }),
      );
    }
    return result;
  };
  const times = Array.from({ length: frames }, (_, t) => t);
  const states = classes.map((_, s) => s);
  const alpha = walk(times, states);
  const beta = walk(times.toReversed(), states.toReversed());
  const last = alpha.at(-1);
  const logP = last
    ? logAdd(last[S - 1], S > 1 ? last[S - 2] : -Infinity)
    : target.length === 0
      ? 0
      : -Infinity;
  const gradient = new Float64Array(T * V);
  for (let t = 0; t < frames; t++) {
    for (let c = 0; c < V; c++) gradient[t * V + c] = Math.exp(rows[t][c]);
    for (let s = 0; s < S; s++) {
      const c = classes[s];
      gradient[t * V + c] -= Math.exp(alpha[t][s] + beta[frames - 1 - t][S - 1 - s] - rows[t][c] - logP);
    }
  }
  return { loss: -logP, gradient };
}

export interface CrossEntropyReference {
  readonly weight?: Numbers;
  readonly labelSmoothing?: number;
  readonly ignoreIndex?: number;
}

/** Each row's loss, its gradient (V) on the logits, and the weight by which a mean divides. */
export function crossEntropyRow(
  logits: Numbers,
  target: number,
  options: CrossEntropyReference = {},
): { loss: number; gradient: number[]; weight: number } {
  const { weight, labelSmoothing = 0, ignoreIndex = -100 } = options;
  const V = logits.length;
  if (target === ignoreIndex) return { loss: 0, gradient: new Array(V).fill(0), weight: 0 };
  const w = Array.from({ length: V }, (_, c) => weight?.[c] ?? 1);
  // The loss is −Σ q_c·log p_c with these q.
  const q = w.map((v, c) => v * ((c === target ? 1 - labelSmoothing : 0) + labelSmoothing / V));
  const total = q.reduce((a, b) => a + b, 0);
  const logP = logSoftmax(logits);
  return {
    loss: -q.reduce((sum, v, c) => sum + (v === 0 ? 0 : v * logP[c]), 0),
    gradient: logP.map((v, c) => Math.exp(v) * total - q[c]),
    weight: w[target],
  };
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
