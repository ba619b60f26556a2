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
import { measureSpeed } from "../src/records/speed.ts";
import { formatBytes } from "./format.ts";
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
  example: "wavegate doctor",
  options: deviceOptions,
  async main({ values, print, printJson }) {
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
    const advice = advise(device, tests);
    for (const line of advice) row("advice", line);
    printJson({ ...machine, adapters: names, adapter, selfTest: tests, speed, advice });
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

function advise({ info, limits }: Device, tests: readonly SelfTest[]): string[] {
  const wrong = tests.filter((test) => !test.pass).map((test) => test.operator);
  return [
    wrong.length > 0 && `${wrong.join(", ")} miscomputed: update the driver, or choose another --adapter`,
    info.cpu && "this adapter is the CPU; a GPU with its own driver is many times faster",
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
