/** A profile as one HTML file: it asks for nothing from elsewhere, and its tables and its roofline need no script. */
import { escapeHtml, pageDocument } from "../page/document.ts";
import { digits, mebibytes, percent, showShape, withPrefix } from "./format.ts";
import type { Group, KernelGroup, Measured, Profile } from "./profile.ts";
import { roofline } from "./roofline.ts";
import { spansOf } from "./trace.ts";

/** Kernels by their time have a colour each, those after the last one the last. */
const COLOURS = 8;

/** The page of a profile. Throws an Error in a bundle of the sources, which leaves its script behind. */
export function profilePage(profile: Profile): string {
  const { command, adapter, kernels, layers, stages, events, peaks } = profile;
  const colours = coloursOf(kernels);
  const colour = (kernel: string) => `k${colours[kernel]}`;
  const data = {
    profile,
    colours,
    stages: spansOf(events, ({ stage }) => stage),
    layers: spansOf(events, ({ layer }) => layer),
  };
  const noPeaks = peaks
    ? ""
    : `<p class="warn">Ceilings are not known: <code>wavegate doctor --peaks</code> measures them.</p>`;
  return pageDocument({
    title: `Wavegate ${command} on ${adapter}`,
    data,
    ...{ css: "profileCss", script: "profileScript" },
    body: `${header(profile)}
<main>
<section class="roof-section"><h2>Roofline</h2>${noPeaks}${roofline(profile, colour)}</section>
<section class="kernels"><h2>Kernels</h2><div class="scroll">${kernelTable(profile, colour)}</div></section>
<section class="wide"><h2>Timeline <small>of the run with the median wall time</small></h2>
<div class="tools"><button type="button" data-zoom="0.5">Zoom in</button><button type="button" data-zoom="2">Zoom out</button><button type="button" data-zoom="0">All</button>
<span class="hint">drag: zoom · Shift + drag: move · Ctrl + wheel: zoom · double-click: all</span>${legend(kernels, colours)}</div>
<div id="timeline"></div><div id="memory"></div><p class="hint">GPU buffers: in use (area), held for reuse too (dashed)</p><noscript><p class="none">The timeline needs JavaScript.</p></noscript></section>
<section class="half"><h2>Stages</h2>${groupTable("stage", stages, profile)}</section>
<section class="half"><h2>Wall time</h2>${wallTable(profile)}</section>
<section class="wide"><h2>Layers</h2>${groupTable("layer", layers, profile)}</section>
</main>`,
  });
}

function coloursOf(kernels: readonly KernelGroup[]): Record<string, number> {
  const times = new Map<string, number>();
  for (const { kernel, time } of kernels) times.set(kernel, (times.get(kernel) ?? 0) + time.median);
  const names = [...times].sort(([, a], [, b]) => b - a).map(([name]) => name);
  return Object.fromEntries(names.map((name, i) => [name, Math.min(i, COLOURS - 1)]));
}

function legend(kernels: readonly KernelGroup[], colours: Readonly<Record<string, number>>): string {
  const names = [...new Set(kernels.map(({ kernel }) => kernel))].sort((a, b) => colours[a] - colours[b]);
  const shown = names.filter((name) => colours[name] < COLOURS - 1);
  const last = names.filter((name) => colours[name] === COLOURS - 1);
  const items = [...shown.map((name, i) => [name, i] as const)];
  if (last.length > 0) items.push([last.length === 1 ? last[0] : "others", COLOURS - 1]);
  return `<ul class="legend">${items.map(([name, i]) => `<li><i class="k${i}"></i>${escapeHtml(name)}</li>`).join("")}</ul>`;
}

const time = ({ median, spread }: Measured): string =>
  `${digits(median)}<span class="spread"> ± ${digits(spread / 2)}</span>`;

function header(profile: Profile): string {
  const {
    adapter,
    driver,
    path,
    commit,
    command,
    options,
    wall,
    plain,
    parts,
    events,
    cpu,
    memory,
    runs,
    peaks,
  } = profile;
  const flops = profile.kernels.reduce((sum, each) => sum + (each.flops ?? 0), 0);
  const bytes = profile.kernels.reduce((sum, each) => sum + each.bytes, 0);
  const seconds = parts.gpu.median / 1000;
  const live = memory.reduce((most, [, now]) => Math.max(most, now), 0);
  const held = memory.reduce((most, [, , now]) => Math.max(most, now), 0);
  const tiles: [name: string, value: string, more: string][] = [
    [
      "wall time",
      `${digits(wall.median)} ms`,
      `± ${digits(wall.spread / 2)}, ${runs} runs; ${digits(plain.median)} unprofiled`,
    ],
    [
      "GPU time",
      `${digits(parts.gpu.median)} ms`,
      `${percent(parts.gpu.median / wall.median)} of the wall time`,
    ],
    ["arithmetic", withPrefix(flops, "FLOP"), seconds > 0 ? withPrefix(flops / seconds, "FLOP/s") : ""],
    ["memory traffic", withPrefix(bytes, "B"), seconds > 0 ? withPrefix(bytes / seconds, "B/s") : ""],
    ["dispatches", `${events.length}`, `in ${cpu.submits} submits`],
    ["CPU", `${digits(cpu.record.median)} ms`, `to record; submits ${digits(cpu.submit.median)}`],
    ["GPU buffers", mebibytes(live), `in use at most; ${mebibytes(held)} held`],
  ];
  const given = Object.entries(options).map(([name, value]) => `${name} ${value}`);
  const about = [
    ...(driver.startsWith(adapter) ? [] : [adapter]),
    driver,
    `path ${path}`,
    ...(commit ? [`commit ${commit.slice(0, 10)}`] : []),
  ];
  const measured = peaks ? [`ceilings of ${peaks.measured.slice(0, 10)}`] : [];
  return `<header><h1>wavegate ${escapeHtml(command)}</h1>
<p>${[...about, ...given, ...measured].map((each) => `<span>${escapeHtml(each)}</span>`).join("")}</p>
<dl>${tiles.map(([name, value, more]) => `<div><dt>${name}</dt><dd>${value}</dd><dd class="more">${more}</dd></div>`).join("")}</dl></header>`;
}

/** A cell with what it is sorted by; without a value it goes last. */
const cell = (value: number | null, shown: string, bar?: number): string => {
  const width = bar === undefined ? "" : ` style="--bar:${(100 * Math.min(1, bar)).toFixed(1)}%"`;
  return `<td class="n${bar === undefined ? "" : " bar"}" data-v="${value ?? ""}"${width}>${shown}</td>`;
};

const rate = (x: number | null): string => (x === null ? "–" : digits(x / 1e9));

function figures(
  { time: t, calls, flopsPerSecond, bytesPerSecond, ceiling, share }: Group,
  total: number,
): string {
  const part = total > 0 ? t.median / total : 0;
  return [
    cell(t.median, time(t)),
    cell(part, percent(part), part),
    cell(calls, `${calls}`),
    cell(flopsPerSecond, rate(flopsPerSecond)),
    cell(bytesPerSecond, rate(bytesPerSecond)),
    cell(share, share === null ? "–" : `${percent(share)}<small> ${ceiling}</small>`, share ?? 0),
  ].join("");
}

const FIGURES = ["ms", "of GPU", "calls", "GFLOP/s", "GB/s", "of ceiling"];

const head = (names: readonly string[]): string =>
  `<thead><tr>${names.map((name) => `<th scope="col"><button type="button">${name}</button></th>`).join("")}</tr></thead>`;

function kernelTable({ kernels, parts }: Profile, colour: (kernel: string) => string): string {
  const rows = kernels.map(
    (each, i) =>
      `<tr data-kernel="${i}">${cell(i + 1, `${i + 1}`)}<td><i class="${colour(each.kernel)}"></i>${escapeHtml(each.name)}</td><td class="shape" title="${escapeHtml(showShape(each.shape))}">${escapeHtml(showShape(each.shape))}</td>${figures(each, parts.gpu.median)}</tr>`,
  );
  return `<table id="kernels">${head(["#", "kernel", "shape", ...FIGURES])}<tbody>${rows.join("")}</tbody></table>`;
}

function groupTable(what: string, groups: readonly Group[], { parts }: Profile): string {
  const rows = groups.map(
    (each) => `<tr><td>${escapeHtml(each.name || "other")}</td>${figures(each, parts.gpu.median)}</tr>`,
  );
  return `<table id="${what}s">${head([what, ...FIGURES])}<tbody>${rows.join("")}</tbody></table>`;
}

function wallTable({ parts, wall, plain }: Profile): string {
  const named: [string, Measured][] = [
    ["GPU in dispatches", parts.gpu],
    ["CPU records or submits, GPU idle", parts.cpu],
    ["GPU between dispatches", parts.gaps],
    ["CPU waits, GPU done", parts.wake],
    ["unexplained", parts.unexplained],
    ["all", wall],
  ];
  const rows = named.map(
    ([name, t]) =>
      `<tr><td>${name}</td>${cell(t.median, time(t))}${cell(t.median / wall.median, percent(t.median / wall.median), t.median / wall.median)}</tr>`,
  );
  return `<table id="wall"><thead><tr><th scope="col">part</th><th scope="col">ms</th><th scope="col">of all</th></tr></thead><tbody>${rows.join("")}</tbody></table>
<p class="hint">Without the profiler ${digits(plain.median)} ± ${digits(plain.spread / 2)} ms: it slows a run ${(wall.median / plain.median).toFixed(2)}×.</p>`;
}
