/** The HTML page of a profile: what it says without a browser, and what its script does in one. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { profilePage } from "../src/profile/page.ts";
import type { DispatchEvent, Group, KernelGroup, Measured, Profile } from "../src/profile/profile.ts";
import { visit, withoutChromium } from "./chromium.ts";

const folder = mkdtempSync(join(tmpdir(), "wavegate-page-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const times = (median: number): Measured => ({ median, spread: median / 10, samples: [median] });

function group(name: string, milliseconds: number, flops: number | null, bytes: number): Group {
  const per = (x: number | null) => (x === null ? null : x / (milliseconds / 1000));
  const ceiling = flops === null ? null : flops / 1e12 > bytes / 1e11 ? "f32" : "copy";
  return {
    ...{ name, time: times(milliseconds), calls: 2, flops, bytes, ceiling },
    ...{ flopsPerSecond: per(flops), bytesPerSecond: per(bytes) },
    share: flops === null ? null : Math.max(flops / 1e12, bytes / 1e11) / (milliseconds / 1000),
  };
}

const kernel = (name: string, milliseconds: number, flops: number | null, bytes: number): KernelGroup => ({
  ...group(`${name}.forward`, milliseconds, flops, bytes),
  ...{ kernel: name, entry: "forward", shape: { M: 8, N: 16 }, grid: [2, 1, 1], variant: "WG=64" },
});

const event = (name: string, begin: number, end: number): DispatchEvent => ({
  ...{ stage: "BERT", layer: "encoder.layer.0", kernel: name, entry: "forward", shape: { M: 8, N: 16 } },
  ...{ grid: [2, 1, 1], variant: "WG=64", begin, end, flops: 4e6, bytes: 1e5, unit: "f32" },
  ...{ recorded: begin / 10, recording: 0.01 },
});

/** The first kernel is on the f32 roof, the second on the slope, the third counts no FLOPs. */
const profile: Profile = {
  ...{ version: 1, adapter: "a <b>card</b>", driver: "driver 1", path: "portable" },
  ...{ command: "profile predict </script>", options: { seconds: 3 }, runs: 5 },
  peaks: {
    ...{ adapter: "card", driver: "driver 1", measured: "2026-01-02T03:04:05.678Z" },
    ...{ f32: 1e12, copy: 1e11, dispatch: 1e-6, upload: 1e10, readback: 1e10 },
  },
  ...{ wall: times(12), plain: times(11) },
  parts: { gpu: times(9), cpu: times(1), gaps: times(1), wake: times(0.5), unexplained: times(0.5) },
  events: [event("matmul", 1, 6), event("softmax", 6, 9), event("convert", 9, 10)],
  cpuEvents: [
    { kind: "submit", begin: 1, end: 1.2 },
    { kind: "wait", begin: 1.2, end: 10.5 },
  ],
  kernels: [kernel("matmul", 5, 5e9, 1e7), kernel("softmax", 3, 3e7, 3e8), kernel("convert", 1, null, 1e6)],
  layers: [group("encoder.layer.0", 9, null, 1e7)],
  stages: [group("BERT", 8, 5e9, 1e7), group("", 1, 1e6, 1e6)],
  cpu: { record: times(1), submit: times(0.2), wait: times(9), submits: 1 },
  memory: [
    [0, 2 ** 20, 2 ** 22],
    [5, 2 ** 21, 2 ** 22],
  ],
};
const page = profilePage(profile);

const rowsOf = (id: string, of = page): number =>
  (new RegExp(`<table id="${id}">.*?<tbody>(.*?)</tbody>`, "s").exec(of)?.[1].match(/<tr/g) ?? []).length;

test("profilePage() names the workload and has a row for each kernel, layer, stage and part", () => {
  assert.match(page, /^<!doctype html>\n<html lang="en">/);
  assert.match(
    page,
    /<title>Wavegate profile predict &#60;\/script&#62; on a &#60;b&#62;card&#60;\/b&#62;<\/title>/,
  );
  assert.deepEqual(
    ["kernels", "layers", "stages", "wall"].map((id) => rowsOf(id)),
    [3, 1, 2, 6],
  );
  for (const shown of ["12.0 ms", "5.03 GFLOP", "driver 1", "ceilings of 2026-01-02"])
    assert.ok(page.includes(shown), shown);
});

test("profilePage() asks for nothing from elsewhere, and no text ends an element", () => {
  for (const wish of [
    /<link/,
    /\ssrc=/,
    /\shref=/,
    /url\(/,
    /@import/,
    /\bfetch\(/,
    /XMLHttpRequest/,
    /<b>card/,
  ])
    assert.doesNotMatch(page, wish);
  assert.equal(page.match(/<script/g)?.length, 3);
  assert.equal(page.match(/<\/script/g)?.length, 3);
  const json = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)?.[1] ?? "";
  assert.deepEqual(JSON.parse(json).profile, JSON.parse(JSON.stringify(profile)));
  assert.match(page, /Permission is hereby granted, free of charge/);
});

/** Numbers of a pattern's groups. */
const numbersOf = (pattern: RegExp): number[] => (pattern.exec(page) ?? []).slice(1).map(Number);

test("the roofline puts kernels that reach a ceiling on its line", () => {
  const dot = (i: number) =>
    numbersOf(new RegExp(`data-kernel="${i}" cx="([\\d.]+)" cy="([\\d.]+)" r="([\\d.]+)"`));
  const [x, y, radius] = dot(0);
  const [other, below, smaller] = dot(1);
  const [x0, y0, x1, y1] = numbersOf(/<path class="roof" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"/);
  const [ridge, roof] = numbersOf(/<path class="roof" d="M([\d.]+) ([\d.]+)H/);
  assert.ok(Math.abs(ridge - x1) < 0.2 && Math.abs(roof - y1) < 0.2, "roof and slope meet");
  assert.ok(Math.abs(y - roof) < 0.2 && x > ridge, "a kernel at the peak of f32");
  assert.ok(
    Math.abs(below - (y0 + ((other - x0) * (y1 - y0)) / (x1 - x0))) < 0.3,
    "a kernel at the bandwidth",
  );
  // Area by time.
  assert.ok(Math.abs((smaller / radius) ** 2 - 3 / 5) < 0.01);
  assert.deepEqual(dot(2), []);
  assert.match(page, /Without a dot: 1 kernels that count no FLOP or take under 0\.1 %, 1\.00 ms together/);
});

test("profilePage() without peaks says how to measure them and draws no ceiling", () => {
  const { peaks: _, ...without } = profile;
  const bare = profilePage(without);
  assert.match(bare, /<code>wavegate doctor --peaks<\/code> measures them/);
  assert.doesNotMatch(bare, /class="roof"/);
  assert.equal(rowsOf("kernels", bare), 3);
});

/** Sorts a table, points at a dispatch and a dot, zooms, and notes what came of it. */
const visitor = `
const found = {};
const rows = () => [...document.querySelectorAll("#kernels tbody tr")].map((row) => row.cells[0].textContent).join();
const button = (name) => [...document.querySelectorAll("#kernels th button")].find((each) => each.textContent === name);
found.sorted = ["ms", "ms", "kernel", "GFLOP/s"].map((name) => { button(name).click(); return rows(); });
const over = document.querySelector("#timeline .u-over");
const { left, top, width, height } = over.getBoundingClientRect();
const at = (share, lane) => ({ clientX: left + share * width, clientY: top + ((lane + 0.5) / 5) * height, bubbles: true });
const tip = document.querySelector("#tip");
over.dispatchEvent(new MouseEvent("mousemove", at(3 / 10.5, 2)));
found.dispatch = tip.textContent;
document.querySelector("[data-kernel='1']").dispatchEvent(new MouseEvent("mousemove", { clientX: 9, clientY: 9 }));
found.kernel = tip.textContent;
found.lit = document.querySelectorAll(".lit").length;
found.canvases = document.querySelectorAll("canvas").length;
document.querySelector("[data-zoom='0.5']").click();
document.querySelector("[data-zoom='0.5']").click();
setTimeout(() => {
  over.dispatchEvent(new MouseEvent("mousemove", at(0.99, 2)));
  found.zoomed = tip.textContent;
  document.documentElement.dataset.found = JSON.stringify({ ...found, errors: window.errors });
}, 100);`;

test("the page's script draws, sorts, zooms and tells what is pointed at, in Chromium", {
  skip: withoutChromium,
}, () => {
  const found = visit(folder, page, visitor, 1400);
  assert.deepEqual(found.errors, []);
  // Descending and ascending by time; by name; by a figure that one lacks, which goes last.
  assert.deepEqual(found.sorted, ["1,2,3", "3,2,1", "3,1,2", "1,2,3"]);
  assert.match(
    found.dispatch,
    /^matmul\.forward.*encoder\.layer\.0.*M=8 N=16.*2 × 1 × 1.*WG=64.*GFLOP\/s.*% of f32/s,
  );
  assert.match(found.kernel, /^2 softmax\.forward.*in 2 calls/);
  assert.equal(found.lit, 2);
  assert.equal(found.canvases, 2);
  assert.match(found.zoomed, /^softmax\.forward/);
});
