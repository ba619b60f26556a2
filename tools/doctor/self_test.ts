/** Four operators against float64 loops, at sizes that divide by nothing. */
import type { Device } from "../../src/gpu/device.ts";
import { draw } from "../../src/nn/init.ts";
import { selfAttention } from "../../src/ops/attention.ts";
import { ctcLoss } from "../../src/ops/ctc.ts";
import { layerNorm } from "../../src/ops/layer_norm.ts";
import { linear } from "../../src/ops/matmul.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { distance } from "../../src/validate/compare.ts";

export interface SelfTest {
  readonly operator: string;
  /** ‖GPU − float64‖ / ‖float64‖. */
  readonly relL2: number;
  readonly pass: boolean;
}

const LIMIT = 1e-5;

const values = (size: number, key: string, std = 1) => draw({ kind: "normal", std }, size, 1, key);

export async function selfTest(device: Device): Promise<SelfTest[]> {
  const tests = { matmul, attention, layerNorm: norm, ctc };
  const results: SelfTest[] = [];
  for (const [operator, run] of Object.entries(tests)) {
    const { got, want } = run(device);
    const { relL2 } = distance(await got.read(), want);
    got.release();
    results.push({ operator, relL2, pass: relL2 <= LIMIT });
  }
  return results;
}

interface Pair {
  readonly got: Tensor;
  readonly want: Float64Array;
}

function matmul(device: Device): Pair {
  const [M, N, K] = [37, 53, 129];
  const [x, w, b] = [values(M * K, "x"), values(N * K, "w", 0.1), values(N, "b")];
  const want = new Float64Array(M * N);
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++) {
      let sum = b[n];
      for (let k = 0; k < K; k++) sum += x[m * K + k] * w[n * K + k];
      want[m * N + n] = sum;
    }
  const at = (data: Float32Array, shape: number[]) => Tensor.from(device, data, shape);
  return { got: scope(device, () => linear(at(x, [M, K]), at(w, [N, K]), at(b, [N]))), want };
}

function attention(device: Device): Pair {
  const [B, T, H, D, real] = [2, 33, 3, 20, [33, 21]];
  const C = H * D;
  const qkv = values(B * T * 3 * C, "qkv");
  const mask = Uint32Array.from({ length: B * T }, (_, i) => (i % T < real[Math.floor(i / T)] ? 1 : 0));
  const want = new Float64Array(B * T * C);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let t = 0; t < T; t++) {
        const row = (part: number, s: number) => (b * T + s) * 3 * C + part * C + h * D;
        const weights = Array.from({ length: real[b] }, (_, s) => {
          let dot = 0;
          for (let d = 0; d < D; d++) dot += qkv[row(0, t) + d] * qkv[row(1, s) + d];
          return Math.exp(dot / Math.sqrt(D));
        });
        const total = weights.reduce((a, v) => a + v, 0);
        for (let d = 0; d < D; d++)
          want[(b * T + t) * C + h * D + d] = weights.reduce(
            (a, v, s) => a + (v / total) * qkv[row(2, s) + d],
            0,
          );
      }
  const got = scope(device, () =>
    selfAttention(Tensor.from(device, qkv, [B, T, 3 * C]), {
      heads: H,
      mask: Tensor.from(device, mask, [B, T]),
    }),
  );
  return { got, want };
}

function norm(device: Device): Pair {
  const [N, C, eps] = [7, 1023, 1e-5];
  const [x, w, b] = [values(N * C, "x").map((v) => v + 3), values(C, "w"), values(C, "b")];
  const want = new Float64Array(N * C);
  for (let n = 0; n < N; n++) {
    const row = Array.from(x.subarray(n * C, (n + 1) * C));
    const mean = row.reduce((a, v) => a + v, 0) / C;
    const variance = row.reduce((a, v) => a + (v - mean) ** 2, 0) / C;
    row.forEach((v, c) => {
      want[n * C + c] = ((v - mean) / Math.sqrt(variance + eps)) * w[c] + b[c];
    });
  }
  const at = (data: Float32Array, shape: number[]) => Tensor.from(device, data, shape);
  return { got: scope(device, () => layerNorm(at(x, [N, C]), at(w, [C]), at(b, [C]), eps)), want };
}

/** −log P(labels) by the forward variables, in plain probabilities: 40 frames do not underflow in float64. */
function ctc(device: Device): Pair {
  const [T, V, labels] = [41, 13, [3, 3, 7, 1, 12, 5]];
  const logits = values(T * V, "logits", 2);
  const states = [0, ...labels.flatMap((id) => [id, 0])];
  let alpha = new Float64Array(states.length);
  for (let t = 0; t < T; t++) {
    const e = Array.from(logits.subarray(t * V, (t + 1) * V), (v) => Math.exp(v));
    const total = e.reduce((a, v) => a + v, 0);
    alpha = Float64Array.from(states, (id, s) => {
      const skips = s > 1 && id !== 0 && id !== states[s - 2];
      const before = t === 0 ? (s < 2 ? 1 : 0) : alpha[s] + (alpha[s - 1] ?? 0) + (skips ? alpha[s - 2] : 0);
      return (before * e[id]) / total;
    });
  }
  const want = Float64Array.of(-Math.log(alpha[states.length - 1] + alpha[states.length - 2]));
  const got = scope(device, () =>
    ctcLoss(Tensor.from(device, logits, [1, T, V]), [labels], [T], { reduction: "none" }),
  );
  return { got, want };
}
