import type { Random } from "../corpora/random.ts";

/** A speaker of the synthetic corpus, and the channel of their recordings. */
export interface Speaker {
  /** Session and letter, "03M". */
  readonly id: string;
  /** Variant of the synthesiser's US English voice. */
  readonly voice: string;
  /** On the synthesiser's scale, 0 to 99, where 50 is the voice's own. */
  readonly pitch: number;
  /** Words per minute. */
  readonly rate: number;
  /** Pitch range on the synthesiser's scale, 0 to 100. */
  readonly range: number;
  /** First-difference weight of the recording channel. */
  readonly tilt: number;
  /** Signal-to-noise ratio of the recordings in dB. */
  readonly snr: number;
}

const VOICES = {
  F: ["f1", "f2", "f3", "f4", "f5"],
  M: ["m1", "m2", "m3", "m4", "m7"],
} as const;

/** Every voice that speakerOf() can return. */
export const ALL_VOICES: readonly string[] = [...VOICES.F, ...VOICES.M];

/** Draws the speaker of a session, 1 to 5: no two sessions share a voice. */
export function speakerOf(session: number, letter: "F" | "M", random: Random): Speaker {
  return {
    id: `0${session}${letter}`,
    voice: VOICES[letter][session - 1],
    pitch: 50 + random.between(-8, 8),
    rate: 180 * (1 + 0.06 * random.normal()),
    range: 50 * (1 + 0.12 * random.normal()),
    tilt: random.between(-0.25, 0.35),
    snr: random.between(18, 30),
  };
}
