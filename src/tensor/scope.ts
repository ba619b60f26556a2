/**
 * Who frees what. `scope(device, body)` frees every tensor made inside it except those it returns; these pass to the
 * scope around it, or to the caller where there is none. The body is synchronous: a Promise would outlive it.
 */
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "./tensor.ts";

/** Called by every new tensor: the innermost scope owns it, else whoever made it. */
export function adopt(tensor: Tensor): void {
  tensor.keep();
  own(tensor);
}

// Duck-typed to keep the import of Tensor a type: Tensor itself imports adopt() from here.
const isTensor = (x: object): x is Tensor => "buffer" in x && "shape" in x && "keep" in x;

function collect(value: unknown, into: Set<{ release(): void }>): void {
  if (typeof value !== "object" || value === null) return;
  if (isTensor(value)) into.add(value);
  else if (value instanceof Map) for (const v of value.values()) collect(v, into);
  else if (Array.isArray(value)) for (const v of value) collect(v, into);
  else if (Object.getPrototypeOf(value) === Object.prototype)
    for (const v of Object.values(value)) collect(v, into);
}

/** Adds a tensor that has one owner already to the innermost scope, which will release it. */
export function own(tensor: Tensor): void {
  tensor.device.scopes.at(-1)?.push(tensor);
}

/**
 * Runs `body` and frees the tensors that were made in it, except those that it returns: also in plain objects, arrays and
 * maps. These belong to the scope around this one; where there is none, to the caller, who release()s them. Throws a
 * TypeError where `body` returns a Promise.
 *
 * @example
 * ```ts
 * const y = scope(device, () => {
 *   const x = Tensor.from(device, Float32Array.of(1, 2), [2]); // freed
 *   return ops.add(ops.mul(x, x), 1); // so is the product
 * });
 * console.log(await y.read()); // [2, 5]
 * y.release();
 * console.log(device.pool.statistics.live); // 0
 * ```
 */
export function scope<T>(device: Device, body: () => T): T {
  const stack = device.scopes;
  const mine: { release(): void }[] = [];
  stack.push(mine);
  const kept = new Set<{ release(): void }>();
  try {
    const result = body();
    if (result instanceof Promise) {
      throw new TypeError("Cannot end a scope: its body returned a Promise, but must be synchronous");
    }
    collect(result, kept);
    return result;
  } finally {
    stack.length = stack.indexOf(mine);
    const outer = stack.at(-1);
    const handed = new Set<{ release(): void }>();
    for (const tensor of mine) {
      // A tensor may stand here twice, as a cotangent that became a gradient: its caller is to release it once.
      if (!kept.has(tensor) || handed.has(tensor)) tensor.release();
      else {
        outer?.push(tensor);
        handed.add(tensor);
      }
    }
  }
}
