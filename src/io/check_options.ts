/** Checks of what TypeScript checks for its own callers: options and choices by name, and numbers. Messages of one line. */
import { listed } from "./listed.ts";
import { nearest } from "./nearest.ts";

/** "; did you mean X?" where a word is near, or else all words that there are. */
function hint(word: string, words: readonly string[], what: string): string {
  // Of a word of three letters one may be wrong: "lr" is not "eps".
  const near = nearest(word, words, Math.min(3, Math.floor(word.length / 3)));
  return near === undefined ? `; ${what} ${listed(words, 20)}` : `; did you mean ${near}?`;
}

const shown = (value: unknown): string =>
  typeof value === "string"
    ? `"${value}"`
    : typeof value === "function"
      ? "a function"
      : Array.isArray(value)
        ? "a list"
        : typeof value === "object" && value !== null
          ? `a ${value.constructor?.name ?? "object"}`
          : String(value);

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
    throw new TypeError(`Cannot ${action}: ${name} is ${shown(options)} but should be an object`);
  for (const key in options)
    if (!known.includes(key))
      throw new TypeError(`Cannot ${action}: ${name} has no ${key}${hint(key, known, "there are")}`);
}

/** Throws a RangeError where `value` is none of `choices`. */
export function checkChoice(action: string, name: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return;
  const near = typeof value === "string" ? nearest(value, choices, 2) : undefined;
  throw new RangeError(
    `Cannot ${action}: ${name} is ${shown(value)} but should be one of ${choices.join(", ")}${near === undefined ? "" : `; did you mean ${near}?`}`,
  );
}

/** Throws a RangeError where `holds` is not true of `value`, or it is no number; `should` says that in words. */
export function checkNumber(
  action: string,
  name: string,
  value: unknown,
  should: string,
  holds: (x: number) => boolean,
): void {
  if (typeof value === "number" && holds(value)) return;
  throw new RangeError(`Cannot ${action}: ${name} is ${shown(value)} but should be ${should}`);
}

/** The keys of a type as a list; the compiler refuses one that lacks a key or has another. */
export const keysOf = <T extends object>(
  keys: { readonly [K in keyof Required<T>]: true },
): readonly string[] => Object.keys(keys);
