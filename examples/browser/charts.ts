/** Charts as SVG, all of one width, so that times stand above each other. */
import type { DecodedWord, ProfileEvent } from "wavegate";
import type { Analysis, EmotionSpan, Span } from "./analyse.ts";
import type { Outline } from "./outline.ts";

const WIDTH = 1160;
const [LEFT, RIGHT] = [44, 12];

/** Text in SVG. */
const escaped = (text: string) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
export const colour = (i: number) => `var(--k${i % 8})`;
const f = (x: number) => x.toFixed(1);

const svg = (height: number, body: string, label: string) =>
  `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(label)}">${body}</svg>`;
const text = (x: number, y: number, content: string, more = "") =>
  `<text x="${f(x)}" y="${f(y)}" ${more}>${escaped(content)}</text>`;

/** From a time to its place. */
const axis = (length: number) => (time: number) => LEFT + (time / length) * (WIDTH - LEFT - RIGHT);

/** A step of 1, 2 or 5 times a power of ten, of which about eight make `length`. */
function stepOf(length: number): number {
  const raw = length / 8;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
}

function ticks(length: number, height: number, unit: string): string {
  const [at, step] = [axis(length), stepOf(length)];
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return Array.from({ length: Math.floor(length / step) + 1 }, (_, i) => {
    const x = at(i * step);
    return `<path class="grid" d="M${f(x)} 8V${height - 20}"/>${text(x, height - 6, `${(i * step).toFixed(digits)} ${unit}`, 'text-anchor="middle"')}`;
  }).join("");
}

const levels = (y: (value: number) => number) =>
  [0, 0.5, 1].map((v) => text(LEFT - 6, y(v) + 4, v.toFixed(1), 'text-anchor="end"')).join("");

/** The sound, and each word where it was heard; its opacity is the model's confidence. */
export function waveform(outline: Outline, words: readonly DecodedWord[], seconds: number): string {
  const at = axis(seconds);
  const columns = outline.parts((WIDTH - LEFT - RIGHT) / 2);
  const peak = columns.reduce((most, [low, high]) => Math.max(most, -low, high), 1e-6);
  const lines = columns.map(
    ([low, high], c) => `M${LEFT + 2 * c} ${f(62 - (high / peak) * 50)}V${f(62.5 - (low / peak) * 50)}`,
  );
  const boxes = words.map(({ text: word, start, end, confidence }) => {
    const [x, w] = [at(start), Math.max(2, at(end) - at(start))];
    const tip = `${word}\n${start.toFixed(2)} to ${end.toFixed(2)} s\nconfidence ${confidence.toFixed(2)}`;
    const box = `<rect x="${f(x)}" y="122" width="${f(w)}" height="24" rx="4" fill="${colour(0)}" opacity="${(0.15 + 0.45 * confidence).toFixed(2)}"/>`;
    const fits = w > word.length * 7.5;
    const name = fits ? text(x + w / 2, 138, word, 'class="strong" text-anchor="middle"') : "";
    return `<g data-tip="${escaped(tip)}">${box}${name}</g>`;
  });
  const line = `<path d="${lines.join("")}" stroke="${colour(0)}" stroke-width="1.4"/>`;
  return svg(172, ticks(seconds, 172, "s") + line + boxes.join(""), "sound and words");
}

/** Probabilities over time, stacked. */
export function emotions(spans: readonly EmotionSpan[], labels: readonly string[], seconds: number): string {
  const at = axis(seconds);
  const y = (v: number) => 140 - v * 128;
  if (spans.length === 0) return svg(60, text(LEFT, 34, "too short for windows of its own"), "no windows");
  const below = spans.map(() => 0);
  const areas = labels.map((label, k) => {
    const boxes = spans.map(({ start, end, probabilities }, i) => {
      const from = below[i];
      below[i] += probabilities[label] ?? 0;
      return `M${f(at(start))} ${f(y(from))}V${f(y(below[i]))}H${f(at(end))}V${f(y(from))}Z`;
    });
    return `<path data-tip="${escaped(label)}" d="${boxes.join("")}" fill="${colour(k)}" opacity="0.75"/>`;
  });
  const last = spans[spans.length - 1];
  const room = at(last.end) < WIDTH - 80;
  let sum = 0;
  const names = labels.map((label) => {
    const p = last.probabilities[label] ?? 0;
    sum += p;
    return room && p > 0.12 ? text(at(last.end) + 6, y(sum - p / 2) + 4, label, 'class="strong"') : "";
  });
  return svg(
    168,
    ticks(seconds, 168, "s") + levels(y) + areas.join("") + names.join(""),
    "emotion over time",
  );
}

/** The gates of frames as a line, or of segments as steps; those of words, or of segments, as steps. */
export function gates(
  { speechGates: speech, textGates: words, segments }: Analysis,
  seconds: number,
): string {
  if (speech.length === 0) return svg(60, text(LEFT, 34, "this model has no gates"), "no gates");
  const at = axis(seconds);
  const all = [...speech, ...words].map(({ value }) => value);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const margin = Math.max(0.01, (most - least) * 0.1);
  const y = (v: number) => 128 - ((v - least + margin) / (most - least + 2 * margin)) * 116;
  const line = speech.map(({ start, end, value }) => `${f(at((start + end) / 2))} ${f(y(value))}`).join("L");
  const step = (name: string, { start, end, value }: Span, k: number) =>
    `<path data-tip="${name} gate ${value.toFixed(3)}" d="M${f(at(start))} ${f(y(value))}H${f(at(end))}" stroke="${colour(k)}" stroke-width="5" stroke-linecap="round"/>`;
  const steps = words.map((span) => step("text", span, 1));
  const scale = [least, (least + most) / 2, most]
    .map((v) => text(LEFT - 6, y(v) + 4, v.toFixed(2), 'text-anchor="end"'))
    .join("");
  const names = `${text(LEFT + 8, 20, "speech", `style="fill:${colour(0)}"`)}${text(LEFT + 60, 20, "text", `style="fill:${colour(1)}"`)}`;
  const curve = segments
    ? speech.map((span) => step("speech", span, 0)).join("")
    : `<path d="M${line}" fill="none" stroke="${colour(0)}" stroke-width="1.8"/>`;
  return svg(156, ticks(seconds, 156, "s") + scale + curve + steps.join("") + names, "gates over time");
}

/** The kernels that took longest, and what they took in milliseconds. */
export function totals(events: readonly ProfileEvent[]): [kernel: string, milliseconds: number][] {
  const sums = new Map<string, number>();
  for (const { kernel, begin, end } of events)
    sums.set(kernel, (sums.get(kernel) ?? 0) + (end - begin) / 1e6);
  return [...sums].sort(([, a], [, b]) => b - a);
}

/** Dispatches on the GPU's clock, a row for each part of the model. */
export function timeline(events: readonly ProfileEvent[]): string {
  const order = totals(events).map(([kernel]) => kernel);
  const start = events.reduce((least, { begin }) => Math.min(least, begin), Number.POSITIVE_INFINITY);
  const length = Math.max(1e-3, events.reduce((most, { end }) => Math.max(most, end - start), 0) / 1e6);
  const at = axis(length);
  const parts = [...new Set(events.map(({ part }) => part))];
  const height = parts.length * 26 + 34;
  const rows = parts.map((part, row) => {
    const boxes = events
      .filter((event) => event.part === part)
      .map(({ kernel, entry, begin, end, layer, grid }) => {
        const [x, took] = [at((begin - start) / 1e6), (end - begin) / 1e6];
        const tip = `${kernel}.${entry}\n${layer}\n${took.toFixed(3)} ms, ${grid.join(" × ")} workgroups`;
        const w = Math.max(0.7, at((end - start) / 1e6) - x);
        return `<rect data-tip="${escaped(tip)}" x="${f(x)}" y="${row * 26 + 12}" width="${f(w)}" height="20" fill="${colour(Math.min(7, order.indexOf(kernel)))}"/>`;
      });
    return (
      boxes.join("") +
      text(
        LEFT + 4,
        row * 26 + 26,
        part,
        'class="strong" style="paint-order:stroke;stroke:var(--panel);stroke-width:3px"',
      )
    );
  });
  return svg(height, ticks(length, height, "ms") + rows.join(""), "kernels over time");
}
