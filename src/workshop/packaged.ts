/** A kernel or an operator of the package: its record says what is right, and at what sizes it is timed. */
import { type Dispatched, describeRun } from "../gpu/cost.ts";
import type { Device } from "../gpu/device.ts";
import type { Variant } from "../gpu/kernel.ts";
import { KERNELS, type Path, PATHS } from "../gpu/launch.ts";
import { nearest } from "../io/nearest.ts";
import type { Array64 } from "../records/float64.ts";
import { cast } from "../ops/convert.ts";
import { reshape } from "../ops/elementwise.ts";
import { loadRecords } from "../records/mod.ts";
import type { OpInfo, Sample } from "../records/op_info.ts";
import { cannotRun, checkSample, float64Of, floatsOf, leavesOf, upload } from "../records/run.ts";
import { vjp } from "../tensor/autograd.ts";
import { scope } from "../tensor/scope.ts";
import { sameShape, type Shape, showShape } from "../tensor/shape.ts";
import { type DType, Tensor } from "../tensor/tensor.ts";
import {
  type Bout,
  type Candidate,
  compare,
  type Finding,
  type Maker,
  showDispatch,
  type Work,
} from "./candidate.ts";
import type { Source } from "./spec.ts";

/** What of the package is to be tried. */
export interface PackagedOrder {
  readonly name: string;
  /** Of inputs, by their names. */
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly dtype: "f32" | "f16" | undefined;
  /** Those to try; all that suit the adapter where there is none. */
  readonly paths: readonly Path[];
  readonly against: Source | undefined;
  /** Time forward and backward together. */
  readonly backward: boolean;
  /** Of references, from run to run. */
  readonly cache: Map<string, unknown>;
  /** What came out of a record's samples, by record, path and source. */
  readonly checked: Map<string, readonly Finding[]>;
  readonly open: (path?: Path) => Promise<Device>;
}

const plain = (name: string) => name.toLowerCase().replaceAll("_", "");

/** The records of a name: the operator's, or those of all operators that run the kernel. Throws, with a suggestion, where there is none. */
export async function recordsOf(name: string, open: () => Promise<Device>): Promise<OpInfo[]> {
  const records = await loadRecords();
  const named = records.filter((record) => plain(record.name) === plain(name));
  if (named.length > 0) return named;
  if ((KERNELS as readonly string[]).includes(name)) {
    const device = await open();
    try {
      return records.filter(({ samples: [sample] }) => {
        if (cannotRun(device, sample)) return false;
        return kernelsOf(device, sample).includes(name);
      });
    } finally {
      device.dispose();
    }
  }
  const names = [...new Set([...KERNELS, ...records.map((record) => record.name)])];
  const near = nearest(name, names, Math.min(3, Math.max(1, name.length >> 1)));
  const hint =
    near === undefined
      ? `there are ${names.sort().join(", ")}; or a file NAME.wgsl`
      : `did you mean ${near}?`;
  throw new RangeError(`Cannot find kernel ${name}: ${hint}`);
}

/** Names of the kernels that a call dispatches. */
function kernelsOf(device: Device, sample: Sample): string[] {
  const tensors = upload(device, sample.inputs());
  try {
    return [...new Set(device.plan(() => void sample.run(tensors, device)).map(({ kernel }) => kernel))];
  } finally {
    for (const tensor of Object.values(tensors)) tensor.release();
  }
}

/** A bout for each call of the records' benches. */
export async function packagedBouts(records: readonly OpInfo[], order: PackagedOrder): Promise<Bout[]> {
  const device = await order.open();
  try {
    const paths = pathsOf(device, order.paths);
    const bouts: Bout[] = [];
    for (const record of records)
      for (const sample of callsOf(device, record, order)) {
        const different = await differentPaths(device, sample, paths, order);
        const sources = order.against ? [undefined, order.against] : [undefined];
        bouts.push({
          shape: sample.title,
          makers: different.flatMap((path) =>
            sources.map((source) => makerOf(record, sample, path, source, order)),
          ),
        });
      }
    if (bouts.length === 0)
      throw new Error(
        `Cannot time ${order.name}: ${records.length > 0 ? "its record has no bench" : "no operator's first sample runs it"}`,
      );
    return bouts;
  } finally {
    device.dispose();
  }
}

/** On a GPU workgroups of 8 threads, as a CPU adapter wants them, are tried only where that is asked for. */
function pathsOf({ info }: Device, wanted: readonly Path[]): readonly Path[] {
  if (wanted.length > 0) return wanted;
  const others = PATHS.filter((path) => path !== info.path && (path !== "cpu" || info.cpu));
  return [info.path, ...others];
}

/** The paths on which the call dispatches something else than on those before. */
async function differentPaths(
  device: Device,
  sample: Sample,
  paths: readonly Path[],
  { open, paths: wanted }: PackagedOrder,
): Promise<Path[]> {
  const seen = new Set<string>();
  const found: Path[] = [];
  for (const path of paths) {
    const on =
      path === device.info.path
        ? device
        : await open(path).catch((error) => {
            if (wanted.includes(path)) throw error;
            return undefined;
          });
    if (!on) continue;
    const tensors = upload(on, sample.inputs());
    const plan = on.plan(() => void sample.run(tensors, on));
    const key = JSON.stringify(
      plan.map(({ kernel, entry, grid, variant }) => [kernel, entry, grid, variant]),
    );
    for (const tensor of Object.values(tensors)) tensor.release();
    if (on !== device) on.dispose();
    if (!seen.has(key) || wanted.includes(path)) found.push(path);
    seen.add(key);
  }
  return found;
}

/** The calls of a record's bench, or the first of them with other shapes, in the dtype that is asked for. */
function callsOf(device: Device, record: OpInfo, { shapes, dtype }: PackagedOrder): readonly Sample[] {
  const { bench } = record;
  const calls =
    Object.keys(shapes).length === 0 ? bench : bench.slice(0, 1).map((each) => each.vary({ shapes }));
  const typed = dtype === "f16" ? calls.map((each) => inF16(record, each)) : calls;
  for (const each of typed) {
    const why = cannotRun(device, each);
    if (why !== undefined) throw new Error(`Cannot run ${each.title}: ${why}`);
  }
  return typed;
}

/** The call with those inputs in f16 that a sample of the record has in f16, the most that one has; as exact as that one is. */
function inF16(record: OpInfo, call: Sample): Sample {
  const has = new Set(call.inputs().keys());
  const found = record.samples
    .map((sample) => ({
      sample,
      names: [...sample.blank()].filter(([, { dtype }]) => dtype === "f16").map(([name]) => name),
    }))
    .filter(({ names }) => names.length > 0 && names.every((name) => has.has(name)))
    .sort((a, b) => b.names.length - a.names.length)[0];
  if (!found)
    throw new Error(`Cannot run ${record.name} in f16: no sample of its record has an input in f16`);
  const { tolerance, gradientTolerance } = found.sample;
  const dtypes = Object.fromEntries(found.names.map((name) => [name, "f16" as DType]));
  return call.vary({ dtypes, tolerance, gradientTolerance });
}

function makerOf(
  record: OpInfo,
  sample: Sample,
  path: Path,
  source: Source | undefined,
  order: PackagedOrder,
): Maker {
  const key = `${path} ${source?.path ?? ""}`;
  return {
    ...{ name: path, source: source?.path ?? "package", key },
    open: async () => {
      const device = await order.open(path);
      if (source) device.kernels.substitute(substituted(device, sample, source, order.name), source.text);
      return device;
    },
    make: async (device) => makePackaged(device, record, sample, order, `${record.name} ${key}`),
  };
}

/** Which kernel a source takes the place of: the one that was named, the only one, or the one that the file is called by. */
function substituted(device: Device, sample: Sample, { path }: Source, name: string): string {
  const kernels = kernelsOf(device, sample);
  if (kernels.includes(name)) return name;
  if (kernels.length === 1) return kernels[0];
  const stem = path.replace(/^.*[/\\]/, "").replace(/\.wgsl$/, "");
  if (kernels.includes(stem)) return stem;
  throw new Error(
    `Cannot set ${path} against ${name}: it runs ${kernels.join(", ")}, a file called as one of them expected`,
  );
}

function makePackaged(
  device: Device,
  record: OpInfo,
  sample: Sample,
  order: PackagedOrder,
  key: string,
): Candidate {
  const inputs = sample.inputs();
  const tensors = upload(device, inputs);
  const leaves = leavesOf(inputs).map((name) => tensors[name]);
  const dy = order.backward ? cotangentOf(device, () => sample.run(tensors, device)) : undefined;
  const forward = () => scope(device, () => void sample.run(tensors, device));
  const both = () =>
    scope(device, () => {
      vjp(device, leaves, () => {
        // A view: the cotangent itself may become a gradient, which the scope releases.
        return { outputs: [sample.run(tensors, device)], cotangents: dy ? [reshape(dy, dy.shape)] : [] };
      });
    });
  if (order.backward && leaves.length === 0)
    throw new Error(`Cannot time the backward of ${record.name}: none of its inputs takes a gradient`);
  const run = order.backward ? both : forward;
  const planned = dispatchesOf(device, run);
  return {
    device,
    work: workOf(planned),
    dispatches: planned.map(({ kernel, entry, grid, variant }) =>
      showDispatch(`${kernel}.${entry}`, grid, variant),
    ),
    texts: new Map(
      planned.map(({ kernel, entry, compiled }) => [
        `${kernel}.${entry} ${JSON.stringify(compiled.flags ?? {})}`,
        device.kernels.expanded(kernel, compiled),
      ]),
    ),
    run,
    release: () => {
      dy?.release();
      for (const tensor of Object.values(tensors)) tensor.release();
    },
    async check(phase) {
      const findings = [...(order.checked.get(key) ?? (await checkSamples(device, record, phase)))];
      order.checked.set(key, findings.slice());
      phase("computing the reference");
      const call = `packaged ${sample.title} ${[...inputs].map(([, { dtype }]) => dtype).join()}`;
      const want = (order.cache.get(call) ?? sample.reference(float64Of(inputs))) as Array64;
      order.cache.set(call, want);
      phase("running");
      const y = scope(device, () => sample.run(tensors, device));
      const got = await floatsOf(y);
      if (!sameShape(y.shape, want.shape))
        throw new Error(
          `Cannot trust ${sample.title}: its shape is ${showShape(y.shape)}, not ${showShape(want.shape)}`,
        );
      if (!Object.values(tensors).includes(y)) y.release();
      // Sums of a model's size are longer than those of the samples.
      findings.push(compare("y", y.shape, got, want.data, Math.max(1e-5, sample.tolerance)));
      return findings;
    },
  };
}

/** Ones, of the shape and type of what a call gives. */
const cotangentOf = (device: Device, call: () => Tensor): Tensor =>
  scope(device, () => {
    const { size, shape, dtype } = call();
    return cast(Tensor.from(device, new Float32Array(size).fill(1), shape), dtype === "f16" ? "f16" : "f32");
  });

/** Every sample of a record, forward and gradients. */
async function checkSamples(
  device: Device,
  { samples }: OpInfo,
  phase: (text: string) => void,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const sample of samples) {
    if (cannotRun(device, sample)) continue;
    phase(`checking ${sample.title}`);
    for (const { what, got, want, tolerance } of await checkSample(device, sample))
      findings.push({
        ...compare(`${what} of ${sample.title}`, [want.length], got, want, tolerance),
        sample: true,
      });
  }
  return findings;
}

/** A dispatch, and the variant that is compiled for it. */
type Expanded = Dispatched & { readonly compiled: Variant };

/** What a body would dispatch; none of it is. Described at once: tensors that the body makes end with it. */
function dispatchesOf(device: Device, body: () => void): Expanded[] {
  const found: Expanded[] = [];
  const { recorder } = device;
  recorder.observer = {
    observe: (run) => void found.push({ ...describeRun(run), compiled: run.variant }),
  };
  try {
    body();
  } finally {
    recorder.observer = undefined;
  }
  return found;
}

function workOf(all: readonly Dispatched[]): Work {
  const flops = all.every((each) => each.flops !== undefined);
  return {
    flops: flops ? all.reduce((sum, each) => sum + (each.flops ?? 0), 0) : null,
    bytes: all.reduce((sum, each) => sum + each.bytes, 0),
    unit: all.find(({ unit }) => unit !== "f32")?.unit ?? "f32",
  };
}
