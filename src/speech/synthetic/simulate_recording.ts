/** What happens to synthesised speech on its way to a recording: effort, breath, channel and room. */
import type { Prosody } from "./prosody.ts";
import type { Random } from "../corpora/random.ts";

/** A part of a clip in samples, said in one manner. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly prosody: Prosody;
}

export interface Channel {
  /** First-difference weight, −1 to 1. */
  readonly tilt: number;
  /** Level of speech over noise in dB. */
  readonly snr: number;
}

/** Root mean square of finished speech: −26 dB of full scale. */
const LEVEL = 0.05;
/** Length of the cross-fade between manners, 10 ms at 16 kHz. */
const FADE = 160;

/** Speech (N), any level → a recording (N) in −1 to 1. Loudness carries nothing: every manner has unit power. */
export function record(
  speech: Float32Array,
  spans: readonly Span[],
  channel: Channel,
  random: Random,
): Float32Array {
  const dry = unitPower(speech);
  const manners = new Map<Prosody, Float32Array>();
  for (const { prosody } of spans) {
    if (!manners.has(prosody)) manners.set(prosody, unitPower(manner(dry, prosody, random)));
  }
  const mixed = new Float32Array(dry.length);
  for (const { from, to, prosody } of spans) {
    const wet = manners.get(prosody)!;
    const first = Math.max(0, from - FADE);
    const last = Math.min(dry.length, to + FADE);
    for (let i = first; i < last; i++) {
      const rise = from === 0 ? 1 : (i - from + FADE) / (2 * FADE);
      const fall = to >= dry.length ? 1 : (to + FADE - i) / (2 * FADE);
      mixed[i] += wet[i] * Math.min(1, Math.max(0, Math.min(rise, fall)));
    }
  }
  const heard = unitPower(tilted(mixed, channel.tilt));
  const arousal = Math.max(...spans.map((span) => span.prosody.arousal));
  // Who is aroused minds the microphone less: 4 dB more noise at full intensity.
  const noise = roomNoise(heard.length, 10 ** (-(channel.snr - 4 * arousal) / 20), random);
  return heard.map((value, i) => Math.max(-1, Math.min(1, LEVEL * (value + noise[i]))));
}

/** Speech of unit power → the same words with the effort or the breath of a manner. */
function manner(x: Float32Array, { drive, tilt, breath }: Prosody, random: Random): Float32Array {
  let y = drive > 0 ? x.map((value) => Math.tanh(drive * value) / drive) : x;
  if (tilt > 0) y = tilted(y, tilt);
  if (breath > 0) y = breathed(y, breath, random);
  return y;
}

/** y[n] = x[n] + weight·(x[n] − x[n−1]). */
function tilted(x: Float32Array, weight: number): Float32Array {
  return x.map((value, i) => value + weight * (value - (i > 0 ? x[i - 1] : 0)));
}

/** A three-sample mean, and noise in proportion to the envelope (20 ms). */
function breathed(x: Float32Array, weight: number, random: Random): Float32Array {
  let envelope = 0;
  const decay = Math.exp(-1 / 320);
  return x.map((value, i) => {
    envelope = Math.max(Math.abs(value), envelope * decay);
    const smooth = (value + (x[i - 1] ?? 0) + (x[i + 1] ?? 0)) / 3;
    return smooth + weight * envelope * 0.5 * (random.uniform() + random.uniform() - 1);
  });
}

/** Noise that falls with frequency, as rooms have it. */
function roomNoise(length: number, level: number, random: Random): Float32Array {
  const noise = new Float32Array(length);
  let low = 0;
  for (let i = 0; i < length; i++) {
    const white = random.uniform() * 2 - 1;
    low = 0.9 * low + white;
    noise[i] = low + 0.5 * white;
  }
  return unitPower(noise).map((value) => value * level);
}

function unitPower(x: Float32Array): Float32Array {
  let power = 0;
  for (const value of x) power += value * value;
  const scale = power === 0 ? 0 : 1 / Math.sqrt(power / x.length);
  return x.map((value) => value * scale);
}
