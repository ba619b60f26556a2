/** The values that parameters begin with, as rules; equal rules, seeds and keys give equal values. */
import { SAMPLE_RATE } from "../io/samples.ts";
import { checkChoice, checkNumber } from "../io/checks.ts";
import { hash, normal, uniform } from "./random.ts";

/** How a parameter that no checkpoint holds begins. */
export type Init =
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" }
  | { readonly kind: "normal"; readonly std: number }
  | { readonly kind: "uniform"; readonly bound: number }
  /** Filters of `taps` samples at 16 kHz in pairs of cosine and sine, from low to high. */
  | { readonly kind: "gabor"; readonly taps: number };

/** Glorot and Bengio 2010: for layers followed by tanh or sigmoid, and for attention. */
export const xavierUniform = (fanIn: number, fanOut: number): Init => ({
  kind: "uniform",
  bound: Math.sqrt(6 / (fanIn + fanOut)),
});

/** He et al. 2015: for layers followed by ReLU, uniform up to √(6/fanIn). */
export const kaimingUniform = (fanIn: number): Init => ({ kind: "uniform", bound: Math.sqrt(6 / fanIn) });
/** He et al. 2015: for layers followed by ReLU, normal with a deviation of √(2/fanIn). */
export const kaimingNormal = (fanIn: number): Init => ({ kind: "normal", std: Math.sqrt(2 / fanIn) });

const ARGUMENTS = {
  zeros: undefined,
  ones: undefined,
  normal: "std",
  uniform: "bound",
  gabor: "taps",
} as const;

/** Throws where `init` is no rule, or its number none: a value of NaN would be found by nobody. */
export function checkInit(init: Init, key: string): void {
  const action = `declare ${key}`;
  if (typeof init === "function")
    throw new TypeError(`Cannot ${action}: its init is a function; call it, as kaimingUniform(fanIn)`);
  checkChoice(action, "the kind of its init", init?.kind, Object.keys(ARGUMENTS));
  const name = ARGUMENTS[init.kind];
  if (name === undefined) return;
  const value = (init as Readonly<Record<string, unknown>>)[name];
  const least = name === "taps" ? 1 : 0;
  checkNumber(action, `init.${name}`, value, `a finite number from ${least}`, (x) => x >= least && x < 1e38);
}

/** `size` fresh values of a parameter: the same for the same rule, seed and key. */
export function draw(init: Init, size: number, seed: number, key: string): Float32Array {
  const values = new Float32Array(size);
  if (init.kind === "zeros") return values;
  if (init.kind === "ones") return values.fill(1);
  if (init.kind === "gabor") return gabor(values, init.taps);
  const next = uniform(hash(key) ^ Math.imul(seed + 1, 0x9e3779b1));
  if (init.kind === "uniform") return values.map(() => (2 * next() - 1) * init.bound);
  const { std } = init;
  return values.map(() => normal(next, std));
}

/**
 * Gabor filters on the mel scale, 60 to 7600 Hz, as time-domain filterbanks begin with (Zeghidour et al. 2018). Each
 * rises with its frequency, which evens out the fall of speech's spectrum.
 */
function gabor(values: Float32Array, taps: number): Float32Array {
  const mel = (f: number) => 2595 * Math.log10(1 + f / 700);
  const hertz = (m: number) => 700 * (10 ** (m / 2595) - 1);
  const filters = values.length / taps;
  const pairs = Math.ceil(filters / 2);
  for (let i = 0; i < filters; i++) {
    const place = pairs > 1 ? (i >> 1) / (pairs - 1) : 0;
    const f = hertz(mel(60) + (mel(7600) - mel(60)) * place);
    const width = Math.min(taps / 5, (1.2 * SAMPLE_RATE) / (2 * Math.PI * Math.max(100, 0.18 * f)));
    let squares = 0;
    for (let t = 0; t < taps; t++) {
      const x = t - (taps - 1) / 2;
      const phase = (2 * Math.PI * f * x) / SAMPLE_RATE;
      const value = Math.exp(-0.5 * (x / width) ** 2) * (i % 2 === 0 ? Math.cos(phase) : Math.sin(phase));
      values[i * taps + t] = value;
      squares += value * value;
    }
    const gain = (Math.SQRT2 * (0.3 + f / 2000)) / Math.sqrt(squares);
    for (let t = 0; t < taps; t++) values[i * taps + t] *= gain;
  }
  return values;
}
