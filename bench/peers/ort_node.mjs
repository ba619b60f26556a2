/** ONNX Runtime for Node with its own native Dawn (PROVIDER=webgpu, the default) or on the CPU. It cannot train. */
import { existsSync } from "node:fs";
import process from "node:process";
import ort from "onnxruntime-node";
import { arguments_, DATA, measure, tensors } from "./common.mjs";

const provider = process.env.PROVIDER ?? "webgpu";
const { names, runs } = arguments_(["mm1024", "enc2", "enc12", "conv"]);
const io = tensors("io");
const common = {
  peer: `ort-node-${provider}`,
  version: ort.env.versions.node ?? ort.env.versions.common,
  runs,
  // It names no adapter and takes no name of one.
  adapter: provider === "webgpu" ? "of its own choice" : "CPU",
};
if (provider === "webgpu" && process.env.WAVEGATE_ADAPTER)
  console.error("WAVEGATE_ADAPTER is not obeyed: ONNX Runtime's own Dawn chooses the adapter by itself");
const [inputs, results] = [
  { mm1024: ["a", "b"], enc2: ["x"], enc12: ["x"], conv: ["wav"] },
  { mm1024: "ab", enc2: "y2", enc12: "y12", conv: "yconv" },
];

for (const workload of names) {
  const path = `${DATA}${workload}.onnx`;
  if (!existsSync(path)) {
    console.error(`Cannot read ${path}: run gen.py with onnx installed`);
    process.exit(1);
  }
  const started = performance.now();
  const session = await ort.InferenceSession.create(path, {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
    intraOpNumThreads: 2,
  });
  const sessionMs = Math.round(performance.now() - started); // optimises the graph; shaders are compiled by the first run
  const feeds = inputs[workload].map((name) => [
    name,
    new ort.Tensor("float32", io[name].data, io[name].shape),
  ]);
  const run = async () => (await session.run(Object.fromEntries(feeds))).y.data;
  await measure({ ...common, workload, want: io[results[workload]].data, run, sessionMs });
  await session.release();
}
process.exit();
