/**
 * What the peers share: the workloads, the data, and one way of timing.
 *
 * A result is checked against PyTorch before it is timed: a peer that computes something else has no time to report.
 * Each workload ends in one JSON line on stdout; everything else goes to stderr.
 */
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

export const DATA = fileURLToPath(new URL("data/", import.meta.url));
export const WORKLOADS = ["mm1024", "enc2", "enc12", "conv", "train2", "trainh2"];
export const [LAYERS, HIDDEN, TOKENS] = [12, 768, 128];
/** The two kinds of layer: BERT-base's over 128 tokens, HuBERT-large's over 3 s. Weights in data/WEIGHTS.safetensors. */
export const BERT = { weights: "enc", hidden: HIDDEN, heads: 12, tokens: TOKENS, eps: 1e-12, preNorm: false };
export const HUBERT = { weights: "hub", hidden: 1024, heads: 16, tokens: 149, eps: 1e-5, preNorm: true };
/** [kernel, stride] of HuBERT's seven convolutions. */
export const CONV = [
  [10, 5],
  [3, 2],
  [3, 2],
  [3, 2],
  [3, 2],
  [2, 2],
  [2, 2],
];
/** A relative L2 distance no correct float32 implementation reaches. */
const TOLERANCE = 1e-3;

/**
 * Slows the poll of npm webgpu from a busy loop to one look a millisecond.
 *
 * That binding looks for finished GPU work through globalThis.setImmediate, again and again, for as long as a promise
 * of the GPU is pending, and so burns a core. On a CPU adapter that core belongs to the "GPU". Wavegate waits without
 * burning; so that a comparison measures kernels and not this accident, every peer on npm webgpu is given the same
 * benefit. Call it before the peer is imported, and only there: it replaces setImmediate for the whole process.
 */
export function quietPoll(milliseconds = 1) {
  globalThis.setImmediate = (callback, ...args) => setTimeout(callback, milliseconds, ...args);
}

/** Reads the wanted tensors of an F32 safetensors file of data/: name -> { shape, data }. */
export function tensors(name, wanted = (_key) => true) {
  const path = `${DATA}${name}.safetensors`;
  if (!existsSync(path)) throw new Error(`Cannot read ${path}: run gen.py first`);
  return readTensors(path, wanted);
}

/** Reads the wanted tensors of any F32 safetensors file. */
export function readTensors(path, wanted = (_key) => true) {
  const file = openSync(path);
  const read = (bytes, at) => {
    readSync(file, bytes, 0, bytes.byteLength, at);
    return bytes;
  };
  const headerBytes = Number(read(Buffer.alloc(8), 0).readBigUInt64LE());
  const header = JSON.parse(read(Buffer.alloc(headerBytes), 8).toString());
  const found = {};
  for (const [key, { dtype, shape, data_offsets: at }] of Object.entries(header)) {
    if (key === "__metadata__" || !wanted(key)) continue;
    if (dtype !== "F32")
      throw new TypeError(`Cannot read ${key} of ${path}: dtype is ${dtype}, it should be F32`);
    const data = read(new Uint8Array(at[1] - at[0]), 8 + headerBytes + at[0]);
    found[key] = { shape, data: new Float32Array(data.buffer) };
  }
  closeSync(file);
  return found;
}

/** A (rows, columns) tensor as (columns, rows); anything else as it is. */
export function transposed({ shape, data }) {
  if (shape.length !== 2) return { shape, data };
  const [rows, columns] = shape;
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  return { shape: [columns, rows], data: out };
}

/** How far a result is from what it should be; throws where it has another length. */
export function distance(got, want) {
  if (got.length !== want.length)
    throw new RangeError(`Cannot compare: ${got.length} values came back, ${want.length} expected`);
  let [maxAbs, square, total] = [0, 0, 0];
  for (let i = 0; i < want.length; i++) {
    const d = Math.abs(got[i] - want[i]);
    if (!(d <= maxAbs)) maxAbs = d; // keeps NaN
    square += d * d;
    total += want[i] * want[i];
  }
  return { maxAbs, relL2: Math.sqrt(square / total) };
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/** Command line: workload names (default all), --runs N. */
export function arguments_(supported = WORKLOADS) {
  const names = [];
  let runs = 3;
  const rest = process.argv.slice(2);
  while (rest.length) {
    const word = rest.shift();
    if (word === "--runs") runs = Number(rest.shift());
    else if (supported.includes(word)) names.push(word);
    else usage(`${word} is not one of ${supported.join(", ")}`);
  }
  if (!Number.isInteger(runs) || runs < 1) usage("--runs should be a whole number above 0");
  return { names: names.length ? names : supported, runs };
}

function usage(problem) {
  console.error(`${problem}\nusage: node PEER.mjs [WORKLOAD…] [--runs N]`);
  process.exit(2);
}

/**
 * Times one workload.
 *
 *   run()      one run, from inputs on the device to its result (a Float32Array) in memory
 *   want       PyTorch's result; for training, its losses step by step, each run being one step
 *   firstMs    the first run: shaders compiled, pipelines made
 *   coldMs     process start to the end of the first run; meaningful for the first workload of a process only
 */
export async function measure({ peer, version, workload, runs, run, want, training = false, ...more }) {
  const report = { peer, version, workload };
  try {
    const start = performance.now();
    let result = await run();
    const end = performance.now();
    const results = [...result];
    const first = distance(results, training ? want.slice(0, 1) : want);
    if (!(first.relL2 < TOLERANCE))
      throw new Error(`Cannot time ${workload}: the result is wrong, relative L2 ${first.relL2}`);
    const times = [];
    for (let i = 0; i < runs; i++) {
      const before = performance.now();
      result = await run();
      times.push(performance.now() - before);
      if (training) results.push(...result);
    }
    const steps = Math.min(results.length, want.length);
    const error = training ? distance(results.slice(0, steps), want.slice(0, steps)) : distance(result, want);
    const firstMs = round(end - start);
    print({
      ...report,
      firstMs,
      medianMs: round(median(times)),
      ...error,
      coldMs: round(end),
      runs,
      times: times.map(round),
      ...more,
    });
  } catch (error) {
    print({ ...report, error: String(error?.message ?? error).slice(0, 600) });
    process.exitCode = 1;
  }
}

const round = (ms) => Math.round(ms * 100) / 100;
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
