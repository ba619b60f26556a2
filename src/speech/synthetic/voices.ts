/** Speakers for pretraining: any number of voices, rooms and microphones, none of them that of a speaker of the other corpora. */
import type { Random } from "../corpora/random.ts";
import type { Channel } from "./simulate_recording.ts";

/** A speaker, and how they are recorded. */
export interface Voice {
  /** "v00012". */
  readonly id: string;
  /** Hertz of the lowest and highest pitch of a neutral sentence. */
  readonly pitch: readonly [number, number];
  /** Percent of the first to the eighth formant's frequency of the synthesiser's own voice, after that of the nasal one. */
  readonly formants: readonly number[];
  /** Definition as the synthesiser reads it. */
  readonly variant: string;
  /** Words per minute. */
  readonly rate: number;
  /** Pitch range on the synthesiser's scale, 0 to 100. */
  readonly range: number;
  /** Weight of noise that follows the envelope. */
  readonly breath: number;
  readonly channel: Channel;
  readonly room: Room;
}

/** Reverberation. */
export interface Room {
  /** Seconds in which it falls by 60 dB. */
  readonly seconds: number;
  /** Its amplitude beside the direct sound. */
  readonly wet: number;
}

/** Lowest pitch in hertz, and percent of the first three formants, of the voices of the other corpora (speakers.ts). */
export const OTHER_VOICES: Readonly<Record<string, readonly [number, number, number, number]>> = {
  f1: [140, 120, 100, 115],
  f2: [142, 110, 110, 110],
  f3: [140, 120, 135, 125],
  f4: [142, 115, 130, 123],
  f5: [160, 110, 110, 110],
  m1: [75, 97, 97, 97],
  m2: [88, 90, 110, 105],
  m3: [80, 96, 96, 96],
  m4: [70, 103, 103, 103],
  m7: [75, 100, 100, 100],
};

/** Whether a voice is nearer than 5 % in pitch and 4 points in all three formants to one of the other corpora. */
export const isOther = (pitch: number, formants: readonly number[]): boolean =>
  Object.values(OTHER_VOICES).some(
    ([hertz, ...own]) =>
      Math.abs(pitch / hertz - 1) < 0.05 &&
      own.every((percent, k) => Math.abs(formants[k + 1] - percent) < 4),
  );

/** Draws a voice; equal streams give equal ones. */
export function drawVoice(index: number, random: Random): Voice {
  const { between } = random;
  const whole = (low: number, high: number) => Math.round(between(low, high));
  for (;;) {
    // From 72 to 230 Hz; higher voices mostly have shorter vocal tracts, and with them higher formants.
    const height = random.uniform();
    const lowest = 72 * (230 / 72) ** height;
    const tract = 90 + 28 * Math.min(1.15, Math.max(-0.1, height + 0.22 * random.normal()));
    const formants = Array.from({ length: 9 }, () => Math.round(tract + 4 * random.normal()));
    if (isOther(lowest, formants)) continue;
    const pitch = [Math.round(lowest), Math.round(lowest * between(1.3, 1.7))] as const;
    const breathy = random.uniform() < 0.4 ? between(1, 6) : 0;
    const lines = [
      "language variant",
      `name voice${index}`,
      `gender ${lowest > 130 ? "female" : "male"}`,
      `pitch ${pitch.join(" ")}`,
      `flutter ${whole(0, 12)}`,
      `roughness ${whole(0, 4)}`,
      `voicing ${whole(80, 130)}`,
      `consonants ${whole(80, 130)} ${whole(80, 130)}`,
      ...formants.map((percent, k) => `formant ${k} ${percent} ${whole(70, 110)} ${whole(90, 160)}`),
      ...(breathy > 0
        ? [`breath 0 ${[0.6, 1, 1, 1, 1, 0.8, 0.6].map((x) => Math.round(x * breathy)).join(" ")}`]
        : []),
    ];
    return {
      id: `v${String(index).padStart(5, "0")}`,
      ...{ pitch, formants, variant: lines.join("\n") },
      rate: 175 * Math.exp(0.16 * random.normal()),
      range: 50 * Math.exp(0.3 * random.normal()),
      breath: random.uniform() < 0.3 ? between(0.05, 0.3) : 0,
      channel: { tilt: between(-0.45, 0.55), snr: between(8, 35) },
      room: { seconds: between(0.1, 0.7), wet: random.uniform() < 0.6 ? between(0.05, 0.35) : 0 },
    };
  }
}

/** Delays of the combs in samples at 16 kHz: without common divisors, so that echoes do not fall together. */
const COMBS = [475, 593, 659, 719];
const ALL_PASS = [79, 27];

/** Speech (N) in a room, by parallel combs and all-passes in series (Schroeder 1962). The tail behind the end is cut off. */
export function reverberate(speech: Float32Array, { seconds, wet }: Room): Float32Array {
  if (wet === 0) return speech;
  let tail = new Float32Array(speech.length);
  for (const delay of COMBS) {
    const gain = 10 ** ((-3 * delay) / (seconds * 16_000));
    const comb = new Float32Array(speech.length);
    for (let i = delay; i < comb.length; i++) {
      comb[i] = speech[i - delay] + gain * comb[i - delay];
      tail[i] += comb[i] / COMBS.length;
    }
  }
  for (const delay of ALL_PASS) {
    const out = new Float32Array(tail.length);
    for (let i = 0; i < out.length; i++)
      out[i] = -0.7 * tail[i] + (tail[i - delay] ?? 0) + 0.7 * (out[i - delay] ?? 0);
    tail = out;
  }
  return speech.map((value, i) => value + wet * tail[i]);
}
