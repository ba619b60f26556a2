import { additiveScores } from "../ops/additive_attention.ts";
import { type Arrays, defineOp, inHalf } from "./op_info.ts";

/** Calls `each` with every term: the places of its score, query, key and v, and the sum under its tanh. */
function terms(
  { query, key, v }: Arrays,
  each: (e: number, q: number, k: number, a: number, u: number) => void,
): void {
  const [B, Q, A] = query.shape;
  const T = key.shape[1];
  for (let b = 0; b < B; b++)
    for (let i = 0; i < Q; i++)
      for (let t = 0; t < T; t++)
        for (let a = 0; a < A; a++) {
          const [q, k] = [(b * Q + i) * A + a, (b * T + t) * A + a];
          each((b * Q + i) * T + t, q, k, a, query.data[q] + key.data[k]);
        }
  if (v.data.length !== A) throw new RangeError(`Cannot score: v has ${v.data.length} numbers, not ${A}`);
}

const inputs = (B: number, Q: number, T: number, A: number) => ({
  query: [B, Q, A],
  key: [B, T, A],
  v: [A],
});

export const records = [
  defineOp({
    name: "additiveScores",
    run: ({ query, key, v }) => additiveScores(query, key, v),
    reference: (given) => {
      const [B, Q] = given.query.shape;
      const T = given.key.shape[1];
      const data = new Float64Array(B * Q * T);
      terms(given, (e, _, __, a, u) => {
        data[e] += given.v.data[a] * Math.tanh(u);
      });
      return { shape: [B, Q, T], data };
    },
    gradients: (given, _, de) => {
      const query = new Float64Array(given.query.data.length);
      const key = new Float64Array(given.key.data.length);
      const v = new Float64Array(given.v.data.length);
      terms(given, (e, q, k, a, u) => {
        const slope = de[e] * given.v.data[a] * (1 - Math.tanh(u) ** 2);
        query[q] += slope;
        key[k] += slope;
        v[a] += de[e] * Math.tanh(u);
      });
      return { query, key, v };
    },
    samples: [
      { inputs: inputs(3, 2, 11, 37) },
      { inputs: inputs(1, 1, 1, 1) },
      { inputs: inputs(2, 1, 19, 64), name: "one query, as of a decoder's step" },
      { inputs: inputs(2, 5, 3, 300) },
      {
        inputs: {
          ...inputs(1, 2, 3, 8),
          query: { shape: [1, 2, 8], fill: (v: number) => 60 * v },
        },
        name: "far out on the tanh",
      },
      inHalf({ inputs: inputs(2, 3, 7, 12) }, ["query", "key"]),
      inHalf({ inputs: inputs(2, 3, 7, 13) }, ["query", "key"]),
    ],
    bench: [{ inputs: inputs(8, 1, 125, 256) }, { inputs: inputs(8, 60, 125, 256) }],
  }),
];
