/**
 * Prosody and text of the synthetic corpus by label: four prosody states, four text types and their joint distribution
 * given the emotion. Neither modality alone determines the label: the off-diagonal cells are sarcasm, polite anger and
 * the like.
 */
import type { Label } from "../corpora/corpus.ts";
import type { Random } from "../corpora/random.ts";

/** Prosody states. */
export const STATES = ["tense", "bright", "low", "flat"] as const;
export type State = (typeof STATES)[number];

/** Text types. */
export const TYPES = ["hostile", "joy", "loss", "plain"] as const;
export type TextType = (typeof TYPES)[number];

export interface Cell {
  readonly state: State;
  readonly type: TextType;
  readonly p: number;
}

/** P(state, type | label). */
export const TABLE: Readonly<Record<Label, readonly Cell[]>> = {
  angry: [
    { state: "tense", type: "hostile", p: 0.28 },
    { state: "tense", type: "plain", p: 0.18 },
    { state: "bright", type: "hostile", p: 0.18 },
    { state: "tense", type: "joy", p: 0.16 },
    { state: "flat", type: "hostile", p: 0.14 },
    { state: "tense", type: "loss", p: 0.04 },
    { state: "low", type: "hostile", p: 0.02 },
  ],
  happy: [
    { state: "bright", type: "joy", p: 0.34 },
    { state: "bright", type: "plain", p: 0.22 },
    { state: "flat", type: "joy", p: 0.18 },
    { state: "low", type: "joy", p: 0.11 },
    { state: "bright", type: "loss", p: 0.09 },
    { state: "bright", type: "hostile", p: 0.05 },
    { state: "tense", type: "joy", p: 0.01 },
  ],
  sad: [
    { state: "low", type: "loss", p: 0.34 },
    { state: "low", type: "plain", p: 0.24 },
    { state: "flat", type: "loss", p: 0.2 },
    { state: "tense", type: "loss", p: 0.08 },
    { state: "low", type: "hostile", p: 0.08 },
    { state: "low", type: "joy", p: 0.06 },
  ],
  neutral: [
    { state: "flat", type: "plain", p: 0.58 },
    { state: "low", type: "plain", p: 0.11 },
    { state: "bright", type: "plain", p: 0.09 },
    { state: "flat", type: "joy", p: 0.07 },
    { state: "flat", type: "loss", p: 0.06 },
    { state: "flat", type: "hostile", p: 0.05 },
    { state: "tense", type: "plain", p: 0.04 },
  ],
};

/** Prosody and voice quality of a span of words, relative to the speaker. */
export interface Prosody {
  /** Factor on the speaking rate. */
  readonly rate: number;
  /** Added to the synthesiser's pitch, 0 to 99. */
  readonly pitch: number;
  /** Factor on the pitch range. */
  readonly range: number;
  /** Extra pause between words, in units of 10 ms. */
  readonly gap: number;
  /** Gain into tanh on speech of unit power, higher is rougher; 0 for none. */
  readonly drive: number;
  /** Weight of the first difference added to the signal: a flatter spectrum, as of greater vocal effort. */
  readonly tilt: number;
  /** Weight of noise that follows the envelope, with a short low-pass: a breathy voice. */
  readonly breath: number;
  /** 0 calm, 1 aroused: the more, the lower the signal-to-noise ratio of the recording. */
  readonly arousal: number;
}

/** Signs after Scherer, Murray & Arnott and Schröder; the intensity scales each offset. */
const OFFSETS: Readonly<Record<State, { rate: number; pitch: number; range: number; gap: number }>> = {
  tense: { rate: 0.18, pitch: 4, range: 0.4, gap: 0 },
  bright: { rate: 0.1, pitch: 26, range: 0.9, gap: 0 },
  low: { rate: -0.2, pitch: -12, range: -0.55, gap: 3 },
  flat: { rate: 0, pitch: 0, range: -0.2, gap: 0 },
};

/** Draws the prosody of one utterance: intensity 0.5 to 1.15, standard deviations 5 % in rate, 5 in pitch, 12 % in range. */
export function sampleProsody(state: State, random: Random): Prosody {
  const intensity = random.between(0.5, 1.15);
  const { rate, pitch, range, gap } = OFFSETS[state];
  const effort = (intensity - 0.5) / 0.65;
  return {
    rate: (1 + rate * intensity) * (1 + 0.05 * random.normal()),
    pitch: pitch * intensity + 5 * random.normal(),
    range: (1 + range * (state === "flat" ? 1 : intensity)) * (1 + 0.12 * random.normal()),
    gap: Math.round(gap * intensity),
    drive: state === "tense" ? 0.35 + 0.45 * effort : state === "low" ? 0 : random.between(0.05, 0.35),
    tilt: state === "tense" ? 0.5 * intensity : state === "bright" ? 0.35 * intensity : 0,
    breath: state === "low" ? 0.25 * intensity : 0,
    arousal: state === "tense" || state === "bright" ? intensity : 0,
  };
}

/** Counts in proportion to `shares` that add up to n, by largest remainders. */
export function apportion(shares: readonly number[], n: number): number[] {
  const total = shares.reduce((a, b) => a + b, 0);
  const exact = shares.map((share) => (share / total) * n);
  const counts = exact.map(Math.floor);
  const order = exact
    .map((value, i) => ({ i, rest: value - counts[i] }))
    .sort((a, b) => b.rest - a.rest || a.i - b.i);
  const missing = n - counts.reduce((a, b) => a + b, 0);
  for (let k = 0; k < missing; k++) counts[order[k].i]++;
  return counts;
}
