/** jax-js: the neighbour in TypeScript. Everything under jit, as its documentation advises. */
import { adapter } from "./webgpu.mjs"; // first: jax-js looks for navigator.gpu when it is loaded
import { readFileSync } from "node:fs";
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

const {
  init,
  defaultDevice,
  numpy: np,
  nn,
  lax,
  jit,
  valueAndGrad,
  tree,
  blockUntilReady,
} = await import("@jax-js/jax");
await init("webgpu");
defaultDevice("webgpu");

const version = JSON.parse(
  readFileSync(new URL("node_modules/@jax-js/jax/package.json", import.meta.url), "utf8"),
).version;
const { names, runs } = arguments_();
const io = tensors("io");
const array = ({ shape, data }, as = shape) => np.array(data).reshape(as);
const common = { peer: "jax-js", version, runs, adapter };

/** Weights of the first n layers, (in, out): jax-js multiplies faster so. */
function parameters(n, shape = BERT) {
  const weights = tensors(shape.weights, (key) => Number(key.split(".")[1]) < n);
  return Array.from({ length: n }, (_, i) => {
    const prefix = `layers.${i}.`;
    const own = Object.entries(weights).filter(([key]) => key.startsWith(prefix));
    return Object.fromEntries(own.map(([key, w]) => [key.slice(prefix.length), array(transposed(w))]));
  });
}

// jax-js counts references by hand: an array is consumed by its first use, `.ref` keeps it for another.
const linear = (x, p, name) => np.matmul(x, p[`${name}.weight`]).add(p[`${name}.bias`]);
const layerNorm = (x, p, name, epsilon) =>
  nn.standardize(x, -1, { epsilon }).mul(p[`${name}.weight`]).add(p[`${name}.bias`]);

function attend(x, p, { tokens, heads, hidden }) {
  const [q, k, v] = ["q", "k", "v"].map((name) =>
    linear(x.ref, p, name).reshape([tokens, heads, hidden / heads]),
  );
  x.dispose();
  const split = (t) => np.transpose(t, [1, 0, 2]);
  const scores = np.matmul(split(q), np.transpose(k, [1, 2, 0])).mul(1 / Math.sqrt(hidden / heads));
  const context = np
    .transpose(np.matmul(nn.softmax(scores, -1), split(v)), [1, 0, 2])
    .reshape([tokens, hidden]);
  return linear(context, p, "o");
}

const feed = (x, p) => linear(nn.gelu(linear(x, p, "f1"), { approximate: false }), p, "f2");

function layer(x, p, shape) {
  const { eps, preNorm } = shape;
  if (preNorm) {
    const h = x.ref.add(attend(layerNorm(x, p, "ln1", eps), p, shape));
    return h.ref.add(feed(layerNorm(h, p, "ln2", eps), p));
  }
  const h = layerNorm(x.ref.add(attend(x, p, shape)), p, "ln1", eps);
  return layerNorm(h.ref.add(feed(h, p)), p, "ln2", eps);
}

const encoding = (shape) => (params, x) => params.reduce((h, p) => layer(h, p, shape), x);
const encode = encoding(BERT);

async function encoder(workload, n) {
  const [params, x, forward] = [parameters(n), array(io.x, [TOKENS, HIDDEN]), jit(encode)];
  await measure({
    ...common,
    workload,
    want: io[`y${n}`].data,
    run: () => forward(tree.ref(params), x.ref).data(),
  });
  tree.dispose(params);
}

const workloads = {
  async mm1024() {
    const [a, b, multiply] = [array(io.a), array(io.b), jit((a, b) => np.matmul(a, b))];
    await measure({
      ...common,
      workload: "mm1024",
      want: io.ab.data,
      run: () => multiply(a.ref, b.ref).data(),
    });
  },
  enc2: () => encoder("enc2", 2),
  enc12: () => encoder("enc12", LAYERS),

  async conv() {
    const weights = tensors("conv");
    const params = CONV.map((_, i) => ({
      w: array(weights[`c.${i}.weight`]),
      b: array(weights[`c.${i}.bias`]),
      gain: array(weights[`n.${i}.weight`]),
      shift: array(weights[`n.${i}.bias`]),
    }));
    const forward = jit((params, x) => {
      CONV.forEach(([, stride], i) => {
        const { w, b, gain, shift } = params[i];
        x = np.transpose(lax.conv(x, w, [stride], "VALID"), [0, 2, 1]).add(b);
        x = nn.gelu(nn.standardize(x, -1, { epsilon: 1e-5 }).mul(gain).add(shift), { approximate: false });
        x = np.transpose(x, [0, 2, 1]);
      });
      return x;
    });
    const wav = array(io.wav, [1, 1, 16000]);
    await measure({
      ...common,
      workload: "conv",
      want: io.yconv.data,
      run: () => forward(tree.ref(params), wav.ref).data(),
    });
  },

  train2: () =>
    train(
      "train2",
      BERT,
      array(io.x, [TOKENS, HIDDEN]),
      array(io.target, [TOKENS, HIDDEN]),
      io["losses.adamw"].data,
    ),
  trainh2: () => {
    const { tokens, hidden } = HUBERT;
    return train(
      "trainh2",
      HUBERT,
      array(io.xh, [tokens, hidden]),
      array(io.targeth, [tokens, hidden]),
      io["losses.h.adamw"].data,
    );
  },
};

async function train(workload, shape, x, target, want) {
  let params = parameters(2, shape);
  let [mean, square] = [0, 1].map(() => tree.map((p) => np.zeros(p.shape), tree.ref(params)));
  const encode = encoding(shape);
  const loss = (params, x, target) => np.mean(np.square(encode(params, x).sub(target)));
  // The bias corrections come in as arrays, so that a new step is not a new trace.
  const adamw = jit((params, mean, square, c1, c2, x, target) => {
    const [value, grads] = valueAndGrad(loss)(tree.ref(params), x, target);
    const m2 = tree.map((m, g) => m.mul(0.9).add(g.mul(0.1)), mean, tree.ref(grads));
    const v2 = tree.map((v, g) => v.mul(0.999).add(np.square(g).mul(0.001)), square, grads);
    const update = (p, m, v) =>
      p.mul(1 - 1e-3 * 0.01).sub(
        m
          .div(c1.ref)
          .mul(1e-3)
          .div(np.sqrt(v.div(c2.ref)).add(1e-8)),
      );
    const p2 = tree.map(update, params, tree.ref(m2), tree.ref(v2));
    c1.dispose();
    c2.dispose();
    return [value, p2, m2, v2];
  });
  let t = 0;
  const run = async () => {
    t++;
    const corrections = [np.array(1 - 0.9 ** t), np.array(1 - 0.999 ** t)];
    let value;
    [value, params, mean, square] = adamw(params, mean, square, ...corrections, x.ref, target.ref);
    const found = await value.data();
    await blockUntilReady(tree.ref(params));
    return found;
  };
  await measure({ ...common, workload, want, run, training: true, optimizer: "AdamW" });
}

for (const name of names) await workloads[name]();
process.exit();
