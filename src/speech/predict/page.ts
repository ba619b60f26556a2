/** What was recognised in a recording as one HTML file: sound, waveform, words, emotion and gates over time. */
import { escapeHtml, pageDocument } from "../../page/document.ts";
import { type RecognizedFile, segmentsOf, stem } from "./formats.ts";
import type { RecognizedSegment } from "./long.ts";
import type { Waveform } from "./waveform.ts";

/** What the page's script reads. */
export interface RecordingData {
  readonly seconds: number;
  readonly labels: readonly string[];
  readonly outline: Waveform["outline"];
  readonly segments: readonly {
    readonly start: number;
    readonly end: number;
    readonly emotion?: string;
    /** In the order of the labels. */
    readonly probabilities?: readonly number[];
    readonly gates?: { readonly acoustic: number; readonly text: number };
  }[];
  readonly words: readonly { readonly text: string; readonly start: number; readonly end: number }[];
}

/** Most labels that are drawn; a classifier of speakers has a thousand. */
const MOST_LABELS = 8;

/** The page of a recording. Throws an Error in a bundle of the sources, which leaves its script behind. */
export function recordingPage(
  { file, recognition }: RecognizedFile,
  waveform: Pick<Waveform, "outline" | "uri">,
  model: string,
): string {
  const segments = segmentsOf(recognition);
  const { seconds, probabilities = {} } = recognition;
  const labels = Object.entries(probabilities)
    .sort(([, a], [, b]) => b - a)
    .slice(0, MOST_LABELS)
    .map(([label]) => label)
    .sort();
  const round = (value: number) => Math.round(value * 1e4) / 1e4;
  const words = segments.flatMap(({ transcript }) => transcript?.words ?? []);
  const data: RecordingData = {
    seconds: round(seconds),
    ...{ labels, outline: waveform.outline },
    segments: segments.map(({ start, end, emotion, probabilities, gates }) => ({
      ...{ start: round(start), end: round(end), emotion },
      probabilities: probabilities && labels.map((label) => round(probabilities[label] ?? 0)),
      gates: gates && { acoustic: round(gates.acoustic), text: round(gates.text) },
    })),
    words: words.map(({ text, start, end }) => ({ text, start: round(start), end: round(end) })),
  };
  const gated = segments.some(({ gates }) => gates);
  const name = stem(file);
  return pageDocument({
    title: `${name}: words and emotion`,
    data,
    ...{ css: "recordingCss", script: "recordingScript" },
    body: `<header><h1>${escapeHtml(name)}</h1>
<p>${[`${clock(seconds)} min`, `model ${stem(model) || model}`, file.split(/[/\\]/).at(-1) ?? file].map((each) => `<span>${escapeHtml(each)}</span>`).join("")}</p>
${tiles(recognition, segments, words.length)}</header>
<main>
<div id="player"><audio controls preload="metadata"${waveform.uri ? ` src="${waveform.uri}"` : ""}></audio>${
      waveform.uri
        ? ""
        : `<label class="hint">The sound is too long for this page. To play it, choose the recording: <input type="file" accept="audio/*"></label>`
    }</div>
<section><h2>Waveform <small>drag to zoom in to the words, double-click for all, click to play from there</small></h2><div class="plot" data-plot="wave"></div>
${labels.length > 0 ? `<h2>Emotion <small>probability of each in each segment of speech</small>${legend(labels)}</h2><div class="plot" data-plot="emotion"></div>` : ""}
${gated ? `<h2>Gates <small>weight of the own modality against the other, mean of each segment</small><span class="legend"><span><i class="k5"></i>acoustic</span><span><i class="k6"></i>text</span></span></h2><div class="plot" data-plot="gates"></div>` : ""}</section>
<section><h2>Words <small>${words.length > 0 ? "click one to hear it" : ""}</small></h2>
${segments.length === 0 ? `<p class="none">No speech was found.</p>` : `<ol class="segments">${segments.map((segment, i) => segmentItem(segment, i, labels)).join("\n")}</ol>`}</section>
</main>`,
  });
}

function tiles(
  { emotion, probabilities, gates }: RecognizedFile["recognition"],
  segments: readonly RecognizedSegment[],
  words: number,
): string {
  const spoken = segments.reduce((sum, { start, end }) => sum + end - start, 0);
  const list: [string, string, string][] = [
    ["segments of speech", `${segments.length}`, `${clock(spoken)} min`],
    ...(segments.some(({ transcript }) => transcript)
      ? [["words", `${words}`, ""] as [string, string, string]]
      : []),
    ...(emotion === undefined || !probabilities
      ? []
      : [
          ["emotion", emotion, `${(100 * probabilities[emotion]).toFixed(1)} %, the mean over speech`] as [
            string,
            string,
            string,
          ],
        ]),
    ...(gates
      ? [
          ["gates", `${gates.acoustic.toFixed(2)} · ${gates.text.toFixed(2)}`, "acoustic · text"] as [
            string,
            string,
            string,
          ],
        ]
      : []),
  ];
  return `<dl>${list
    .map((tile) => tile.map(escapeHtml))
    .map(([name, value, more]) => `<div><dt>${name}</dt><dd>${value}</dd><dd class="more">${more}</dd></div>`)
    .join("")}</dl>`;
}

const legend = (labels: readonly string[]): string =>
  `<span class="legend">${labels.map((label, i) => `<span><i class="k${i % 8}"></i>${escapeHtml(label)}</span>`).join("")}</span>`;

function segmentItem(
  { start, transcript, emotion, probabilities }: RecognizedSegment,
  i: number,
  labels: readonly string[],
): string {
  const place = emotion === undefined ? -1 : labels.indexOf(emotion);
  const badge =
    emotion === undefined
      ? ""
      : `<span class="badge">${place < 0 ? "" : `<i class="k${place % 8}"></i>`}${escapeHtml(emotion)} <small>${(100 * (probabilities?.[emotion] ?? 0)).toFixed(0)} %</small></span>`;
  const words = transcript?.words ?? [];
  const text =
    transcript === undefined
      ? ""
      : words.length === 0
        ? `<span class="none">no words</span>`
        : words
            .map(
              ({ text, start }) =>
                `<button type="button" data-at="${start.toFixed(3)}">${escapeHtml(text)}</button>`,
            )
            .join(" ");
  return `<li data-segment="${i}"><button type="button" class="time" data-at="${start.toFixed(3)}">${clock(start)}</button>${badge}<p>${text}</p></li>`;
}

/** 1:02:03, 2:03 */
function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => `${Math.floor(value)}`.padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours > 0 ? `${hours}:${two((whole / 60) % 60)}` : Math.floor(whole / 60)}:${two(whole % 60)}`;
}
