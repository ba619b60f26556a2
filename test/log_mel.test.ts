/** Log-mel features against torch.stft and torchaudio's definition of the filters, and what they refuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkMel, melFilterbank, melFrames } from "../src/io/mel.ts";
import { type LogMelConfig, LogMelSpectrogram } from "../src/nn/log_mel.ts";
import { Weights } from "../src/nn/weights.ts";
import { sum } from "../src/ops/reduce.ts";
import { mul } from "../src/ops/elementwise.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { stored } from "./las_reference.ts";
import { near } from "./ops_fixture.ts";
import { normal } from "./reference.ts";

const device = await testDevice();

/** Those of the stored case, tools/reference.py. */
const HTK: LogMelConfig = {
  ...{ sampleRate: 16_000, nFft: 512, winLength: 400, hopLength: 160, fMin: 0, fMax: 8000, nMels: 20 },
  ...{ norm: null, melScale: "htk", logOffset: 1e-6, mean: 1.5, std: 4 },
};
const SLANEY: LogMelConfig = {
  ...{ ...HTK, nFft: 400, winLength: 320, hopLength: 200, fMin: 60, fMax: 7600 },
  ...{ norm: "slaney", melScale: "slaney" },
};

async function features(config: LogMelConfig, audio: Float32Array, shape: readonly number[]) {
  const weights = new Weights(device);
  const layer = new LogMelSpectrogram(weights.root, config);
  const y = scope(device, () => layer.forward(Tensor.from(device, audio, shape)));
  const values = await y.read();
  y.release();
  weights.dispose();
  return { shape: y.shape, values };
}

test("features are those that torch computed, by both scales and both norms", async () => {
  const [inputs, outputs] = [await stored("inputs"), await stored("outputs_f64")];
  const audio = inputs.get("audio")!;
  for (const [config, name] of [
    [HTK, "log_mel"],
    [SLANEY, "mel.slaney"],
  ] as const) {
    const { shape, values } = await features(config, audio.data, audio.shape);
    const want = outputs.get(name)!;
    assert.deepEqual(shape, want.shape);
    near(values, want.data, 1e-5, name);
  }
  assert.equal(device.pool.statistics.live, 0, "the constants go with the weights");
});

test("a frame of a size that is no multiple of four is the same sum", async () => {
  const config = { ...HTK, nFft: 510, winLength: 398, nMels: 12 };
  const audio = normal(1600, 3);
  const { values } = await features(config, audio, [1, 1600]);
  const filters = melFilterbank(config);
  const want: number[] = [];
  for (let t = 0; t < melFrames(config, 1600); t++) {
    const power = Array.from({ length: 256 }, (_, k) => {
      let [re, im] = [0, 0];
      for (let n = 0; n < 398; n++) {
        const w = 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / 398);
        const [x, angle] = [w * audio[t * 160 + 56 + n], (2 * Math.PI * k * (n + 56)) / 510];
        re += x * Math.cos(angle);
        im -= x * Math.sin(angle);
      }
      return re * re + im * im;
    });
    for (let m = 0; m < 12; m++) {
      const mel = power.reduce((total, p, k) => total + p * filters[m * 256 + k], 0);
      want.push((Math.log(mel + config.logOffset) - config.mean) / config.std);
    }
  }
  near(values, want, 1e-5, "log mel");
});

test("a gradient reaches the samples", async () => {
  const weights = new Weights(device);
  const layer = new LogMelSpectrogram(weights.root, { ...HTK, nMels: 4 });
  const x = Tensor.from(device, normal(1200, 5), [1, 1200]);
  const loss = () => {
    const y = layer.forward(x);
    return sum(mul(y, y));
  };
  await gradcheck(device, [x], loss);
  x.release();
  weights.dispose();
});

test("filters that hear nothing, and audio without a frame, are refused", () => {
  checkMel(HTK, "config.json");
  checkMel(SLANEY, "config.json");
  assert.throws(() => checkMel({ ...HTK, nMels: 128 }, "config.json"), {
    message:
      "Cannot use config.json: n_mels is 128 but should be fewer: filter 0 lies between two frequencies of n_fft 512 and would hear nothing",
  });
  assert.throws(() => checkMel({ ...HTK, winLength: 600 }, "config.json"), /win_length is 600/);
  assert.throws(() => checkMel({ ...HTK, fMax: 9000 }, "config.json"), /f_max is 9000/);
  assert.throws(() => checkMel({ ...HTK, fMin: 8000 }, "config.json"), /f_min is 8000/);
  const weights = new Weights(device);
  scope(device, () => {
    const layer = new LogMelSpectrogram(weights.root, HTK);
    assert.throws(() => layer.forward(Tensor.empty(device, [1, 511])), {
      name: "RangeError",
      message: "Cannot make a spectrogram of 511 samples: a frame has 512, at least one expected",
    });
  });
});
