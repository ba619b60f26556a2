/**
 * The process that compiles for a target: WebGPU on the driver that the layer stands before. The parent (compile.ts) sets the
 * environment and gives an order as JSON; the layer writes what comes out beside OUT/INDEX, this process OUT/pipelines.json.
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { type Device, openDevice } from "../../src/gpu/device.ts";
import { twin, type Variant } from "../../src/gpu/kernel.ts";
import { currentHost } from "../../src/host/current.ts";
import { packagePipelines, showPipeline, type Used } from "./workload.ts";

/** What the process is to compile. */
export interface Order {
  readonly out: string;
  /** A kernel that is not the package's. */
  readonly own?: {
    readonly name: string;
    readonly file: string;
    readonly entries: readonly string[];
    readonly variant: Variant;
  };
  /** The package's kernels: those whose name, or NAME.ENTRY, begins with one of these; all where there is none. */
  readonly names?: readonly string[];
}

/** What it says of the device, and of each pipeline in their order. */
export interface Compiled {
  readonly device: string;
  readonly pipelines: readonly (Used & { readonly line: string })[];
}

/** The entry points that an own kernel is compiled for: those asked for, else all in its text. */
function ownPipelines({ name, file, entries, variant }: NonNullable<Order["own"]>): Used[] {
  const source = readFileSync(file, "utf8");
  twin(name, source);
  const all = [...source.matchAll(/@compute\b[^{;]*?\bfn\s+(\w+)/g)].map((match) => match[1]);
  if (all.length === 0) throw new Error(`Cannot compile ${file}: it has no @compute entry point`);
  return (entries.length > 0 ? entries : all).map((entry) => ({ name, entry, variant, use: "sample" }));
}

const chosen = (names: readonly string[]) => (each: Used) =>
  names.length === 0 ||
  names.some((name) => (name.includes(".") ? `${each.name}.${each.entry}` : each.name) === name);

async function compile(device: Device, order: Order): Promise<void> {
  const found = order.own
    ? ownPipelines(order.own)
    : (await packagePipelines(device)).filter(chosen(order.names ?? []));
  for (const [i, { name, entry, variant }] of found.entries()) {
    process.env.WAVEGATE_ISA_OUT = `${order.out}/${i}`;
    device.kernels.pipeline(name, entry, variant);
    delete process.env.WAVEGATE_ISA_OUT;
    await device.idle(); // throws what the compiler said
  }
  const pipelines = found.map((each) => ({ ...each, line: showPipeline(each) }));
  const compiled: Compiled = { device: device.info.name, pipelines };
  writeFileSync(`${order.out}/pipelines.json`, JSON.stringify(compiled));
}

try {
  const device = await openDevice(await currentHost(), { implementation: "dawn" });
  await compile(device, JSON.parse(process.argv[2]) as Order);
  process.exit(0);
} catch (error) {
  process.stderr.write(`wavegate-isa: ${(error as Error).message}\n`);
  process.exit(1);
}
