/** `wavegate doctor`: adapters, features and limits of this machine, a numeric self-test, and what to install. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { totalmem } from "node:os";
import process from "node:process";
import * as v from "valibot";
import { type MatrixConfig, matrixConfigs } from "../src/gpu/adapter.ts";
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { availableMemory } from "../src/host/memory.ts";
import { object, parse } from "../src/io/schema.ts";
import { loadRecords } from "../src/records/mod.ts";
import { defineVerb, isMain, runVerb } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { type SelfTest, selfTest } from "../src/records/self_test.ts";
import { measurePeaks, type Peaks, type Rate, readPeaks, writePeaks } from "../src/records/peaks.ts";
import { measureSpeed } from "../src/records/speed.ts";
import { improved, readTuning, type Tuned } from "../src/tune/tuning.ts";
import { formatBytes, formatRate } from "./format.ts";
import { byHand, readOsRelease } from "./mesa.mjs";
import { SUMMARIES } from "./summaries.ts";
import { vulkanDrivers } from "./vulkan.ts";

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** Size of the largest tensor of HuBERT-large on 15 s of audio. */
const ROOMY = 96 * 2 ** 20;

export const verb = defineVerb({
  name: "doctor",
  summary: SUMMARIES.doctor,
  usage: "[options]",
  example: "wavegate doctor --peaks",
  options: {
    ...deviceOptions,
    peaks: {
      type: "boolean",
      help: "measure this adapter's ceilings, some 10 s long, and remember them for `wavegate profile`",
    },
  },
  async main({ values, print, printJson, note }) {
    const host = await currentHost();
    const drivers = vulkanDrivers();
    const machine = {
      host: host.describe(),
      dawn: dawnVersion(),
      memory: { total: totalmem(), free: availableMemory() },
      drivers,
    };
    const row = (name: string, value: string) => print(`${name.padEnd(11)} ${value}`);
    row("host", machine.host);
    row(
      "webgpu",
      `Dawn by npm webgpu ${machine.dawn}${host.name === "deno" ? "; wgpu, built into Deno" : ""}`,
    );
    row("memory", `${formatBytes(machine.memory.total)}, ${formatBytes(machine.memory.free)} free`);
    for (const { manifest, apiVersion } of drivers ?? []) row("driver", `${manifest} (Vulkan ${apiVersion})`);

    const names = drivers?.length === 0 ? [] : await adapterNames(host, values.implementation);
    if (names.length === 0) {
      const error = remedy(drivers?.length);
      printJson({ ...machine, adapters: [], adapter: null, error });
      throw new Error(error);
    }
    row("adapters", names.join(", "));
    const device = await openChosenDevice(host, values);
    const adapter = await describe(host, device, values);
    showAdapter(adapter, row);

    const tests = await selfTest(device, await loadRecords());
    for (const line of summarise(tests)) row("self-test", line);
    const speed = await measureSpeed(device);
    row(
      "speed",
      `${speed.gflops.toPrecision(3)} GFLOP/s (1024³ product), ${speed.gigabytesPerSecond.toPrecision(3)} GB/s (copy)`,
    );
    const peaks = await peaksOf(host, device, values.peaks === true, (line) => note(`doctor: ${line}`));
    for (const line of peaks ? showPeaks(peaks) : []) row("peaks", line);
    const tuned = await readTuning(host, device, (line) => note(`doctor: ${line}`));
    row("tuning", showTuning(tuned));
    const advice = advise(device, tests, peaks);
    for (const line of advice) row("advice", line);
    printJson({ ...machine, adapters: names, adapter, selfTest: tests, speed, peaks, tuned, advice });
    device.dispose();
    return tests.every((test) => test.pass) ? 0 : 1;
  },
});

type Choice = { adapter?: string; implementation?: "built-in" | "dawn" };

/** All features that have a name. */
async function adapterNames(host: Host, implementation: Choice["implementation"]): Promise<string[]> {
  try {
    await host.gpu({ adapter: "\u0001", implementation });
    return [];
  } catch (error) {
    const { available } = error as { available?: string[] };
    if (!available) throw error;
    return [...new Set(available)];
  }
}

async function describe(host: Host, device: Device, { adapter: name, implementation }: Choice) {
  const gpu = await host.gpu({ adapter: name, implementation });
  const adapter = await host.quiet(() => gpu.requestAdapter({ powerPreference: "high-performance" }));
  const info = adapter?.info;
  return {
    name: device.info.name,
    /** Driver and version, where the implementation gives them. */
    description: info?.description ?? "",
    vendor: device.info.vendor,
    architecture: device.info.architecture,
    cpu: device.info.cpu,
    path: device.info.path,
    subgroups: {
      smallest: info?.subgroupMinSize,
      largest: info?.subgroupMaxSize,
      used: device.info.subgroup,
    },
    features: {
      f16: device.info.f16,
      subgroups: device.gpu.features.has("subgroups"),
      timestamps: device.info.timestamps,
    },
    /** All subgroup matrices that the adapter offers, and those that products of f16 weights can go by, the first used. */
    matrices: {
      offered: adapter ? matrixConfigs(adapter) : [],
      usable: device.info.matrices,
    },
    limits: Object.fromEntries(LIMITS.map((limit) => [limit, device.limits[limit]])),
    bufferMemory: device.info.cpu ? host.freeMemory() : undefined,
  };
}

function showAdapter(
  adapter: Awaited<ReturnType<typeof describe>>,
  row: (name: string, value: string) => void,
): void {
  const { features, subgroups, matrices, limits } = adapter;
  row("adapter", `${adapter.name}${adapter.cpu ? " (on the CPU)" : ""}`);
  row("", [adapter.description, adapter.vendor, adapter.architecture].filter(Boolean).join(", "));
  const has = Object.entries(features).map(([name, there]) => `${there ? "" : "no "}${name}`);
  row("features", has.join(", "));
  row(
    "subgroups",
    `${subgroups.smallest ?? "?"} to ${subgroups.largest ?? "?"} lanes, ${subgroups.used || "none"} usable`,
  );
  row("matrices", showMatrices(matrices.offered, matrices.usable));
  row("path", `${adapter.path}: what kernels choose workgroups and tiles by`);
  for (const [name, value] of Object.entries(limits))
    row("limit", `${name} ${/Size$/.test(name) ? formatBytes(value) : value}`);
  if (adapter.bufferMemory)
    row("limit", `GPU buffers ${formatBytes(adapter.bufferMemory)}, which is main memory`);
}

/** The peaks that are remembered, or with `anew` those that are measured now and remembered. */
async function peaksOf(
  host: Host,
  device: Device,
  anew: boolean,
  note: (line: string) => void,
): Promise<Peaks | undefined> {
  if (!anew) return await readPeaks(host, device, note);
  const peaks = await measurePeaks(device);
  await writePeaks(host, peaks).catch(({ message }: Error) =>
    note(`Cannot remember the peaks: ${message.replace(/^Cannot/, "cannot")}`),
  );
  return peaks;
}

/** A line for each peak, with how far its times lay apart. */
function showPeaks(peaks: Peaks): string[] {
  const { f32, f16, matrix, copy, workgroup, dispatch, upload, readback, spread = {} } = peaks;
  const line = (name: Rate, what: string, value: number | undefined, unit: string) =>
    value !== undefined &&
    `${what.padEnd(24)} ${formatRate(value, unit).padStart(12)}${showSpread(spread[name])}`;
  return [
    `measured ${peaks.measured.slice(0, 10)}, ${peaks.adapter}, ${peaks.driver}`,
    line("f32", "f32 multiply-add", f32, "FLOP/s"),
    line("f16", "f16 multiply-add", f16, "FLOP/s"),
    line("matrix", "subgroup matrices", matrix, "FLOP/s"),
    line("copy", "copy, read + written", copy, "B/s"),
    line("workgroup", "workgroup memory, read", workgroup, "B/s"),
    line("dispatch", "dispatches in one pass", 1 / dispatch, "/s"),
    line("upload", "upload", upload, "B/s"),
    line("readback", "readback", readback, "B/s"),
  ].filter((each) => each !== false);
}

/** Whether kernels are launched otherwise than by default. */
function showTuning(tuned: readonly Tuned[]): string {
  if (tuned.length === 0)
    return "none: kernels are launched by default; `wavegate tune` measures what is faster here";
  return `${improved(tuned).length} of ${tuned.length} classes of shapes are launched otherwise than by default`;
}

const showSpread = (spread: number | undefined): string =>
  spread === undefined ? "" : `  ± ${(50 * spread).toFixed(0)} %`;

function showMatrices(offered: readonly MatrixConfig[], [used]: readonly MatrixConfig[]): string {
  const show = (c: MatrixConfig) => `${c.componentType}→${c.resultComponentType} ${c.M}×${c.N}×${c.K}`;
  if (offered.length === 0) return "none";
  return `${[...new Set(offered.map(show))].join(", ")}; f16 weights by ${used ? show(used) : "none of them"}`;
}

/** A line for all that are right, and one for each that is wrong. */
function summarise(tests: readonly SelfTest[]): string[] {
  const far = ({ operator, relL2 }: SelfTest) => `${operator} ${relL2.toExponential(1)} from float64`;
  const right = tests.filter((test) => test.pass).sort((a, b) => b.relL2 - a.relL2);
  return [
    ...(right.length > 0 ? [`${right.length} operators pass; farthest is ${far(right[0])}`] : []),
    ...tests.filter((test) => !test.pass).map((test) => `${far(test)}  FAILS`),
  ];
}

/** Interquartile range over the median from which a peak is no more than a guess. */
const UNSTEADY = 0.25;

function advise(
  { info, limits }: Device,
  tests: readonly SelfTest[],
  { spread = {} }: Pick<Peaks, "spread"> = {},
): string[] {
  const unsteady = (["f32", "copy"] as const).filter((rate) => (spread[rate] ?? 0) > UNSTEADY);
  const wrong = tests.filter((test) => !test.pass).map((test) => test.operator);
  return [
    wrong.length > 0 && `${wrong.join(", ")} miscomputed: update the driver, or choose another --adapter`,
    info.cpu && "this adapter is the CPU; a GPU with its own driver is many times faster",
    unsteady.length > 0 &&
      `unsteady peaks (${unsteady.join(", ")}): \`wavegate doctor --peaks\` again when nothing else runs`,
    !info.f16 && "no f16: weights stay f32, twice the memory",
    !info.timestamps && "no timestamps: `wavegate profile` cannot time kernels here",
    limits.maxStorageBufferBindingSize < ROOMY &&
      `one binding holds ${formatBytes(limits.maxStorageBufferBindingSize)}: long recordings will not fit`,
  ].filter((line) => line !== false);
}

/** What to install, where there are no drivers or none that works. */
function remedy(drivers: number | undefined): string {
  const found = "Cannot find a WebGPU adapter";
  if (drivers === undefined) return `${found}: install the graphics driver of this machine's GPU`;
  const why = `no Vulkan driver ${drivers === 0 ? "is installed" : "that is installed works"}`;
  return `${found}: ${why}; ${byHand(readOsRelease())}`;
}

function dawnVersion(): string {
  try {
    const path = createRequire(import.meta.url).resolve("webgpu/package.json");
    return parse(object({ version: v.string() }), JSON.parse(readFileSync(path, "utf8")), path).version;
  } catch {
    return `not installed for ${process.platform} ${process.arch}`;
  }
}

if (isMain(import.meta)) await runVerb(verb);
