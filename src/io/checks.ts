/** Checks of what TypeScript checks for its own callers: what would be ignored or misread is refused, in one line. */
import { listed } from "./listed.ts";
import { nearest } from "./nearest.ts";

/** A value of a wrong kind in a message: "undefined", "-1", "an Int32Array". */
export function describeValue(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null)
    return typeof value === "string" ? JSON.stringify(value) : String(value);
  const name = value.constructor?.name || "object";
  return `${/^[AEIO]/i.test(name) ? "an" : "a"} ${name}`;
}

/**
 * Throws a TypeError where `options` is no plain object, or has a key besides `known`. `action` completes "Cannot …";
 * `name` is that of the object in messages.
 */
export function checkOptions(
  action: string,
  options: unknown,
  known: readonly string[],
  name = "options",
): asserts options is object {
  if (typeof options !== "object" || options === null || Array.isArray(options) || options instanceof Map)
    throw new TypeError(`Cannot ${action}: ${name} is ${describeValue(options)} but should be an object`);
  for (const key in options) {
    if (known.includes(key)) continue;
    const near = nearest(key, known, Math.min(3, key.length >> 1));
    const hint = near === undefined ? `there are ${listed(known, 20)}` : `did you mean ${near}?`;
    throw new TypeError(`Cannot ${action}: ${name} has no ${key}; ${hint}`);
  }
}

/** Throws a RangeError where `value` is none of `choices`. */
export function checkChoice(action: string, name: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return;
  const near =
    typeof value === "string" ? nearest(value, choices, Math.min(2, value.length >> 1)) : undefined;
  const hint = near === undefined ? "" : `; did you mean ${near}?`;
  throw new RangeError(
    `Cannot ${action}: ${name} is ${describeValue(value)} but should be one of ${choices.join(", ")}${hint}`,
  );
}

/** Throws a RangeError where `value` is no number, or `holds` is not true of it; `should` says that in words. */
export function checkNumber(
  action: string,
  name: string,
  value: unknown,
  should = "a number",
  holds: (x: number) => boolean = () => true,
): void {
  if (typeof value === "number" && holds(value)) return;
  throw new RangeError(`Cannot ${action}: ${name} is ${describeValue(value)} but should be ${should}`);
}

/** The keys of a type as a list; the compiler refuses one that lacks a key or has another. */
export const keysOf = <T extends object>(
  keys: { readonly [K in keyof Required<T>]: true },
): readonly string[] => Object.keys(keys);

/** What a body returned. Throws a TypeError for a Promise: what it does later would happen outside. */
export function synchronous<T>(name: string, result: T): T {
  if (result instanceof Promise)
    throw new TypeError(`Cannot run ${name}: its body returned a Promise, but must be synchronous`);
  return result;
}
