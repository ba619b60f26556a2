/** Turns synthesised speech into a recording: voice quality, channel and room noise. */
import type { Prosody } from "./prosody.ts";
import type { Random } from "../corpora/random.ts";

/** Samples `from` to `to` (exclusive) of a clip, with one prosody. */
export interface SampleSpan {
  readonly from: number;
  readonly to: number;
  readonly prosody: Prosody;
}

export interface Channel {
  /** Weight of the first difference, −1 to 1. */
  readonly tilt: number;
  /** Signal-to-noise ratio in dB. */
  readonly snr: number;
}

/** Root mean square of the speech in a recording: −26 dB of full scale. */
const LEVEL = 0.05;
/** Half of the cross-fade between spans: 10 ms at 16 kHz. */
const FADE = 160;

/**
 * Speech (N) of any level → a recording (N) in −1 to 1. Every prosody is brought to the same power, so that loudness tells
 * nothing of the label.
 */
export function simulateRecording(
  speech: Float32Array,
  spans: readonly SampleSpan[],
  channel: Channel,
  random: Random,
): Float32Array {
  const dry = unitPower(speech);
  const variants = new Map<Prosody, Float32Array>();
  for (const { prosody } of spans) {
    if (!variants.has(prosody)) variants.set(prosody, unitPower(voiceQuality(dry, prosody, random)));
  }
  const mixed = new Float32Array(dry.length);
  for (const { from, to, prosody } of spans) {
    const wet = variants.get(prosody)!;
    const first = Math.max(0, from - FADE);
    const last = Math.min(dry.length, to + FADE);
    for (let i = first; i < last; i++) {
      const rise = from === 0 ? 1 : (i - from + FADE) / (2 * FADE);
      const fall = to >= dry.length ? 1 : (to + FADE - i) / (2 * FADE);
      mixed[i] += wet[i] * Math.min(1, Math.max(0, Math.min(rise, fall)));
    }
  }
  const clean = unitPower(tilted(mixed, channel.tilt));
  const arousal = Math.max(...spans.map((span) => span.prosody.arousal));
  // Aroused speech is recorded with up to 4 dB more noise.
  const noise = roomNoise(clean.length, 10 ** (-(channel.snr - 4 * arousal) / 20), random);
  return clean.map((value, i) => Math.max(-1, Math.min(1, LEVEL * (value + noise[i]))));
}

/** Speech (N) of unit power → the same speech, rough, with vocal effort or breathy. */
function voiceQuality(x: Float32Array, { drive, tilt, breath }: Prosody, random: Random): Float32Array {
  let y = drive > 0 ? x.map((value) => Math.tanh(drive * value) / drive) : x;
  if (tilt > 0) y = tilted(y, tilt);
  if (breath > 0) y = breathy(y, breath, random);
  return y;
}

/** y[n] = x[n] + weight·(x[n] − x[n−1]). */
function tilted(x: Float32Array, weight: number): Float32Array {
  return x.map((value, i) => value + weight * (value - (i > 0 ? x[i - 1] : 0)));
}

/** A three-sample mean, and noise in proportion to the envelope (20 ms). */
function breathy(x: Float32Array, weight: number, random: Random): Float32Array {
  let envelope = 0;
  const decay = Math.exp(-1 / 320);
  return x.map((value, i) => {
    envelope = Math.max(Math.abs(value), envelope * decay);
    const smooth = (value + (x[i - 1] ?? 0) + (x[i + 1] ?? 0)) / 3;
    return smooth + weight * envelope * 0.5 * (random.uniform() + random.uniform() - 1);
  });
}

/** Noise (N) of `level` RMS whose spectrum falls with frequency, as that of rooms. */
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
