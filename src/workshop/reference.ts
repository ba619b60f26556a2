/** What a kernel of one's own should give, in float64: by definitions, a module or a file. */
import { pathToFileURL } from "node:url";
import type { Host } from "../host/host.ts";
import { describeValue } from "../io/checks.ts";
import { openSafetensors, readF32 } from "../io/safetensors.ts";
import type { Array64 } from "../records/float64.ts";
import { sameShape, type Shape, showShape, sizeOf } from "../tensor/shape.ts";
import { Expression, type Numbers, parseDefined } from "./expression.ts";
import { beside, type KernelSpec } from "./spec.ts";

/** What references are computed from. */
export interface Given {
  readonly host: Host;
  /** FILE.json. */
  readonly json: string;
  readonly sizes: Numbers;
  /** Every buffer that has values before the kernel runs. */
  readonly inputs: ReadonlyMap<string, Array64>;
  /** Shapes of all that it writes. */
  readonly outputs: ReadonlyMap<string, Shape>;
}

/** The outputs that a reference has; those that it says nothing of are missing. */
export async function computeReference(
  reference: NonNullable<KernelSpec["reference"]>,
  given: Given,
): Promise<Map<string, Array64>> {
  if (typeof reference !== "string") return define(reference, given);
  const path = beside(given.json, reference);
  if (/\.(m?js|m?ts)$/.test(path)) return await fromModule(path, given);
  if (/\.safetensors$/.test(path)) return await fromFile(path, given);
  throw new SyntaxError(
    `Cannot use ${given.json}: reference is "${reference}" but should be a module (.mjs, .js, .ts) or a .safetensors`,
  );
}

function define(
  definitions: Readonly<Record<string, string | number>>,
  { json, sizes, inputs, outputs }: Given,
): Map<string, Array64> {
  const tensors = new Map(inputs);
  const found = new Map<string, Array64>();
  for (const [left, right] of Object.entries(definitions)) {
    try {
      const { name, indices } = parseDefined(left);
      const own = outputs.get(name);
      if (!own && inputs.has(name)) throw new SyntaxError(`"${left}": the kernel does not write ${name}`);
      if (own && own.length !== indices.length)
        throw new SyntaxError(
          `"${left}": ${name} has ${own.length} axes ${showShape(own)}, as many indices expected`,
        );
      const shape = indices.map(({ name: index, end }, axis) => {
        const length = end?.value(sizes) ?? own?.[axis];
        if (length === undefined)
          throw new SyntaxError(
            `"${left}": no buffer is called ${name}, so ${index} needs an end, as ${index} < N`,
          );
        if (own && length !== own[axis])
          throw new SyntaxError(`"${left}": ${index} ends at ${length}, but ${name} is ${showShape(own)}`);
        return length;
      });
      const run = new Expression(right).bind(
        sizes,
        tensors,
        indices.map((index) => index.name),
      );
      const data = new Float64Array(sizeOf(shape));
      const place = shape.map(() => 0);
      for (let i = 0; i < data.length; i++) {
        data[i] = run(...place);
        for (let axis = shape.length - 1; axis >= 0 && ++place[axis] === shape[axis]; axis--) place[axis] = 0;
      }
      tensors.set(name, { shape, data });
      if (own) found.set(name, { shape, data });
    } catch (error) {
      throw new SyntaxError(`Cannot use ${json}: reference ${(error as Error).message}`);
    }
  }
  return found;
}

/** The default export, or `reference`, of a module: a function of the inputs and the sizes, to an object of arrays. */
async function fromModule(
  path: string,
  { host, sizes, inputs, outputs }: Given,
): Promise<Map<string, Array64>> {
  const cannot = `Cannot use ${path}`;
  // Read first for its words about a file that is missing; the end of the address lets a changed file be loaded again.
  const digest = host.sha256();
  digest.update(await host.readBytes(path));
  const url = `${pathToFileURL(path).href}?${digest.hex().slice(0, 16)}`;
  const module = (await import(url).catch((error: Error) => {
    throw new Error(`${cannot}: ${error.message.split("\n")[0]}`, { cause: error });
  })) as { default?: unknown; reference?: unknown };
  const f = module.default ?? module.reference;
  if (typeof f !== "function")
    throw new TypeError(
      `${cannot}: its default export is ${describeValue(f)} but should be a function (inputs, sizes)`,
    );
  const copies = Object.fromEntries(
    [...inputs].map(([name, { shape, data }]) => [name, { shape: [...shape], data: data.slice() }]),
  );
  const result = await (async () => f(copies, { ...sizes }))().catch((error: Error) => {
    throw new Error(`${cannot}: it threw ${String(error?.message ?? error).split("\n")[0]}`, {
      cause: error,
    });
  });
  if (typeof result !== "object" || result === null)
    throw new TypeError(
      `${cannot}: it returned ${describeValue(result)} but should return an object of arrays by output`,
    );
  const found = new Map<string, Array64>();
  for (const [name, value] of Object.entries(result as Record<string, unknown>)) {
    const shape = outputs.get(name);
    if (!shape)
      throw new Error(
        `${cannot}: it returned ${name}, which the kernel does not write (it writes ${[...outputs.keys()].join(", ")})`,
      );
    const data = (value as { data?: unknown } | null)?.data ?? value;
    if (!(Array.isArray(data) || ArrayBuffer.isView(data)))
      throw new TypeError(
        `${cannot}: it returned ${describeValue(data)} for ${name}, an array of numbers expected`,
      );
    const numbers = Float64Array.from(data as ArrayLike<number>);
    if (numbers.length !== sizeOf(shape))
      throw new RangeError(
        `${cannot}: it returned ${numbers.length} numbers for ${name}, which is ${showShape(shape)}`,
      );
    found.set(name, { shape, data: numbers });
  }
  return found;
}

async function fromFile(path: string, { host, outputs }: Given): Promise<Map<string, Array64>> {
  const found = new Map<string, Array64>();
  for (const [name, shape] of outputs) {
    const data = await readTensor(host, path, name, shape, true);
    if (data) found.set(name, { shape, data });
  }
  return found;
}

/** A tensor of a file, of this shape. Where it may be missing, undefined. */
export async function readTensor(
  host: Host,
  path: string,
  name: string,
  shape: Shape,
  optional = false,
): Promise<Float64Array | undefined> {
  const file = await openSafetensors(host, path);
  try {
    const entry = file.tensors.get(name);
    if (!entry) {
      if (optional) return undefined;
      throw new Error(
        `Cannot use ${path}: it holds no ${name} (it holds ${[...file.tensors.keys()].slice(0, 8).join(", ")})`,
      );
    }
    if (!sameShape(entry.shape, shape))
      throw new RangeError(
        `Cannot use ${path}: ${name} is ${showShape(entry.shape)}, ${showShape(shape)} expected`,
      );
    return Float64Array.from(await readF32(file, name));
  } finally {
    await file.close();
  }
}
