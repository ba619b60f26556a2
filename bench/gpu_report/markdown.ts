/** The report as a page of Markdown. */
import type { Profile } from "../../src/profile/profile.ts";
import { quantile } from "../../src/profile/statistics.ts";
import { formatBytes, formatRate, formatSeconds } from "../../tools/format.ts";
import type { Doctor, Report, Row, Section } from "./report.ts";

type Cell = string | number | undefined;
const table = (header: readonly string[], rows: readonly (readonly Cell[])[]): string[] => {
  const line = (cells: readonly Cell[]) =>
    `| ${cells.map((cell) => String(cell ?? "–").replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = `|${header.map((_, i) => (i === 0 ? " --- " : " ---: ")).join("|")}|`;
  return [line(header), rule, ...rows.map(line), ""];
};
/** Three digits. */
const ms = (x: number | undefined): string =>
  x === undefined ? "–" : x >= 100 ? x.toFixed(0) : x.toPrecision(3);
const times = (ratio: number): string => `${ratio.toFixed(2)}×`;
const few = (x: number): string => x.toExponential(1);

/** The whole page. */
export function markdown(report: Report): string {
  const { device, quick, date, commit, host, sections, budget } = report;
  const took = sections.reduce((sum, { seconds }) => sum + seconds, 0);
  const lines = [
    `# ${device}`,
    "",
    `Wavegate at commit ${commit ?? "unknown"}, ${date.slice(0, 16).replace("T", " ")} UTC, ${host}.`,
    ...(quick ? ["", "**Tiny sizes (--quick): this shows that everything runs, and no speed.**"] : []),
    "",
    ...table(
      ["section", "", "s", "of"],
      sections.map(({ name, title, state, error, seconds, limit }) => [
        ...[`${name}: ${title}`, error ? `${state}: ${error}` : state, seconds.toFixed(0), limit.toFixed(0)],
      ]),
    ),
    `${took.toFixed(0)} s of ${budget}.`,
    "",
    ...machine(report.doctor),
    ...models(sections),
  ];
  const own: Readonly<Record<string, (rows: readonly Row[]) => string[]>> = {
    parity,
    kernels,
    profile,
    sweep,
    recording,
  };
  for (const section of sections) {
    const body = section.rows.filter((row) => row.note === undefined);
    const show = own[section.name];
    if (show && body.length > 0) lines.push(`## ${capital(section.title)}`, "", ...show(body));
  }
  return `${[...lines, ...notes(sections)].join("\n").trimEnd()}\n`;
}

const capital = (text: string) => text[0].toUpperCase() + text.slice(1);

function machine(doctor: Doctor | undefined): string[] {
  if (!doctor?.adapter) return [];
  const { adapter, peaks } = doctor;
  const features = Object.entries(adapter.features).map(([name, there]) => `${there ? "" : "no "}${name}`);
  const rates = [
    ...(["f32", "f16", "matrix"] as const).map((name) => [name, "FLOP/s"] as const),
    ...(["copy", "workgroup", "upload", "readback"] as const).map((name) => [name, "B/s"] as const),
  ];
  const known = rates.filter(([name]) => typeof peaks?.[name] === "number");
  const shown = known.map(([name, unit]) => [name, formatRate(peaks?.[name] as number, unit)]);
  const dispatch = typeof peaks?.dispatch === "number" ? [["dispatch", formatSeconds(peaks.dispatch)]] : [];
  return [
    "## Machine",
    "",
    `${adapter.name}; ${peaks?.driver ?? adapter.description}; path ${adapter.path}; ${features.join(", ")}.`,
    "",
    ...(peaks ? table(["ceiling", ""], [...shown, ...dispatch]) : []),
  ];
}

/** A row of models.ts or of gpu_report.py. */
interface Model {
  readonly what: string;
  readonly mode: string;
  readonly dtype?: string;
  readonly precision?: string;
  readonly compiled?: boolean;
  readonly once: number;
  readonly inARow: number;
  readonly gpu?: number;
  readonly dispatches?: number;
  readonly peak?: number;
  readonly firstResult?: number;
  readonly firstForward?: number;
  readonly weightsMade?: number;
}

function models(sections: readonly Section[]): string[] {
  const rows = sections
    .filter(({ name }) => /^(hubert|bert)-/.test(name))
    .flatMap((section) => section.rows as unknown as Model[])
    .filter((row) => row.what && row.mode);
  const torch = (sections.find(({ name }) => name === "pytorch")?.rows ?? []) as unknown as Model[];
  if (rows.length === 0 && !torch.some(({ what }) => what)) return [];
  const plain = ["forward", "training step"];
  const whats = [...new Set([...rows, ...torch].flatMap(({ what }) => (what ? [what] : [])))];
  const variants = [
    ...["f32", "f16"].map((dtype) => ({
      name: `Wavegate ${dtype}`,
      find: (what: string, mode: string) =>
        rows.find((r) => r.what === what && r.mode === mode && r.dtype === dtype),
    })),
    ...[false, true].flatMap((compiled) =>
      ["f32", "TF32", "bf16"].map((precision) => ({
        name: `${compiled ? "compiled" : "eager"} ${precision}`,
        find: (what: string, mode: string) =>
          torch.find(
            (r) => r.what === what && r.mode === mode && r.precision === precision && r.compiled === compiled,
          ),
      })),
    ),
  ].filter(({ find }) => whats.some((what) => plain.some((mode) => find(what, mode))));
  const cases = whats.flatMap((what) => plain.map((mode) => ({ what, mode })));
  const figures = (of: (model: Model) => number | undefined) =>
    table(
      ["ms", ...variants.map(({ name }) => name)],
      cases.map(({ what, mode }) => [
        `${what}, ${mode}`,
        ...variants.map(({ find }) => {
          const found = find(what, mode);
          return found ? ms(of(found)) : undefined;
        }),
      ]),
    );
  return [
    "## Models",
    "",
    "One run, waited for (median, by the wall's clock):",
    "",
    ...figures(({ once }) => once),
    "Many in a row, waited for once:",
    "",
    ...figures(({ inARow }) => inARow),
    "On the GPU's clock: the sum of Wavegate's dispatches, each in a pass of its own; of PyTorch the time between two events around a run:",
    "",
    ...figures(({ gpu }) => gpu),
    ...ratios(rows, torch, whats),
    ...more(rows),
  ];
}

/** What is held against what: the dtypes that are nearest to one another. */
const HELD: readonly (readonly [dtype: string, precision: string])[] = [
  ["f32", "f32"],
  ["f16", "bf16"],
];

function ratios(rows: readonly Model[], torch: readonly Model[], whats: readonly string[]): string[] {
  const all = whats.flatMap((what) =>
    ["forward", "training step"].flatMap((mode) =>
      HELD.flatMap(([dtype, precision]) => {
        const own = rows.find((r) => r.what === what && r.mode === mode && r.dtype === dtype);
        const other = torch.find(
          (r) => r.what === what && r.mode === mode && r.precision === precision && !r.compiled,
        );
        if (!own || !other) return [];
        return [
          [
            `${what}, ${mode}, ${dtype} / eager ${precision}`,
            times(own.once / other.once),
            times(own.inARow / other.inARow),
          ],
        ];
      }),
    ),
  );
  if (all.length === 0) return [];
  return [
    "Time of Wavegate in that of PyTorch, below 1 is faster:",
    "",
    ...table(["", "one run", "in a row"], all),
  ];
}

function more(rows: readonly Model[]): string[] {
  const replayed = rows.filter(({ mode }) => mode === "forward, replayed");
  const first = rows.filter(({ firstResult }) => firstResult !== undefined);
  return [
    ...(first.length > 0 ? ["First result in a new process, no compiled shader on the disk:", ""] : []),
    ...(first.length > 0
      ? table(
          ["", "process begin to result", "of that the forward pass", "besides: random weights"],
          first.map(({ what, dtype, firstResult = 0, firstForward = 0, weightsMade = 0 }) => [
            `${what}, ${dtype}`,
            ...[firstResult, firstForward, weightsMade].map((x) => formatSeconds(x / 1000)),
          ]),
        )
      : []),
    ...(replayed.length > 0
      ? table(
          ["replayed forward, ms", "one run", "in a row", "GPU"],
          replayed.map(({ what, dtype, once, inARow, gpu }) => [
            `${what}, ${dtype}`,
            ms(once),
            ms(inARow),
            ms(gpu),
          ]),
        )
      : []),
    ...(rows.length > 0
      ? table(
          ["", "dispatches", "GPU buffers at most"],
          rows
            .filter(({ mode }) => mode !== "forward, replayed")
            .map(({ what, dtype, mode, dispatches, peak }) => [
              ...[
                `${what}, ${mode}, ${dtype}`,
                dispatches,
                peak === undefined ? undefined : formatBytes(peak),
              ],
            ]),
        )
      : []),
  ];
}

interface Parity {
  readonly kind: string;
  readonly name: string;
  readonly dtype: string;
  readonly samples: number;
  readonly relL2: number;
  readonly faults: number;
  readonly first?: string;
}

function parity(rows: readonly Row[]): string[] {
  const all = rows as unknown as Parity[];
  const groups = [...new Set(all.map(({ kind, dtype }) => `${kind} ${dtype}`))];
  const lines = table(
    ["against", "dtype", "what", "comparisons", "farthest", "wrong"],
    groups.map((group) => {
      const of = all.filter(({ kind, dtype }) => `${kind} ${dtype}` === group);
      const far = of.reduce((most, each) => (each.relL2 > most.relL2 ? each : most));
      const against = { operator: "float64", PyTorch: "PyTorch", "f16 weights": "f32 weights" }[far.kind];
      return [
        ...[
          against,
          far.dtype,
          far.kind === "operator" ? `${of.length} operators` : `${of.length} models and cases`,
        ],
        of.reduce((sum, { samples }) => sum + samples, 0),
        `${few(far.relL2)} (${far.name})`,
        of.reduce((sum, { faults }) => sum + faults, 0),
      ];
    }),
  );
  const wrong = all.flatMap(({ name, dtype, first }) => (first ? [`- ${name} in ${dtype}: ${first}`] : []));
  return [...lines, ...wrong, ...(wrong.length > 0 ? [""] : [])];
}

interface Raced {
  readonly median: number;
}
interface Kernel {
  readonly kernel: string;
  readonly dtype: string;
  readonly what: string;
  readonly shape: Readonly<Record<string, number>>;
  readonly before: Raced;
  readonly after: Raced;
  readonly flops: number;
}

const sizes = (shape: Readonly<Record<string, unknown>>): string =>
  Object.entries(shape)
    .filter(([, value]) => value !== false)
    .map(([name, value]) => (value === true ? name : `${name}=${value}`))
    .join(" ");
const speed = (flops: number, { median }: Raced): string => formatRate((1000 * flops) / median, "FLOP/s");

const kernels = (rows: readonly Row[]): string[] =>
  table(
    ["", "shape", "former ms", "today ms", "faster by", "today"],
    (rows as unknown as Kernel[]).map(({ kernel, what, dtype, shape, before, after, flops }) => [
      ...[`${kernel}: ${what}, ${dtype}`, sizes(shape), ms(before.median), ms(after.median)],
      ...[times(before.median / after.median), speed(flops, after)],
    ]),
  );

interface Sweep {
  readonly what: string;
  readonly dtype: string;
  readonly shape: { readonly M: number; readonly N: number; readonly K: number };
  readonly tiles: readonly (Raced & { readonly name: string })[];
}

/** The fastest three of each shape, and how far from them the table's choice is. */
const sweep = (rows: readonly Row[]): string[] =>
  table(
    ["", "shape", "as chosen, ms", "best", "choice / best", "then"],
    (rows as unknown as Sweep[]).map(({ what, dtype, shape, tiles }) => {
      const chosen = tiles.find(({ name }) => name === "as chosen");
      const [best, ...others] = tiles.filter(({ name }) => name !== "as chosen");
      if (!chosen || !best) return [`${what}, ${dtype}`, sizes(shape), chosen && ms(chosen.median)];
      const { M, N, K } = shape;
      return [
        ...[`${what}, ${dtype}`, sizes(shape), `${ms(chosen.median)} (${speed(2 * M * N * K, chosen)})`],
        `${best.name} ${ms(best.median)}`,
        times(chosen.median / best.median),
        others
          .slice(0, 2)
          .map(({ name, median }) => `${name} ${ms(median)}`)
          .join("; "),
      ];
    }),
  );

function profile([row]: readonly Row[]): string[] {
  const {
    command,
    options,
    plain,
    wall,
    parts,
    kernels: all,
    dispatches,
  } = row as unknown as Profile & {
    dispatches: number;
  };
  const part = (name: string, { median }: { median: number }) => [name, ms(median)];
  return [
    `\`${command}\` (${sizes(options)}): ${dispatches} dispatches.`,
    "",
    ...table(
      ["ms", ""],
      [
        part("without the profiler", plain),
        part("with it", wall),
        part("GPU in dispatches", parts.gpu),
        part("CPU records or submits, GPU idle", parts.cpu),
        part("GPU between dispatches", parts.gaps),
        part("CPU waits, GPU done", parts.wake),
        part("unexplained", parts.unexplained),
      ],
    ),
    ...table(
      ["kernel", "shape", "calls", "ms", "of the GPU's", "rate", "of the ceiling"],
      all
        .slice(0, 25)
        .map(({ name, shape, calls, time, flopsPerSecond, bytesPerSecond, ceiling, share }) => [
          ...[
            name,
            sizes(shape),
            calls,
            ms(time.median),
            `${((100 * time.median) / parts.gpu.median).toFixed(1)} %`,
          ],
          ceiling === "copy" || flopsPerSecond === null
            ? bytesPerSecond === null
              ? undefined
              : formatRate(bytesPerSecond, "B/s")
            : formatRate(flopsPerSecond, "FLOP/s"),
          share === null ? undefined : `${(100 * share).toFixed(0)} % of ${ceiling}`,
        ]),
    ),
  ];
}

const recording = (rows: readonly Row[]): string[] =>
  table(
    ["µs of CPU", "least", "median"],
    (rows as unknown as { name: string; runs: { wall: number[] }[] }[]).map(({ name, runs }) => {
      const all = runs.flatMap(({ wall }) => wall);
      return [name, ms(1000 * Math.min(...all)), ms(1000 * quantile(all, 0.5))];
    }),
  );

function notes(sections: readonly Section[]): string[] {
  const all = sections.flatMap(({ name, rows }) =>
    rows.flatMap(({ note }) => (typeof note === "string" ? [`- ${name}: ${note}`] : [])),
  );
  return all.length > 0 ? ["## Notes", "", ...all] : [];
}
