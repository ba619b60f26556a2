/** Handcrafted acoustic features of an utterance: pitch, energy, tempo and voice quality. */

/** Their names, in order. */
export const FEATURES = [
  "log F0",
  "F0 range",
  "energy slope",
  "syllable rate",
  "spectral tilt",
  "harmonicity",
  "voiced share",
] as const;

/** Analysis at 8 kHz: windows of 40 ms every 20 ms, F0 from 70 to 380 Hz. */
const RATE = 8_000;
const WINDOW = 320;
const HOP = 160;
const MIN_LAG = Math.floor(RATE / 380);
const MAX_LAG = Math.ceil(RATE / 70);

interface Frame {
  /** Root mean square. */
  readonly level: number;
  /** Peak of the normalised autocorrelation, 0 to 1. */
  readonly harmonicity: number;
  readonly f0: number;
  /** Power of the first difference over power. */
  readonly tilt: number;
}

/** Speech (N) at 16 kHz → one number for each of FEATURES; zeros for speech without voiced frames. */
export function acousticFeatures(speech: Float32Array): number[] {
  const x = Float32Array.from(
    { length: speech.length >> 1 },
    (_, i) => (speech[2 * i] + speech[2 * i + 1]) / 2,
  );
  const frames: Frame[] = [];
  for (let at = 0; at + WINDOW + MAX_LAG <= x.length; at += HOP) frames.push(analyse(x, at, speech));
  const loudest = Math.max(...frames.map((frame) => frame.level), 0);
  const active = frames.filter((frame) => frame.level > 0.15 * loudest);
  const voiced = active.filter((frame) => frame.harmonicity > 0.5);
  if (voiced.length < 3) return FEATURES.map(() => 0);

  const pitches = voiced.map((frame) => Math.log(frame.f0)).sort((a, b) => a - b);
  const at = (q: number) => pitches[Math.floor(q * (pitches.length - 1))];
  return [
    at(0.5),
    at(0.9) - at(0.1),
    slope(active.map((frame) => Math.log(frame.level))),
    (peaks(frames.map((frame) => frame.level)) * RATE) / x.length,
    Math.log(mean(voiced.map((frame) => frame.tilt))),
    mean(voiced.map((frame) => frame.harmonicity)),
    voiced.length / frames.length,
  ];
}

function analyse(x: Float32Array, at: number, speech: Float32Array): Frame {
  let power = 0;
  for (let i = 0; i < WINDOW; i++) power += x[at + i] ** 2;
  let laggedPower = power;
  let best = 0;
  let lag = MIN_LAG;
  for (let l = 1; l <= MAX_LAG; l++) {
    laggedPower += x[at + WINDOW + l - 1] ** 2 - x[at + l - 1] ** 2;
    if (l < MIN_LAG) continue;
    let product = 0;
    for (let i = 0; i < WINDOW; i++) product += x[at + i] * x[at + i + l];
    const similarity = product / Math.sqrt(power * laggedPower + 1e-12);
    // A longer lag must be clearly better: multiples of the period fit nearly as well as the period.
    if (similarity > best * 1.03) [best, lag] = [similarity, l];
  }
  let difference = 0;
  let full = 1e-12;
  for (let i = 2 * at + 1; i < 2 * (at + WINDOW); i++) {
    difference += (speech[i] - speech[i - 1]) ** 2;
    full += speech[i] ** 2;
  }
  return { level: Math.sqrt(power / WINDOW), harmonicity: best, f0: RATE / lag, tilt: difference / full };
}

/** Number of peaks of the smoothed envelope: about one per syllable. */
function peaks(levels: readonly number[]): number {
  const smooth = levels.map((_, i) => mean(levels.slice(Math.max(0, i - 1), i + 2)));
  const floor = 0.3 * mean(smooth);
  return smooth.filter((y, i) => y > floor && y > (smooth[i - 1] ?? 0) && y >= (smooth[i + 1] ?? 0)).length;
}

/** Least-squares slope per unit of the whole length. */
function slope(values: readonly number[]): number {
  const n = values.length;
  const centre = (n - 1) / 2;
  let top = 0;
  let bottom = 0;
  values.forEach((value, i) => {
    top += (i - centre) * value;
    bottom += (i - centre) ** 2;
  });
  return bottom === 0 ? 0 : (top / bottom) * n;
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
