/** TensorFlow.js on its WebGPU backend. It has no AdamW: train2 steps with Adam, against PyTorch's Adam. */
import { adapter } from "./webgpu.mjs"; // first: the backend looks for navigator.gpu when it is loaded
import { createRequire } from "node:module";
import process from "node:process";
import {
  arguments_,
  BERT,
  CONV,
  HIDDEN,
  HUBERT,
  LAYERS,
  measure,
  TOKENS,
  tensors,
  transposed,
} from "./common.mjs";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs"); // tfjs-core alone has no gradients
require("@tensorflow/tfjs-backend-webgpu");
await tf.setBackend("webgpu");
await tf.ready();

const { names, runs } = arguments_();
const io = tensors("io");
const common = { peer: "tfjs-webgpu", version: tf.version_core, runs, adapter };
const tensor = ({ shape, data }, as = shape) => tf.tensor(data, as);

/** Weights of the first n layers as variables, (in, out) as its own converter would write them. */
function parameters(n, shape = BERT) {
  const own = Object.entries(tensors(shape.weights, (key) => Number(key.split(".")[1]) < n));
  return Object.fromEntries(own.map(([key, w]) => [key, tf.variable(tensor(transposed(w)))]));
}

function normalized(x, gain, shift, eps) {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, eps))), gain), shift);
}

const gelu = (x) => tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));

function encode(p, x, n, { tokens, heads, hidden, eps, preNorm } = BERT) {
  const split = (t) => tf.transpose(tf.reshape(t, [tokens, heads, hidden / heads]), [1, 0, 2]);
  for (let i = 0; i < n; i++) {
    const w = (name) => p[`layers.${i}.${name}.weight`];
    const b = (name) => p[`layers.${i}.${name}.bias`];
    const linear = (x, name) => tf.add(tf.matMul(x, w(name)), b(name));
    const norm = (x, name) => normalized(x, w(name), b(name), eps);
    const attend = (x) => {
      const [q, k, v] = ["q", "k", "v"].map((name) => split(linear(x, name)));
      const probs = tf.softmax(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(hidden / heads)));
      return linear(tf.reshape(tf.transpose(tf.matMul(probs, v), [1, 0, 2]), [tokens, hidden]), "o");
    };
    const feed = (x) => linear(gelu(linear(x, "f1")), "f2");
    if (preNorm) {
      x = tf.add(x, attend(norm(x, "ln1")));
      x = tf.add(x, feed(norm(x, "ln2")));
    } else {
      x = norm(tf.add(x, attend(x)), "ln1");
      x = norm(tf.add(x, feed(x)), "ln2");
    }
  }
  return x;
}

/** Runs in a tidy, so that nothing but the result outlives it. */
async function value(f) {
  const y = tf.tidy(f);
  const data = await y.data();
  y.dispose();
  return data;
}

async function encoder(workload, n) {
  const [p, x] = [parameters(n), tensor(io.x, [TOKENS, HIDDEN])];
  await measure({ ...common, workload, want: io[`y${n}`].data, run: () => value(() => encode(p, x, n)) });
  tf.dispose(p);
}

const workloads = {
  async mm1024() {
    const [a, b] = [tensor(io.a), tensor(io.b)];
    await measure({
      ...common,
      workload: "mm1024",
      want: io.ab.data,
      run: () => value(() => tf.matMul(a, b)),
    });
  },
  enc2: () => encoder("enc2", 2),
  enc12: () => encoder("enc12", LAYERS),

  async conv() {
    const weights = tensors("conv");
    const params = CONV.map((_, i) => ({
      w: tf.tidy(() => tf.transpose(tensor(weights[`c.${i}.weight`]), [2, 1, 0])),
      b: tensor(weights[`c.${i}.bias`]),
      gain: tensor(weights[`n.${i}.weight`]),
      shift: tensor(weights[`n.${i}.bias`]),
    }));
    const wav = tensor(io.wav, [16000, 1]);
    const run = () =>
      value(() => {
        let x = wav;
        CONV.forEach(([, stride], i) => {
          const { w, b, gain, shift } = params[i];
          x = gelu(normalized(tf.add(tf.conv1d(x, w, stride, "valid"), b), gain, shift, 1e-5));
        });
        return tf.transpose(x, [1, 0]);
      });
    await measure({ ...common, workload: "conv", want: io.yconv.data, run });
  },

  train2: () => train("train2", BERT, io.x, io.target, io["losses.adam"].data),
  trainh2: () => train("trainh2", HUBERT, io.xh, io.targeth, io["losses.h.adam"].data),
};

async function train(workload, shape, input, wanted, want) {
  const size = [shape.tokens, shape.hidden];
  const [p, x, target] = [parameters(2, shape), tensor(input, size), tensor(wanted, size)];
  const optimizer = tf.train.adam(1e-3, 0.9, 0.999, 1e-8);
  const loss = () => tf.mean(tf.square(tf.sub(encode(p, x, 2, shape), target)));
  const run = async () => {
    const cost = optimizer.minimize(loss, true, Object.values(p));
    const data = await cost.data();
    cost.dispose();
    return data;
  };
  await measure({ ...common, workload, want, run, training: true, optimizer: "Adam" });
}

for (const name of names) await workloads[name]();
process.exit();
