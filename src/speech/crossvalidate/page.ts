/** A cross-validation as one HTML file: it asks for nothing from elsewhere, and its tables need no script. */
import { escapeHtml, pageDocument } from "../../page/document.ts";
import { LABELS } from "../corpora/corpus.ts";
import { argmax } from "../metrics/metrics.ts";
import type { Curve } from "./curves.ts";
import type { Example } from "./examples.ts";
import { type CrossReport, rowName } from "./report.ts";
import type { Pooled, RowReport } from "./row_report.ts";
import {
  besideTables,
  confusionTable,
  foldTables,
  paperTables,
  partsTable,
  pooledTables,
  points,
  type Table,
} from "./tables.ts";

/** What the page shows beside the report. */
export interface PageExtras {
  /** The learning curves of each row of the plan, in its order. */
  readonly curves?: readonly (readonly Curve[])[];
  /** Utterances of one model, and what model that is. */
  readonly examples?: { readonly of: string; readonly list: readonly Example[] };
  /** What has to be known beyond the report's notes. */
  readonly notes?: readonly string[];
}

/** The page of a report. Throws an Error in a bundle of the sources, which leaves its script behind. */
export function reportPage(
  report: CrossReport,
  { curves = [], examples, notes = [] }: PageExtras = {},
): string {
  const evaluated = report.rows.flatMap((row, i) =>
    row.pooled === undefined ? [] : [{ ...row, pooled: row.pooled, curves: curves[i] ?? [] }],
  );
  const data = {
    folds: report.plan.folds,
    rows: evaluated.map(({ pooled, curves }) => ({ bins: pooled.calibration.bins, curves })),
    examples: (examples?.list ?? []).map(({ words, seconds, secondsPerFrame, gates }) => ({
      ...{ words, seconds, secondsPerFrame, gates },
    })),
  };
  const all = [...report.notes, ...notes];
  return pageDocument({
    title: `Cross-validation on ${report.plan.corpus.name}`,
    data,
    ...{ css: "crossvalidateCss", script: "crossvalidateScript" },
    body: `${header(report)}
<main>
${paperTables(report).map(section).join("\n")}
<section><h2>To read the figures</h2><ul class="notes">${all.map((note) => `<li>${escapeHtml(note)}</li>`).join("")}</ul></section>
${[...pooledTables(report), ...besideTables(report)].map(section).join("\n")}
<section><h2>Each row</h2><p class="hint">Confusion, reliability, parts of the test sets and learning curves, of all folds and seeds.</p>
${evaluated.map((row, i) => details(row, i, report)).join("\n")}</section>
${examples && examples.list.length > 0 ? exampleSection(examples.of, examples.list) : ""}
${foldTables(report).map(section).join("\n")}
</main>`,
  });
}

function header({ plan, rows }: CrossReport): string {
  const { corpus, folds, seeds, recipe } = plan;
  const cells = new Set(
    rows.flatMap(({ row, cells }) =>
      cells.map(({ fold, seed }) => [row.system, row.words, fold, seed].join(" ")),
    ),
  );
  const best = rows.reduce<RowReport | undefined>(
    (best, row) => (ua(row) > (best ? ua(best) : -1) ? row : best),
    undefined,
  );
  const figure = best?.pooled?.figures.ua;
  const tiles: [string, string, string][] = [
    ["corpus", corpus.name, `${corpus.utterances.toLocaleString("en")} utterances`],
    ["folds", `${folds.length}`, folds.length > 1 ? `${folds[0]} to ${folds.at(-1)}` : (folds[0] ?? "")],
    ["seeds", `${seeds.length}`, seeds.join(", ")],
    ["evaluated", `${cells.size}`, "models on their held-out folds"],
    ...(best && figure
      ? [
          [
            "highest UA, pooled",
            `${points(figure.value)} %`,
            `${best.row.title}; 95 % ${points(figure.interval.low)} to ${points(figure.interval.high)}`,
          ] as [string, string, string],
        ]
      : []),
  ];
  return `<header><h1>Cross-validation on ${escapeHtml(corpus.name)}</h1>
<p>${[`preset ${recipe.preset}`, ...recipe.set].map((each) => `<span>${escapeHtml(each)}</span>`).join("")}</p>
<dl>${tiles
    .map((tile) => tile.map(escapeHtml))
    .map(([name, value, more]) => `<div><dt>${name}</dt><dd>${value}</dd><dd class="more">${more}</dd></div>`)
    .join("")}</dl></header>`;
}

const ua = ({ pooled }: RowReport): number => pooled?.figures.ua?.value ?? -1;

const section = (table: Table): string =>
  `<section><h2>${escapeHtml(table.title)}</h2>${table.note === undefined ? "" : `<p class="hint">${escapeHtml(table.note)}</p>`}<div class="scroll">${html(table)}</div></section>`;

/** A table, with the groups of its columns above them; `cellOf` may say more of a cell than its text. */
function html(
  { columns, rows, own = [] }: Table,
  cellOf = (text: string, _row: number, _column: number) => escapeHtml(text),
): string {
  const grouped = columns.some(({ group }) => group !== undefined);
  const groups: { name: string; span: number; at: number }[] = [];
  for (const [at, { group = "" }] of columns.entries()) {
    const last = groups.at(-1);
    if (last && group !== "" && last.name === group) last.span++;
    else groups.push({ name: group, span: 1, at });
  }
  const begins = (i: number) => i > 0 && columns[i].group !== columns[i - 1].group;
  const classes = (i: number) => `${columns[i].text ? "t" : "n"}${begins(i) ? " begin" : ""}`;
  const upper = groups
    .map(
      ({ name, span, at }) =>
        `<th class="${classes(at)}" colspan="${span}" scope="colgroup">${escapeHtml(name)}</th>`,
    )
    .join("");
  const lower = columns
    .map(({ name }, i) => `<th class="${classes(i)}" scope="col">${escapeHtml(name)}</th>`)
    .join("");
  const body = rows.map(
    (row, r) =>
      `<tr${own.includes(r) ? ' class="own"' : ""}>${row.map((text, i) => `<td class="${classes(i)}">${cellOf(text, r, i)}</td>`).join("")}</tr>`,
  );
  return `<table><thead>${grouped ? `<tr class="groups">${upper}</tr>` : ""}<tr>${lower}</tr></thead><tbody>${body.join("")}</tbody></table>`;
}

function details(
  { row, pooled, curves }: RowReport & { pooled: Pooled; curves: readonly Curve[] },
  i: number,
  report: CrossReport,
): string {
  const { ua, wa } = pooled.figures;
  const open = report.beside.some(({ own }) => report.rows[own].row === row) ? " open" : "";
  const stages = [...new Set(curves.map(({ stage }) => stage))];
  const plots = stages.map(
    (stage) =>
      `<figure><figcaption>stage ${stage}: loss <small>training (line), dev set (dashed)</small></figcaption><div class="plot" data-curve="${i}" data-stage="${stage}" data-of="loss"></div></figure>
<figure><figcaption>stage ${stage}: UA on the dev set, %</figcaption><div class="plot" data-curve="${i}" data-stage="${stage}" data-of="ua"></div></figure>`,
  );
  const { calibration } = pooled;
  return `<details${open}><summary><b>${escapeHtml(rowName(row))}</b><span>UA ${points(ua?.value ?? Number.NaN)} · WA ${points(wa?.value ?? Number.NaN)}</span></summary>
<div class="row">
<div><h3>Confusion <small>share of the true emotion, number of answers</small></h3>${confusion(pooled)}
<h3>Reliability <small>ECE ${points(calibration.ece)}, Brier ${calibration.brier.toFixed(3)}</small></h3><div class="plot" data-reliability="${i}"></div><p class="hint">Share of right answers (bars) by the probability of the answer; on the line they would be equal.</p></div>
<div><h3>Parts of the test sets</h3><div class="scroll">${html(partsTable(pooled))}</div></div>
</div>
${stages.length > 0 ? `<h3>Learning curves ${foldLegend(report.plan.folds)}</h3><div class="curves">${plots.join("\n")}</div>` : ""}
</details>`;
}

const COLOURS = 7;

const foldLegend = (folds: readonly string[]): string =>
  `<span class="legend">${folds.map((fold, i) => `<span><i class="k${i % COLOURS}"></i>${escapeHtml(fold)}</span>`).join("")}</span>`;

/** The confusion matrix, each cell coloured by its share of the row. */
function confusion(pooled: Pooled): string {
  const { confusion } = pooled;
  const body = html(confusionTable(pooled), (text, r, i) => {
    if (i === 0 || i > LABELS.length) return escapeHtml(text);
    const total = confusion[r].reduce((a, b) => a + b, 0);
    const share = total === 0 ? 0 : confusion[r][i - 1] / total;
    return `<span class="heat" style="--heat:${(60 * share).toFixed(1)}%">${(100 * share).toFixed(1)}<small>${text}</small></span>`;
  });
  return body.replace("<table>", '<table class="confusion">');
}

function exampleSection(of: string, examples: readonly Example[]): string {
  return `<section><h2>Utterances <small>${escapeHtml(of)}</small></h2>
<p class="hint">Of each emotion the first utterance that is answered right and the first that is answered wrong, by id, of those of at most six seconds. Gates: the weight of the own modality against the other, the mean over the gate's values; above the frames the recognised words.</p>
<div class="examples">${examples.map(exampleCard).join("\n")}</div></section>`;
}

function exampleCard(example: Example, i: number): string {
  const { id, label, probabilities, reference, words, seconds, wav, gates } = example;
  const said = LABELS[argmax(probabilities)];
  const right = said === label;
  const single = gates?.acoustic.length === 1;
  const bars = LABELS.map(
    (name, k) =>
      `<tr${name === label ? ' class="truth"' : ""}><th scope="row">${name}</th><td class="bar" style="--bar:${(100 * probabilities[k]).toFixed(1)}%">${(100 * probabilities[k]).toFixed(1)} %</td></tr>`,
  );
  const plots =
    gates === undefined
      ? ""
      : single
        ? `<p class="hint">One gate for the utterance: acoustic ${gates.acoustic[0]}, text ${gates.text[0]}</p>`
        : `<figure><figcaption>acoustic gate</figcaption><div class="plot" data-gate="${i}"></div></figure>
<figure><figcaption>text gate</figcaption><div class="plot" data-tokens="${i}"></div></figure>`;
  return `<article><h3>${escapeHtml(id)} <small>${seconds.toFixed(1)} s</small><span class="${right ? "right" : "wrong"}">${right ? `✓ ${label}` : `✗ ${said}, truly ${label}`}</span></h3>
<audio controls preload="metadata" data-audio="${i}" src="${wav}"></audio>
<div class="answer"><table>${bars.join("")}</table>
<dl class="words"><dt>said</dt><dd>${escapeHtml(reference)}</dd>${words === undefined ? "" : `<dt>heard</dt><dd>${escapeHtml(words.map(({ text }) => text).join(" ") || "–")}</dd>`}</dl></div>
${plots}</article>`;
}
