/**
 * Requests to a speech synthesiser, and how a clip becomes one. The synthesiser runs as a process of its own; any that
 * supports SSML's prosody element would do.
 */
import * as v from "valibot";
import { finite, object } from "../../io/schema.ts";
import type { Clip, WordSpan } from "./plan.ts";
import { written } from "./sentences.ts";

export const speechRequest = object({
  voice: v.string(),
  /** Definition of that voice, where it is none of the synthesiser's own. */
  variant: v.optional(v.string()),
  /** Extra pause between words. */
  gap: finite,
  /** Words per minute. */
  rate: finite,
  /** 0 to 99. */
  pitch: finite,
  /** 0 to 100. */
  range: finite,
  /** SSML. */
  text: v.string(),
});

export type SpeechRequest = Readonly<v.InferOutput<typeof speechRequest>>;

export interface Speech {
  readonly samples: Int16Array;
  readonly sampleRate: number;
  /** Where in `text` a word begins, counted from 0, and when in the samples. Words that are run together share one entry. */
  readonly words: readonly { readonly position: number; readonly seconds: number }[];
}

/** Synthesises a request. */
export type Synthesise = (request: SpeechRequest) => Promise<Speech>;

/** The request for a clip, and where each of its words begins in the request's text. */
export function requestFor(clip: Clip): { request: SpeechRequest; positions: number[] } {
  const { speaker, spans } = clip;
  // The longest span sets the voice itself; the others are marked up relative to it.
  const main = spans.reduce((a, b) => (b.to - b.from > a.to - a.from ? b : a));
  const base = settings(clip, main);
  const positions: number[] = [];
  let text = "";
  const spoken = written(clip.clauses).split(" ");
  for (const span of spans) {
    const marked = span !== main && span.prosody !== main.prosody;
    if (marked) text += openTag(settings(clip, span), base);
    for (let i = span.from; i < span.to; i++) {
      positions.push(text.length);
      text += i + 1 < span.to ? `${spoken[i]} ` : spoken[i];
    }
    if (marked) text += "</prosody>";
    text += " ";
  }
  const request = { voice: speaker.voice, gap: main.prosody.gap, ...base, text: text.trimEnd() };
  return { request, positions };
}

/** When every word begins, and when the last one ends, in seconds. */
export function wordTimes(speech: Speech, positions: readonly number[]): number[] {
  const end = speech.samples.length / speech.sampleRate;
  const starts = positions.map((position) => {
    const before = speech.words.filter((word) => word.position <= position);
    return before.length === 0 ? 0 : before[before.length - 1].seconds;
  });
  return [...starts, end];
}

function settings({ speaker }: Clip, { prosody }: WordSpan): { rate: number; pitch: number; range: number } {
  const clamp = (value: number, low: number, high: number) =>
    Math.round(Math.min(high, Math.max(low, value)));
  return {
    rate: clamp(speaker.rate * prosody.rate, 90, 320),
    pitch: clamp(speaker.pitch + prosody.pitch, 5, 95),
    range: clamp(speaker.range * prosody.range, 5, 100),
  };
}

type Settings = ReturnType<typeof settings>;

function openTag(wanted: Settings, base: Settings): string {
  const percent = (a: number, b: number) => `${Math.round((a / b) * 100)}%`;
  const pitch = Math.round((wanted.pitch / base.pitch - 1) * 100);
  const sign = pitch < 0 ? "" : "+";
  return `<prosody rate="${percent(wanted.rate, base.rate)}" pitch="${sign}${pitch}%" range="${percent(wanted.range, base.range)}">`;
}
