/** A kernel of one's own at one shape: its reference, and its variants as candidates. */
import type { Device } from "../gpu/device.ts";
import { type Bound, type Twin, twin } from "../gpu/kernel.ts";
import type { PoolBuffer } from "../gpu/pool.ts";
import type { Array64 } from "../records/float64.ts";
import { sizeOf } from "../tensor/shape.ts";
import { checkBounds } from "./bounds.ts";
import { bytesOf, decode, destroyBuffer, exactBuffer, filled, TOLERANCE, UNWRITTEN } from "./buffers.ts";
import { type Candidate, compare, type Finding, type Maker, showDispatch } from "./candidate.ts";
import { type Buffer, buffersOf, callOf, initialBytes, type OwnKernel, remember } from "./own_call.ts";
import { computeReference } from "./reference.ts";
import { evaluate, type Source, type Variant } from "./spec.ts";

let declared = 0;

/** The name by which a file is declared, once for each text; plainNames() takes the number away again. */
function declare({ path, text }: Source): Twin {
  const stem =
    path
      .replace(/^.*[/\\]/, "")
      .replace(/\.wgsl$/, "")
      .replace(/[^\w./-]/g, "_") || "kernel";
  const name = `@${stem}@${++declared}`;
  return twin(name, text);
}

/** Texts in which kernels are named as the files are. */
export const plainNames = (text: string): string => text.replace(/@([\w./-]+)@\d+/g, "$1");

/** One maker for each variant of a source. */
export function ownMakers(
  own: OwnKernel,
  source: Source,
  variants: readonly Variant[],
  open: () => Promise<Device>,
): Maker[] {
  const declaration = declare(source);
  return variants.map((variant) => ({
    name: showVariant(variant),
    source: source.path,
    key: "own",
    open,
    make: async (device) => await makeOwn(device, own, source, declaration, variant),
  }));
}

const showVariant = (variant: Variant): string =>
  Object.entries(variant)
    .map(([name, value]) => (value === true ? name : `${name}=${value}`))
    .join(" ");

async function makeOwn(
  device: Device,
  own: OwnKernel,
  source: Source,
  kernel: Twin,
  variant: Variant,
): Promise<Candidate> {
  const { json, spec } = own;
  const call = callOf(device, own, source, kernel, variant);
  const buffers = await buffersOf(device, own, source, call);
  const outputs = buffers.filter((buffer) => buffer.written);
  const made: PoolBuffer[] = [];
  const allocate = (name: string, bytes: number): PoolBuffer => {
    const buffer = exactBuffer(device, name, bytes);
    made.push(buffer);
    return buffer;
  };
  const release = () => {
    for (const buffer of made.splice(0)) destroyBuffer(device, buffer);
  };
  try {
    const bound: Record<string, Bound> = {};
    const pristine: [from: PoolBuffer, to: PoolBuffer, bytes: number][] = [];
    for (const buffer of buffers) {
      const bytes = initialBytes(buffer);
      const on = allocate(buffer.name, buffer.bytes);
      device.recorder.upload(on, bytes);
      bound[buffer.name] = { device, buffer: on, dtype: buffer.dtype, bytes: buffer.bytes };
      if (!buffer.written || !buffer.initial) continue;
      const copy = allocate(`${buffer.name} as it was`, buffer.bytes);
      device.recorder.upload(copy, bytes);
      pristine.push([copy, on, bytes.length]);
    }
    const run = (buffersOfRun: Readonly<Record<string, Bound>>) =>
      kernel.run(call.entry, buffersOfRun, call.dims, call.grid, {
        flags: call.flags,
        overrides: call.overrides,
      });
    const read = async (from: Readonly<Record<string, Bound>>, buffer: Buffer) =>
      decode(buffer.dtype, await device.read(from[buffer.name].buffer, buffer.bytes), sizeOf(buffer.shape));
    return {
      device,
      work: {
        flops:
          spec.cost.flops === undefined ? null : evaluate(json, "cost.flops", spec.cost.flops, call.numbers),
        bytes:
          spec.cost.bytes === undefined
            ? buffers.reduce(
                (sum, b) => sum + sizeOf(b.shape) * bytesOf(b.dtype) * (b.written && b.initial ? 2 : 1),
                0,
              )
            : evaluate(json, "cost.bytes", spec.cost.bytes, call.numbers),
        unit: "f32",
      },
      dispatches: [showDispatch(call.entry, call.grid, showVariant(variant))],
      texts: new Map([[`${source.path} ${JSON.stringify(call.flags)}`, call.text]]),
      reset:
        pristine.length === 0
          ? undefined
          : () => {
              for (const [from, to, bytes] of pristine) device.recorder.copy(from, 0, to, 0, bytes);
            },
      run: () => run(bound),
      release,
      async check(phase, note) {
        await device.precompile(() => run(bound));
        phase("computing the reference");
        const references = await referencesOf(device, own, buffers);
        phase("running");
        run(bound);
        await device.idle();
        const findings: Finding[] = [];
        for (const buffer of outputs) {
          const want = references.get(buffer.name);
          if (!want) continue;
          const got = await read(bound, buffer);
          const stood = decode(buffer.dtype, filled(8, UNWRITTEN[buffer.dtype]).buffer as ArrayBuffer, 1)[0];
          findings.push(
            compare(
              buffer.name,
              buffer.shape,
              got,
              want.data,
              spec.tolerance ?? TOLERANCE[buffer.dtype],
              (i) => !buffer.initial && Object.is(got[i], stood),
            ),
          );
        }
        if (findings.every(({ pass }) => pass)) {
          phase("checking its bounds");
          const unchecked = await checkBounds(device, own, source, call, buffers, run);
          if (unchecked !== undefined) note(`${source.path} ${unchecked}: its bounds are not checked`);
        }
        return findings;
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** What the outputs should be. */
async function referencesOf(
  device: Device,
  own: OwnKernel,
  buffers: readonly Buffer[],
): Promise<Map<string, Array64>> {
  const { host, json, spec, sizes, instead } = own;
  const inputs = new Map<string, Array64>();
  for (const { name, shape, initial } of buffers) if (initial) inputs.set(name, { shape, data: initial });
  const outputs = new Map(buffers.filter(({ written }) => written).map(({ name, shape }) => [name, shape]));
  const { reference } = spec;
  const key = `reference ${JSON.stringify(reference)} ${JSON.stringify(spec.buffers)} ${JSON.stringify(sizes)} ${buffers.map(({ dtype }) => dtype).join()}`;
  const keep =
    typeof reference === "object" &&
    !Object.values(spec.buffers).some(({ init }) => typeof init === "object");
  const found =
    reference === undefined
      ? await byOther(device, own, instead)
      : await remember(
          own.cache,
          key,
          keep,
          async () => await computeReference(reference, { host, json, sizes, inputs, outputs }),
        );
  if (![...outputs.keys()].some((name) => found.has(name)))
    throw new Error(
      `Cannot use ${json}: its reference gives none of the outputs ${[...outputs.keys()].join(", ")}`,
    );
  return found;
}

/** The outputs of the other file, where nothing else says what is right. */
async function byOther(
  device: Device,
  own: OwnKernel,
  instead: OwnKernel["instead"],
): Promise<Map<string, Array64>> {
  if (!instead)
    throw new Error(
      `Cannot use ${own.json}: it lacks the key reference, definitions, a module or a file; or give --against OTHER.wgsl, which is then taken as right`,
    );
  const { own: other, source, variants } = instead;
  const kernel = declare(source);
  const call = callOf(device, other, source, kernel, variants[0]);
  const buffers = await buffersOf(device, other, source, call);
  const bound: Record<string, Bound> = {};
  try {
    for (const buffer of buffers) {
      const on = exactBuffer(device, buffer.name, buffer.bytes);
      bound[buffer.name] = { device, buffer: on, dtype: buffer.dtype, bytes: buffer.bytes };
      device.recorder.upload(on, initialBytes(buffer));
    }
    kernel.run(call.entry, bound, call.dims, call.grid, { flags: call.flags, overrides: call.overrides });
    const found = new Map<string, Array64>();
    for (const { name, written, dtype, shape, bytes } of buffers)
      if (written)
        found.set(name, {
          shape,
          data: decode(dtype, await device.read(bound[name].buffer, bytes), sizeOf(shape)),
        });
    return found;
  } finally {
    for (const { buffer } of Object.values(bound)) destroyBuffer(device, buffer);
  }
}
