/**
 * An LSTM layer beside its own matrix products alone, as this engine computes them one by one, in turns in one process: the
 * product of the inputs, one of every step, and in the backward one more of every step and those of the gradients. Values are
 * held to float64 before. What is reported is the ratio of the fastest runs. After it torch.nn.LSTM, by the Python that PYTHON
 * names, and tf.layers.lstm, each in a process of its own where they are installed (bench/peers/README.md), of the same inputs
 * and held to the same values.
 *
 *   npm run bench -- lstm
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { currentHost } from "../src/host/current.ts";
import { writeSafetensors } from "../src/io/safetensors_writer.ts";
import { finite, parse } from "../src/io/schema.ts";
import { gemm } from "../src/ops/matmul.ts";
import { lstm } from "../src/ops/lstm.ts";
import { records } from "../src/records/lstm.ts";
import { float64Of, upload } from "../src/records/run.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { formatTable } from "../tools/format.ts";
import { openBenchDevice } from "./device.ts";
import { checked, note } from "./measure.ts";

interface Sizes {
  readonly B: number;
  readonly T: number;
  readonly K: number;
  readonly H: number;
  readonly D: number;
}

/** Milliseconds of a forward, and with a backward where there is one; and the distances of both from float64. */
const peerRows = v.array(v.strictObject({ ms: v.array(finite), relL2: v.array(finite) }));
/** Largest distances of a forward and of a gradient. */
const TOLERANCES = [1e-5, 2e-5];
const RUNS = Number(process.env.RUNS ?? 8);
const SIZES: readonly Sizes[] = [
  { B: 1, T: 50, K: 64, H: 32, D: 1 },
  { B: 4, T: 50, K: 40, H: 64, D: 1 },
  { B: 8, T: 50, K: 64, H: 64, D: 2 },
  { B: 8, T: 50, K: 128, H: 128, D: 2 },
  { B: 1, T: 50, K: 256, H: 256, D: 1 },
  { B: 16, T: 50, K: 256, H: 256, D: 1 },
  { B: 8, T: 50, K: 256, H: 256, D: 2 },
  { B: 4, T: 30, K: 512, H: 512, D: 1 },
  { B: 16, T: 30, K: 512, H: 512, D: 1 },
];

const host = await currentHost();
const device = await openBenchDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-lstm-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
console.log(`lstm, f32, ${device.info.name}, path ${device.info.path}`);

/** The products of a layer, without all that stands between them. */
function products({ B, T, K, H, D }: Sizes, t: Record<string, Tensor>, backward: boolean): void {
  const N = D * 4 * H;
  const { x, weightIh, weightHh } = t;
  const like = (...shape: number[]) => x.like(shape);
  const rows = { a: { rowStride: K }, b: { rowStride: K }, y: { rowStride: N } };
  const gates = like(B, T, N);
  gemm(gates, x, weightIh, { M: B * T, N, K, transB: true, ...rows });
  const [h, sums] = [like(D, B, H), like(D, B, 4 * H)];
  const state = { rowStride: H, batchStride: B * H };
  const w = { rowStride: H, batchStride: 4 * H * H };
  const step = { rowStride: 4 * H, batchStride: B * 4 * H };
  const own = { batch: D, b: w };
  for (let s = 0; s < T; s++)
    gemm(sums, h, weightHh, { M: B, N: 4 * H, K: H, transB: true, ...own, a: state, y: step });
  if (!backward) return;
  for (let s = 0; s < T; s++) gemm(h, sums, weightHh, { M: B, N: H, K: 4 * H, ...own, a: step, y: state });
  const across = { a: { rowStride: N }, b: { rowStride: K }, y: { rowStride: K } };
  gemm(like(B, T, K), gates, weightIh, { M: B * T, N: K, K: N, ...across });
  gemm(like(N, K), gates, x, { M: N, N: K, K: B * T, transA: true, ...across });
  gemm(like(N, H), gates, like(B, T, D * H), {
    ...{ M: 4 * H, N: H, K: B * T, batch: D, transA: true },
    ...{ a: { rowStride: N, batchStride: 4 * H }, b: { rowStride: D * H, batchStride: H }, y: w },
  });
}

/** Milliseconds of each of `bodies`, in turns; the first of each compiles. */
async function inTurns(bodies: readonly (() => void)[], repeats: number): Promise<number[][]> {
  const times = bodies.map((): number[] => []);
  for (let run = 0; run <= RUNS; run++)
    for (const [i, body] of bodies.entries()) {
      const start = performance.now();
      for (let r = 0; r < repeats; r++) scope(device, body);
      await device.idle();
      if (run > 0) times[i].push((performance.now() - start) / repeats);
    }
  return times;
}

const [{ bench }] = records;
const rows: (string | number)[][] = [];
const cases: { name: string; file: string; repeats: number; fastest: readonly number[] }[] = [];
for (const sizes of SIZES) {
  const { B, T, K, H, D } = sizes;
  const N = D * 4 * H;
  const shapes = { x: [B, T, K], weightIh: [N, K], weightHh: [N, H], biasIh: [N], biasHh: [N] };
  const sample = bench[0].vary({ shapes });
  const inputs = sample.inputs();
  const t = upload(device, inputs);
  const name = `B ${B} T ${T} K ${K} H ${H} D ${D}`;
  const arrays = float64Of(inputs);
  const got = await scope(device, () => sample.run(t, device)).read();
  const want = sample.reference(arrays).data;
  const relL2 = checked(name, { got, want }, TOLERANCES[0]);

  const { x, ...weights } = t as Record<"x" | "weightIh" | "weightHh" | "biasIh" | "biasHh", Tensor>;
  const call = () => lstm(x, weights);
  const dy = Tensor.from(device, new Float32Array(B * T * D * H).fill(1), [B, T, D * H]);
  const both = () => vjp(device, Object.values(t), () => ({ outputs: [call().y], cotangents: [dy] }));
  const gradients = scope(device, () => [...both().gradients.values()]);
  const wanted = sample.gradients?.(
    arrays,
    Float64Array.from({ length: got.length }, (_, i) => (i < dy.size ? 1 : 0)),
  );
  if (!wanted) throw new Error("Cannot bench lstm: its record computes no gradients");
  for (const [i, key] of Object.keys(t).entries())
    checked(
      `${name}, the gradient of ${key}`,
      { got: await gradients[i].read(), want: wanted[key] },
      TOLERANCES[1],
    );
  const repeats = H >= 256 ? 1 : 4;
  const bodies = [
    () => void call(),
    () => products(sizes, t, false),
    () => void both(),
    () => products(sizes, t, true),
  ];
  const times = await inTurns(bodies, repeats);
  const [forward, own, training, ownTraining] = times.map((all) => Math.min(...all));
  for (const [i, what] of ["forward", "its products", "forward and backward", "their products"].entries())
    note(device, { name: `${name}, ${what}`, wall: times[i], relL2 });
  const file = join(folder, `${cases.length}.safetensors`);
  await store(file, [
    ...Object.entries(shapes).map(([key, shape]) => [key, shape, arrays[key].data] as const),
    ...Object.entries(shapes).map(([key, shape]) => [`gradient.${key}`, shape, wanted[key]] as const),
    ["y", dy.shape, Array.from(want).slice(0, dy.size)],
  ]);
  cases.push({ name, file, repeats, fastest: [forward, training] });
  rows.push([
    name,
    ...[forward, own, forward / own, training, ownTraining, training / ownTraining].map((n) => n.toFixed(2)),
  ]);
  for (const each of [...Object.values(t), dy]) each.release();
}
const head = ["layer", "forward ms", "products", "ratio", "and backward ms", "products", "ratio"];
for (const row of formatTable(head, rows)) console.log(`  ${row}`);

/** What a peer says of every case; nothing where it cannot run. Throws where its values are others. */
function peer(program: string, file: string): v.InferOutput<typeof peerRows> {
  const path = fileURLToPath(new URL(`./peers/${file}`, import.meta.url));
  const order = JSON.stringify(cases.map(({ file, repeats }) => ({ file, repeats })));
  const env = { ...process.env, OMP_WAIT_POLICY: "passive" };
  const done = spawnSync(program, [path, order, String(RUNS)], { encoding: "utf8", env });
  const line = done.stdout?.split("\n").find((l) => l.startsWith("["));
  if (!line) {
    console.log(`  ${file} did not run: ${done.error?.message ?? done.stderr.trim().split("\n").at(-1)}`);
    return [];
  }
  const told = parse(peerRows, JSON.parse(line), `the line of ${file}`);
  for (const [i, { relL2 }] of told.entries())
    for (const [of, distance] of relL2.entries())
      if (!(distance <= TOLERANCES[of]))
        throw new Error(
          `Cannot compare with ${file} at ${cases[i].name}: its ${of === 0 ? "result" : "gradients"} are ${distance.toExponential(2)} off`,
        );
  return told;
}

// A peer's milliseconds, and how many times as long Wavegate takes.
const torch = peer(process.env.PYTHON ?? "python3", "lstm.py");
const tfjs = peer(process.execPath, "lstm_tfjs.mjs");
const beside = (own: number, other: number | undefined): string[] =>
  other === undefined ? ["-", "-"] : [other.toFixed(2), (own / other).toPrecision(2)];
const compared = cases.map(({ name, fastest: [forward, training] }, i) => [
  name,
  ...beside(forward, torch[i]?.ms[0]),
  ...beside(training, torch[i]?.ms[1]),
  ...beside(forward, tfjs[i]?.ms[0]),
]);
const heading = ["PyTorch forward ms", "ratio", "and backward ms", "ratio", "tfjs forward ms", "ratio"];
if (torch.length + tfjs.length > 0)
  for (const row of formatTable(["layer", ...heading], compared)) console.log(`  ${row}`);
process.exit(0);

/** Writes tensors as f32: name, shape and values of each. */
function store(
  file: string,
  tensors: readonly (readonly [string, readonly number[], ArrayLike<number>])[],
): Promise<void> {
  return writeSafetensors(
    host,
    file,
    tensors.map(([key, shape, values]) => ({
      ...{ key, dtype: "F32" as const, shape },
      data: new Uint8Array(Float32Array.from(values).buffer),
    })),
  );
}
