/**
 * tf.layers.lstm on TensorFlow.js' WebGPU backend, forward: lstm_tfjs.mjs CASES RUNS, as bench/lstm.bench.ts calls it. CASES is
 * JSON: files of inputs and results, and how often a run computes them. One line of JSON: of each case the fastest milliseconds and
 * the relative L2 distance from the file's y.
 */
import "./webgpu.mjs"; // first: the backend looks for navigator.gpu when it is loaded
import { createRequire } from "node:module";
import process from "node:process";
import { distance, readTensors, transposed } from "./common.mjs";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs");
require("@tensorflow/tfjs-backend-webgpu");
await tf.setBackend("webgpu");
await tf.ready();

/** Of direction d of D, whose rows lie one below the other. */
const part = ({ shape: [rows, ...rest], data }, d, D) => ({
  shape: [rows / D, ...rest],
  data: data.subarray((d * data.length) / D, ((d + 1) * data.length) / D),
});

/** Kernel, recurrent kernel and bias; gates stand as i, f, g, o here too. */
function weightsOf({ weightIh, weightHh, biasIh, biasHh }, d, D) {
  const bias = { shape: biasIh.shape, data: biasIh.data.map((v, i) => v + biasHh.data[i]) };
  return [weightIh, weightHh, bias].map((each) => {
    const { shape, data } = transposed(part(each, d, D));
    return tf.tensor(data, shape);
  });
}

const rows = [];
for (const { file, repeats } of JSON.parse(process.argv[2])) {
  const stored = readTensors(file);
  const [N, H] = stored.weightHh.shape;
  const D = N / (4 * H);
  const inputShape = stored.x.shape.slice(1);
  const one = tf.layers.lstm({
    ...{ units: H, inputShape, returnSequences: true, recurrentActivation: "sigmoid" },
    recurrentInitializer: "zeros", // the usual one takes minutes, and is overwritten
  });
  const layer = D === 2 ? tf.layers.bidirectional({ layer: one, inputShape, mergeMode: "concat" }) : one;
  const x = tf.tensor(stored.x.data, stored.x.shape);
  tf.dispose(layer.apply(x)); // makes the weights
  layer.setWeights(Array.from({ length: D }, (_, d) => weightsOf(stored, d, D)).flat());
  const run = async (times) => {
    let y;
    for (let i = 0; i < times; i++) {
      y?.dispose();
      y = tf.tidy(() => layer.apply(x));
    }
    const values = await y.data();
    y.dispose();
    return values;
  };
  const { relL2 } = distance(await run(1), stored.y.data);
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < Number(process.argv[3]); i++) {
    const start = performance.now();
    await run(repeats);
    fastest = Math.min(fastest, (performance.now() - start) / repeats);
  }
  rows.push({ ms: [fastest], relL2: [relL2] });
}
console.log(JSON.stringify(rows));
process.exit(0);
