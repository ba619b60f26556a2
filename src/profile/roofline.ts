/**
 * A roofline plot as SVG (Williams, Waterman, Patterson 2009): FLOP/s over FLOP per byte, both logarithmic. Under the slope of the
 * bandwidth a kernel waits for memory, under a roof for arithmetic; a dot's area is its time.
 */
import type { Peaks } from "../records/peaks.ts";
import { escapeHtml } from "../page/document.ts";
import { digits, percent, showShape, withPrefix } from "./format.ts";
import type { KernelGroup, Profile } from "./profile.ts";

const WIDTH = 620;
const HEIGHT = 440;
const LEFT = 62;
const RIGHT = WIDTH - 14;
const TOP = 12;
const BOTTOM = HEIGHT - 42;
/** Radii of dots. */
const LARGEST = 19;
const SMALLEST = 2.5;
/** Kernels of a smaller share of the GPU time have no dot: they would make the plot larger, and all else in it smaller. */
const LEAST_SHARE = 0.001;
/** A dot of this radius has room for a number. */
const LEGIBLE = 8.5;
/** Kernels that get a name in the plot, where there is room. */
const NAMED = 8;

/** Where a kernel stands. */
interface Dot {
  readonly kernel: KernelGroup;
  /** Place in Profile.kernels. */
  readonly index: number;
  readonly intensity: number;
  readonly rate: number;
}

/** From FLOP per byte and FLOP/s to the picture; the bounds are powers of ten. */
interface Plane {
  readonly x: (intensity: number) => number;
  readonly y: (rate: number) => number;
  readonly bounds: { left: number; right: number; low: number; high: number };
}

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The plot, and what it leaves out; `colour` gives a kernel's class. */
export function roofline(profile: Profile, colour: (kernel: string) => string): string {
  const { peaks, kernels } = profile;
  const dots = dotsOf(profile);
  if (dots.length === 0) return `<p class="none">No kernel declares its FLOPs.</p>`;
  const plane = planeOf(dots, peaks);
  const labels: Box[] = [];
  const parts = [
    grid(plane),
    ...(peaks ? [ceilings(plane, peaks, labels)] : []),
    ...marks(plane, dots, peaks ? roofLabels(plane, peaks, labels) : [], labels, colour),
  ];
  const label = `Roofline: FLOP per second over FLOP per byte of ${dots.length} kernels`;
  const svg = `<svg class="roofline" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">${parts.join("")}</svg>`;
  return svg + leftOut(kernels, dots);
}

/** Kernels that have a place: those that declare FLOPs, did some, and took some time. */
function dotsOf({ kernels, parts }: Profile): Dot[] {
  return kernels.flatMap((kernel, index) => {
    const { flops, bytes, flopsPerSecond: rate, time } = kernel;
    if (!flops || bytes <= 0 || !rate || time.median < LEAST_SHARE * parts.gpu.median) return [];
    return [{ kernel, index, intensity: flops / bytes, rate }];
  });
}

function leftOut(kernels: readonly KernelGroup[], dots: readonly Dot[]): string {
  const there = new Set(dots.map(({ index }) => index));
  const missing = kernels.filter((_, i) => !there.has(i));
  if (missing.length === 0) return "";
  const time = missing.reduce((sum, each) => sum + each.time.median, 0);
  return `<p class="hint">Area: time. Without a dot: ${missing.length} kernels that count no FLOP or take under 0.1 %, ${digits(time)} ms together.</p>`;
}

const ROOFS = ["matrix", "f16", "f32"] as const;

/** The roofs that were measured. */
const roofsOf = (peaks: Peaks): { name: (typeof ROOFS)[number]; rate: number }[] =>
  ROOFS.flatMap((name) => {
    const rate = peaks[name];
    return rate === undefined ? [] : [{ name, rate }];
  });

/** Exponents of the powers of ten between which all `values` are. */
function decades(values: readonly number[]): [from: number, to: number] {
  const from = Math.floor(Math.log10(Math.min(...values)));
  return [from, Math.max(from + 1, Math.ceil(Math.log10(Math.max(...values))))];
}

function planeOf(dots: readonly Dot[], peaks: Peaks | undefined): Plane {
  const roofs = peaks ? roofsOf(peaks) : [];
  const ridges = peaks ? roofs.map(({ rate }) => (2 * rate) / peaks.copy) : [];
  const [left, right] = decades([...dots.map(({ intensity }) => intensity), ...ridges]);
  const [low, high] = decades([...dots.map(({ rate }) => rate), ...roofs.map(({ rate }) => 1.5 * rate)]);
  return {
    x: (intensity) => LEFT + ((RIGHT - LEFT) * (Math.log10(intensity) - left)) / (right - left),
    y: (rate) => BOTTOM - ((BOTTOM - TOP) * (Math.log10(rate) - low)) / (high - low),
    bounds: { left, right, low, high },
  };
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** A coordinate. */
const c = (x: number): string => x.toFixed(1);

function grid({ x, y, bounds: { left, right, low, high } }: Plane): string {
  const columns = range(left, right).map((at) => {
    const column = c(x(10 ** at));
    return `<path class="grid" d="M${column} ${TOP}V${BOTTOM}"/><text class="tick" x="${column}" y="${BOTTOM + 16}" text-anchor="middle">${power(at)}</text>`;
  });
  const rows = range(low, high).map((at) => {
    const row = c(y(10 ** at));
    return `<path class="grid" d="M${LEFT} ${row}H${RIGHT}"/><text class="tick" x="${LEFT - 6}" y="${row}" dy="0.32em" text-anchor="end">${ratePower(at)}</text>`;
  });
  const [middle, centre] = [(TOP + BOTTOM) / 2, (LEFT + RIGHT) / 2];
  return [
    ...columns,
    ...rows,
    `<text class="axis" x="${centre}" y="${HEIGHT - 6}" text-anchor="middle">FLOP per byte of memory traffic</text>`,
    `<text class="axis" transform="translate(12 ${middle}) rotate(-90)" text-anchor="middle">FLOP/s</text>`,
  ].join("");
}

/** Where the slope of the bandwidth enters the picture, and where it meets the highest roof. */
function slope({ bounds }: Plane, { copy, ...peaks }: Peaks): [from: number, to: number] {
  const highest = Math.max(...roofsOf({ copy, ...peaks }).map(({ rate }) => rate));
  return [Math.max(10 ** bounds.left, 10 ** bounds.low / copy), highest / copy];
}

/** The lines, which `taken` is told: names keep off them. */
function ceilings(plane: Plane, peaks: Peaks, taken: Box[]): string {
  const { x, y } = plane;
  const [from, to] = slope(plane, peaks);
  const steps = 40;
  for (let i = 0; i <= steps; i++) {
    const at = from * (to / from) ** (i / steps);
    taken.push({ x: x(at) - 5, y: y(at * peaks.copy) - 5, width: 10, height: 10 });
  }
  for (const { rate } of roofsOf(peaks)) {
    const begin = x(rate / peaks.copy);
    taken.push({ x: begin, y: y(rate) - 1, width: RIGHT - begin, height: 2 });
  }
  const roofs = roofsOf(peaks).map(
    ({ name, rate }) =>
      `<path class="roof${name === "f32" ? "" : " other"}" d="M${c(x(rate / peaks.copy))} ${c(y(rate))}H${RIGHT}"/>`,
  );
  const line = `M${c(x(from))} ${c(y(from * peaks.copy))}L${c(x(to))} ${c(y(to * peaks.copy))}`;
  return `<path class="roof" d="${line}"/>${roofs.join("")}`;
}

/** Names of the ceilings, whose places `taken` is told. */
function roofLabels(plane: Plane, peaks: Peaks, taken: Box[]): string[] {
  const { x, y } = plane;
  const [from, to] = slope(plane, peaks);
  const at = from * (to / from) ** 0.2;
  const rise = y(to * peaks.copy) - y(from * peaks.copy);
  const tilt = (Math.atan2(rise, x(to) - x(from)) * 180) / Math.PI;
  const place = `translate(${c(x(at))} ${c(y(at * peaks.copy))}) rotate(${c(tilt)})`;
  const written: Box[] = [];
  const roofs = roofsOf(peaks).map(({ name, rate }) => {
    const text = `${name === "matrix" ? "subgroup matrix" : name} ${withPrefix(rate, "FLOP/s")}`;
    const width = 6.6 * text.length;
    const above = { x: RIGHT - width, y: y(rate) - 17, width, height: 14 };
    // Two roofs of about one height: the name of one above it, that of the other below.
    const box = written.some((other) => overlap(above, other)) ? { ...above, y: y(rate) + 3 } : above;
    written.push(box);
    return `<text class="roof-name" x="${RIGHT - 4}" y="${c(box.y + 12)}" text-anchor="end">${text}</text>`;
  });
  taken.push(...written);
  return [
    `<text class="roof-name" transform="${place}" dy="-6">copy ${withPrefix(peaks.copy, "B/s")}</text>`,
    ...roofs,
  ];
}

/** A dot in the picture. */
interface Placed extends Dot {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

/** Dots, the smaller over the larger, and over all of them the names: of the ceilings, and of those kernels with the most time. */
function marks(
  { x, y }: Plane,
  dots: readonly Dot[],
  names: readonly string[],
  taken: Box[],
  colour: (kernel: string) => string,
): string[] {
  const most = Math.max(...dots.map(({ kernel }) => kernel.time.median));
  const placed = dots.map((dot): Placed => {
    const radius = Math.max(SMALLEST, LARGEST * Math.sqrt(dot.kernel.time.median / most));
    return { ...dot, radius, x: x(dot.intensity), y: y(dot.rate) };
  });
  const circles = placed.map(
    ({ kernel, index, ...at }) =>
      `<circle class="dot ${colour(kernel.kernel)}" data-kernel="${index}" cx="${c(at.x)}" cy="${c(at.y)}" r="${c(at.radius)}"><title>${escapeHtml(describe(kernel, index))}</title></circle>`,
  );
  for (const { radius, ...at } of placed)
    taken.push({ x: at.x - radius, y: at.y - radius, width: 2 * radius, height: 2 * radius });
  return [...circles, ...numbers(placed), ...names, ...nameKernels(placed, taken)];
}

/** Of the table's rows, in the dots that are large enough and whose middle is free. */
function numbers(placed: readonly Placed[]): string[] {
  const written: Box[] = [];
  return placed.flatMap(({ index, radius, x, y }) => {
    const box = { x: x - 7, y: y - 6, width: 14, height: 12 };
    if (radius < LEGIBLE || written.some((other) => overlap(box, other))) return [];
    written.push(box);
    return [
      `<text class="number" x="${c(x)}" y="${c(y)}" dy="0.35em" text-anchor="middle">${index + 1}</text>`,
    ];
  });
}

/** Each name once, beside the dot that took the most time. */
function nameKernels(placed: readonly Placed[], taken: Box[]): string[] {
  const first = placed.filter(
    ({ kernel }, i) => placed.findIndex((other) => other.kernel.name === kernel.name) === i,
  );
  return first.slice(0, NAMED).flatMap(({ kernel, ...at }) => {
    const found = room(kernel.name, at, taken);
    if (!found) return [];
    const { box, away } = found;
    taken.push(box);
    const [from, to] = [box.x, box.x + box.width];
    const end = `${c(Math.max(from, Math.min(at.x, to)))} ${c(box.y < at.y ? box.y + box.height - 1 : box.y + 2)}`;
    const lead = away ? `<path class="lead" d="M${c(at.x)} ${c(at.y)}L${end}"/>` : "";
    return [
      `${lead}<text class="name" x="${c(from)}" y="${c(box.y + 11)}">${escapeHtml(kernel.name)}</text>`,
    ];
  });
}

const overlap = (a: Box, b: Box): boolean =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/** A free place for a dot's name, as near as there is one. */
function room(
  text: string,
  dot: { x: number; y: number; radius: number },
  taken: readonly Box[],
): { box: Box; away: boolean } | undefined {
  const [width, height] = [6.3 * text.length, 14];
  for (const distance of [0, 16, 32, 50, 70, 95])
    for (const angle of [0, 180, 325, 35, 215, 145, 270, 90, 300, 60, 240, 120]) {
      const off = dot.radius + 3 + distance;
      const [dx, dy] = [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
      // The box's side that faces the dot.
      const left = dot.x + off * dx - (width * (1 - Math.sign(Math.round(2 * dx)))) / 2;
      const box = { x: left, y: dot.y + off * dy - height / 2, width, height };
      const inside = left > LEFT && left + width < RIGHT && box.y > TOP && box.y + height < BOTTOM;
      if (inside && !taken.some((other) => overlap(box, other))) return { box, away: distance > 0 };
    }
  return undefined;
}

/** 10 ** at, as "0.01", "100", "1e4". */
const power = (at: number): string => (at < 0 ? (10 ** at).toFixed(-at) : at < 4 ? `${10 ** at}` : `1e${at}`);

/** 10 ** at FLOP/s, as "10 G". */
const ratePower = (at: number): string =>
  at < 0 ? power(at) : withPrefix(10 ** at, "").replace(/\.0+ /, " ");

/** A kernel in one line, for those who point at it. */
function describe(
  { name, shape, time, calls, flopsPerSecond, ceiling, share }: KernelGroup,
  index: number,
): string {
  const speed = flopsPerSecond === null ? "" : `, ${withPrefix(flopsPerSecond, "FLOP/s")}`;
  const of = share === null ? "" : `, ${percent(share)} of ${ceiling}`;
  return `${index + 1} ${name} ${showShape(shape)}: ${digits(time.median)} ms in ${calls} calls${speed}${of}`;
}
