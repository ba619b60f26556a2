/** What was recognised in recordings, as files that other programs read. */
import type { DecodedWord } from "../../io/decode.ts";
import type { Recognition } from "../system/recognizer.ts";
import type { LongRecognition, RecognizedSegment } from "./long.ts";

/** What was recognised in a file. */
export interface RecognizedFile {
  /** Its name. */
  readonly file: string;
  /** What was recognised in it, as a whole or by segments. */
  readonly recognition: Recognition | LongRecognition;
}

/** Formats that hold any number of recordings, and those that hold one. */
export const MANY_FORMATS = ["json", "csv", "rttm"] as const;
export const SINGLE_FORMATS = ["srt", "vtt", "audacity", "html"] as const;
/** Formats of the files of predict. */
export const FORMATS = [...MANY_FORMATS, ...SINGLE_FORMATS] as const;
export type Format = (typeof FORMATS)[number];

/** How names of files end, by their formats. */
export const ENDINGS: Readonly<Record<Format, string>> = {
  ...{ json: "json", csv: "csv", rttm: "rttm", srt: "srt", vtt: "vtt", audacity: "txt", html: "html" },
};

/** The segments of a recording; one that was recognised as a whole is one segment, unless it is silent. */
export function segmentsOf(recognition: Recognition | LongRecognition): readonly RecognizedSegment[] {
  if ("segments" in recognition) return recognition.segments;
  const { seconds, silent, ...rest } = recognition;
  return silent ? [] : [{ start: 0, end: seconds, ...rest }];
}

/** A row for each segment: its times in seconds, words, emotion, the probability of each label, gates. */
export function toCsv(files: readonly RecognizedFile[]): string {
  const segments = files.flatMap(({ file, recognition }) =>
    segmentsOf(recognition).map((segment, i) => ({ file, i, segment })),
  );
  const labels = [...new Set(segments.flatMap(({ segment }) => Object.keys(segment.probabilities ?? {})))];
  const gated = segments.some(({ segment }) => segment.gates);
  const header = [
    ...["file", "segment", "start", "end", "words", "emotion"],
    ...labels.map((label) => `p_${label}`),
    ...(gated ? ["acoustic_gate", "text_gate"] : []),
  ];
  const rows = segments.map(({ file, i, segment }) => {
    const { start, end, transcript, emotion, probabilities, gates } = segment;
    return [
      ...[file, `${i}`, time(start), time(end), transcript?.text ?? "", emotion ?? ""],
      ...labels.map((label) => probabilities?.[label]?.toFixed(4) ?? ""),
      ...(gated ? [gates?.acoustic.toFixed(4) ?? "", gates?.text.toFixed(4) ?? ""] : []),
    ];
  });
  return [header, ...rows].map((row) => `${row.map(csvField).join(",")}\n`).join("");
}

/** Rich Transcription Time Marked: a SPEAKER line for each segment, in which the emotion stands for the speaker. */
export function toRttm(files: readonly RecognizedFile[]): string {
  return files
    .flatMap(({ file, recognition }) =>
      segmentsOf(recognition).map(({ start, end, emotion }) => {
        const name = stem(file).replaceAll(/\s/g, "_") || "_";
        const label = (emotion ?? "speech").replaceAll(/\s/g, "_");
        return `SPEAKER ${name} 1 ${time(start)} ${time(end - start)} <NA> <NA> ${label} <NA> <NA>\n`;
      }),
    )
    .join("");
}

/** A label track of Audacity: a line for each segment, with its emotion and its words. */
export function toAudacity({ recognition }: RecognizedFile): string {
  return segmentsOf(recognition)
    .map(({ start, end, emotion, transcript }) => {
      const text = [emotion, transcript?.text].filter(Boolean).join(": ");
      return `${start.toFixed(6)}\t${end.toFixed(6)}\t${text.replaceAll(/\s+/g, " ")}\n`;
    })
    .join("");
}

/** SubRip subtitles. */
export function toSrt({ recognition }: RecognizedFile): string {
  return cuesOf(recognition)
    .map(({ start, end, emotion, lines }, i) => {
      const shown = emotion === undefined ? lines : tagged(emotion, lines);
      return `${i + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${shown.join("\n")}\n`;
    })
    .join("\n");
}

/** WebVTT subtitles: the emotion is shown, and is the class of the cue's text, so that a player may style it. */
export function toVtt({ recognition }: RecognizedFile): string {
  const cues = cuesOf(recognition).map(({ start, end, emotion, lines }) => {
    const escaped = lines.map(escapeCue);
    const named = emotion === undefined ? undefined : emotion.replaceAll(/[^\p{L}\p{N}_-]/gu, "_");
    const text =
      emotion === undefined
        ? escaped.join("\n")
        : `<c.${named}>${tagged(escapeCue(emotion), escaped).join("\n")}</c>`;
    return `\n${clock(start, ".")} --> ${clock(end, ".")}\n${text}\n`;
  });
  return `WEBVTT\n${cues.join("")}`;
}

/** A subtitle. */
interface Cue {
  readonly start: number;
  readonly end: number;
  readonly emotion?: string;
  readonly lines: readonly string[];
}

/** What players show well: lines of at most 42 characters, two at once, for at most 7 s; a pause of a second ends a cue. */
const [LINE_CHARACTERS, LINES, CUE_SECONDS, PAUSE_SECONDS] = [42, 2, 7, 1];
/** Shorter cues are hardly seen. */
const LEAST_SECONDS = 0.5;

function cuesOf(recognition: Recognition | LongRecognition): Cue[] {
  const cues: Cue[] = [];
  for (const { start, end, emotion, transcript } of segmentsOf(recognition)) {
    const words = transcript?.words ?? [];
    if (words.length === 0 && emotion === undefined) continue;
    const groups = words.length === 0 ? [[]] : groupsOf(words);
    for (const group of groups)
      cues.push({
        start: group.length > 0 ? Math.max(start, Math.min(...group.map((word) => word.start))) : start,
        end: group.length > 0 ? Math.min(end, Math.max(...group.map((word) => word.end))) : end,
        ...(emotion === undefined ? {} : { emotion }),
        lines: linesOf(group),
      });
  }
  // Cues do not overlap, and those that are short last until the next.
  return cues.map((cue, i) => {
    const next = cues[i + 1]?.start ?? Number.POSITIVE_INFINITY;
    const end = Math.max(cue.start + 0.001, Math.min(Math.max(cue.end, cue.start + LEAST_SECONDS), next));
    return { ...cue, end };
  });
}

function groupsOf(words: readonly DecodedWord[]): DecodedWord[][] {
  const groups: DecodedWord[][] = [];
  for (const word of words) {
    const group = groups.at(-1);
    const last = group?.at(-1);
    const fits =
      group &&
      last &&
      word.end - group[0].start <= CUE_SECONDS &&
      word.start - last.end < PAUSE_SECONDS &&
      linesOf([...group, word]).length <= LINES;
    if (fits) group.push(word);
    else groups.push([word]);
  }
  return groups;
}

function linesOf(words: readonly DecodedWord[]): string[] {
  const lines: string[] = [];
  for (const { text } of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + text.length <= LINE_CHARACTERS)
      lines[lines.length - 1] = `${last} ${text}`;
    else lines.push(text);
  }
  return lines;
}

const tagged = (emotion: string, [first = "", ...rest]: readonly string[]): string[] => [
  `[${emotion}] ${first}`.trimEnd(),
  ...rest,
];

const escapeCue = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** 01:02:03,456 */
function clock(seconds: number, point: "," | "."): string {
  const ms = Math.round(seconds * 1000);
  const two = (value: number) => `${Math.floor(value)}`.padStart(2, "0");
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}${point}${`${ms % 1000}`.padStart(3, "0")}`;
}

const time = (seconds: number): string => seconds.toFixed(3);

const csvField = (text: string) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The name of a file without its folder and its ending. */
export const stem = (path: string): string =>
  (path.split(/[/\\]/).at(-1) ?? path).replace(/(?<=.)\.[^.]*$/, "");
