/** Checks of what callers pass, for those without TypeScript: what would be ignored or misread is refused. */
import { nearest } from "../io/nearest.ts";

/** A value of a wrong kind in a message: "undefined", "-1", "an Int32Array". */
export function describeValue(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null)
    return typeof value === "string" ? JSON.stringify(value) : String(value);
  const name = value.constructor?.name || "object";
  return `${/^[AEIO]/i.test(name) ? "an" : "a"} ${name}`;
}

/** Throws a TypeError, "Cannot `action`: …", where `options` is no object or has a key that is none of `known`. */
export function checkOptions(action: string, options: object, known: readonly string[]): void {
  if (typeof options !== "object" || options === null)
    throw new TypeError(
      `Cannot ${action}: its options are ${describeValue(options)} but should be an object of ${known.join(", ")}`,
    );
  for (const key in options) {
    if (known.includes(key)) continue;
    const near = nearest(key, known, Math.min(3, key.length >> 1));
    const hint = near === undefined ? ` (there are: ${known.join(", ")})` : `; did you mean ${near}?`;
    throw new TypeError(`Cannot ${action}: there is no option ${key}${hint}`);
  }
}

/** Throws a TypeError, "Cannot run `op`: …", unless `value` is a number. */
export function checkNumber(op: string, name: string, value: number): void {
  if (typeof value !== "number")
    throw new TypeError(`Cannot run ${op}: ${name} is ${describeValue(value)} but should be a number`);
}

/** Throws a RangeError, "Cannot run `op`: …", unless `value` is one of `known`. */
export function checkChoice(op: string, name: string, value: string, known: readonly string[]): void {
  if (known.includes(value)) return;
  throw new RangeError(
    `Cannot run ${op}: ${name} is ${describeValue(value)} but should be one of ${known.join(", ")}`,
  );
}

/** What a body returned. Throws a TypeError for a Promise: what it does later would happen outside. */
export function synchronous<T>(name: string, result: T): T {
  if (result instanceof Promise)
    throw new TypeError(`Cannot run ${name}: its body returned a Promise, but must be synchronous`);
  return result;
}
