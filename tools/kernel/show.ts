/** Reports of the workshop as lines of text. */
import { excerpt, stripComments } from "../../src/gpu/wgsl.ts";
import { judge } from "../../src/profile/diff.ts";
import type { Measured } from "../../src/profile/profile.ts";
import type { BoutReport, KernelReport, VariantReport } from "../../src/workshop/trial.ts";
import { titleOf } from "../../src/workshop/trial.ts";
import { formatBytes, formatTable } from "../format.ts";

const digits = (x: number): string =>
  x >= 100
    ? x.toFixed(0)
    : x >= 10
      ? x.toFixed(1)
      : x >= 1
        ? x.toFixed(2)
        : x >= 0.01
          ? x.toFixed(3)
          : x.toFixed(4);
const time = ({ median, spread }: Measured): string => `${digits(median)} ± ${digits(spread / 2)}`;
const rate = (x: number | null | undefined): string =>
  x === null || x === undefined ? "–" : digits(x / 1e9);

/** How something was measured, then a table for each shape. */
export function* showReport(report: KernelReport, legend = true): Generator<string> {
  const { kernel, adapter, runs, clock, flush, peaks, notes, bouts } = report;
  const how = runs === 0 ? "" : `, ${runs} runs in turns by the ${clock === "gpu" ? "GPU's" : "wall"} clock`;
  yield `${kernel} on ${adapter}${how}`;
  for (const note of notes) yield note;
  for (const bout of bouts) {
    yield "";
    yield* showBout(bout, peaks);
    yield* showDispatches(bout);
  }
  if (!legend || !bouts.some(({ variants }) => variants.some(({ times }) => times))) return;
  yield "";
  yield `median ± half the interquartile range of a call; cold: after a copy of ${formatBytes(flush)}${
    peaks ? "" : "; `wavegate doctor --peaks` once gives the share of the ceiling"
  }`;
}

function* showBout({ shape, variants }: BoutReport, peaks: boolean): Generator<string> {
  const sources = new Set(variants.map(({ source }) => source)).size > 1;
  if (shape) yield shape;
  const first = sources ? variants[0].source : undefined;
  const rivals = variants.filter(({ times }) => times).length;
  const timed = rivals > 0;
  const header = [
    ...(sources ? ["from"] : []),
    ...["variant", "worst error", "relative", "rel L2"],
    ...(timed
      ? [
          "warm ms",
          "cold ms",
          "GFLOP/s",
          "GB/s",
          ...(peaks ? ["ceiling"] : []),
          rivals > 1 || first !== undefined ? "beside the fastest" : "",
          ...(first === undefined ? [] : [`beside ${first}`]),
        ]
      : [""]),
  ];
  yield* formatTable(
    header,
    variants.map((variant) => {
      const { source, name, verdict, times, farthest, ceiling, behind } = variant;
      const exponential = (x: number | null | undefined) =>
        x === null || x === undefined ? "–" : x.toExponential(1);
      const words = verdict === "right" ? "" : verdict === "wrong" ? "WRONG" : "refused";
      return [
        ...(sources ? [source] : []),
        ...[
          name || "–",
          exponential(farthest?.maxAbs),
          exponential(farthest?.maxRel),
          exponential(farthest?.relL2),
        ],
        ...(!timed
          ? [words]
          : times
            ? [
                ...[
                  time(times.warm),
                  time(times.cold),
                  rate(variant.flopsPerSecond),
                  rate(variant.bytesPerSecond),
                ],
                ...(peaks
                  ? [ceiling ? `${(100 * ceiling.share).toFixed(0)} % of ${ceiling.name}` : "–"]
                  : []),
                behind ? behind.text : rivals > 1 ? "fastest" : "",
                ...(first === undefined ? [] : [variant.against?.text ?? ""]),
              ]
            : ["–", "–", "–", "–", ...(peaks ? ["–"] : []), words]),
      ];
    }),
  );
}

/** What each variant dispatches, where that is more than its name says. */
function* showDispatches({ variants }: BoutReport): Generator<string> {
  for (const { name, source, dispatches = [] } of variants)
    if (source === "package" || !dispatches.every((each) => each.includes(name)))
      for (const each of dispatches) yield `${titleOf({ name, source }, "")}: ${each}`;
}

/** One line for each error, with the variants that have it; lines of WGSL follow where it did not compile. */
export function showErrors({ bouts }: KernelReport, sources: ReadonlyMap<string, string>): string[] {
  const found = new Map<string, string[]>();
  for (const { shape, variants } of bouts)
    for (const variant of variants) {
      if (variant.verdict === "right") continue;
      const key = placed(variant, sources);
      found.set(key, [...(found.get(key) ?? []), titleOf(variant, shape)]);
    }
  return [...found].map(([error, titles]) => {
    const [first, ...rest] = error.split("\n");
    const more = titles.length > 1 ? ` (and ${titles.length - 1} more)` : "";
    // A message that begins with "Cannot" says itself what it is about.
    const line = first.startsWith("Cannot ") ? first : `Cannot time ${titles[0]}${more}: ${first}`;
    return [line, ...rest].join("\n");
  });
}

/** The error of a variant; where WGSL did not compile with the lines of the file, where these can be told. */
function placed({ error = "", source, name }: VariantReport, sources: ReadonlyMap<string, string>): string {
  const [first, ...expanded] = error.split("\n");
  const match = /^Cannot compile kernel ([\s\S]*?): (.*)$/.exec(first);
  const text = sources.get(source);
  if (!match || text === undefined) return error;
  const line = lineIn(text, expanded);
  const variant = name && ` with ${name}`;
  return line === undefined
    ? [`Cannot compile ${source}${variant}: ${match[2]}`, ...expanded].join("\n")
    : [`Cannot compile ${source}:${line}${variant}: ${match[2]}`, excerpt(text, line)].join("\n");
}

/**
 * The line of a file that stands in the middle of an excerpt of its expanded text; undefined where several may be meant, or
 * none is, as in what an #include or an #unroll has brought.
 */
export function lineIn(text: string, expanded: readonly string[]): number | undefined {
  const parts = expanded.map((line) => /^([> ]) +\d+ (.*)$/.exec(line));
  const at = parts.findIndex((part) => part?.[1] === ">");
  if (at < 0) return undefined;
  const wanted = parts.map((part) => part?.[2].trim() ?? "");
  // Comments go, their line breaks stay.
  const plain = text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ""))
    .split("\n")
    .map((line, i) => ({ line: stripComments(line).trim(), number: i + 1 }))
    .filter(({ line }) => line !== "");
  const scores = plain.flatMap(({ line, number }, i) => {
    if (line !== wanted[at]) return [];
    let score = 0;
    for (const step of [-1, 1])
      for (
        let j = 1;
        wanted[at + step * j] !== undefined && plain[i + step * j]?.line === wanted[at + step * j];
        j++
      )
        score++;
    return [{ number, score }];
  });
  scores.sort((a, b) => b.score - a.score);
  return scores.length > 0 && scores[0].score !== scores[1]?.score ? scores[0].number : undefined;
}

/** What is known of a variant from the runs before. */
interface Past {
  readonly verdict: VariantReport["verdict"];
  /** Of the last run that was timed. */
  readonly warm: Measured | undefined;
}

/** The runs of a watch: each is compared with those before. */
export class History {
  #past: ReadonlyMap<string, Past> | undefined;

  /** What became of each variant, a line each. */
  changes({ bouts }: KernelReport): string[] {
    const before = this.#past;
    const now = new Map(before);
    const lines: string[] = [];
    for (const { shape, variants } of bouts)
      for (const variant of variants) {
        const { source, name, verdict, times } = variant;
        const key = `${shape}\n${source}\n${name}`;
        const past = before?.get(key);
        now.set(key, { verdict, warm: times?.warm ?? past?.warm });
        if (!before) continue;
        const parts = [
          !past ? "new" : past.verdict !== verdict ? `was ${past.verdict}, is ${verdict}` : "",
          past?.warm && times
            ? `${digits(past.warm.median)} → ${digits(times.warm.median)} ms warm, ${judge(past.warm, times.warm).text}`
            : "",
        ].filter(Boolean);
        if (parts.length > 0)
          lines.push(`${titleOf(variant, bouts.length > 1 ? shape : "")}: ${parts.join("; ")}`);
      }
    this.#past = now;
    return lines;
  }
}
