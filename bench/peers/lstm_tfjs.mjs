/** tf.layers.lstm on TensorFlow.js' WebGPU backend at the sizes given as JSON, forward: fastest milliseconds. */
import "./webgpu.mjs"; // first: the backend looks for navigator.gpu when it is loaded
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs");
require("@tensorflow/tfjs-backend-webgpu");
await tf.setBackend("webgpu");
await tf.ready();

const rows = [];
for (const { B, T, K, H, D } of JSON.parse(process.argv[2])) {
  const one = tf.layers.lstm({
    units: H,
    returnSequences: true,
    recurrentActivation: "sigmoid",
    inputShape: [T, K],
  });
  const layer = D === 2 ? tf.layers.bidirectional({ layer: one, inputShape: [T, K] }) : one;
  const x = tf.randomNormal([B, T, K]);
  const run = async () => {
    const y = tf.tidy(() => layer.apply(x));
    await y.data();
    y.dispose();
  };
  await run();
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < Number(process.argv[3]); i++) {
    const start = performance.now();
    await run();
    fastest = Math.min(fastest, performance.now() - start);
  }
  rows.push([fastest]);
}
console.log(JSON.stringify(rows));
process.exit(0);
