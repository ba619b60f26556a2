/** Gradients of float64 references by finite differences. */
import { normal } from "./float64.ts";
import type { Arrays, Sample } from "./op_info.ts";

/** Most elements of a sample whose gradients are measured one by one. */
const MOST = 4096;

/** L = Σ reference·dy as a function of one input's values. */
function lossOf(sample: Sample, inputs: Arrays, name: string, dy: Float64Array) {
  const { shape } = inputs[name];
  return (data: Float64Array): number => {
    const y = sample.reference({ ...inputs, [name]: { shape, data } });
    return y.data.reduce((sum, v, i) => sum + v * dy[i], 0);
  };
}

/** (8(L(+h) − L(−h)) − (L(+2h) − L(−2h))) / 12h: wrong by a multiple of h⁴. */
const fivePoint = (loss: (h: number) => number, h: number): number =>
  (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);

/** The gradient of Σ y·dy on each named input, element by element. Throws where the inputs are too large for that. */
export function numericGradients(
  sample: Sample,
  inputs: Arrays,
  names: readonly string[],
  dy: Float64Array,
): Record<string, Float64Array> {
  const size = names.reduce((n, name) => n + inputs[name].data.length, 0);
  if (size > MOST)
    throw new RangeError(
      `Cannot differentiate ${sample.title} numerically: it has ${size} elements, at most ${MOST} are possible; give its record gradients`,
    );
  return Object.fromEntries(
    names.map((name) => {
      const loss = lossOf(sample, inputs, name, dy);
      const moved = inputs[name].data.slice();
      const gradient = inputs[name].data.map((v, i) => {
        const slope = fivePoint((h) => {
          moved[i] = v + h;
          return loss(moved);
        }, sample.step);
        moved[i] = v;
        return slope;
      });
      return [name, gradient];
    }),
  );
}

/** How steep Σ y·dy is along a random direction of length 1 in one input. */
export function slopeAlong(
  sample: Sample,
  inputs: Arrays,
  name: string,
  dy: Float64Array,
  seed: number,
): { slope: number; direction: Float64Array } {
  const { data } = inputs[name];
  const drawn = Float64Array.from(normal(data.length, seed));
  const length = Math.sqrt(drawn.reduce((sum, v) => sum + v * v, 0));
  const direction = drawn.map((v) => v / length);
  const loss = lossOf(sample, inputs, name, dy);
  return {
    slope: fivePoint((h) => loss(data.map((v, i) => v + h * direction[i])), sample.step),
    direction,
  };
}
