/**
 * Validates JSON from files by schemas (npm valibot), from which also its types follow. What does not fit is refused in one line:
 * "Cannot use PATH: KEY is X but should be Y".
 */
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { isObject, readJsonLine, readJsonValue } from "./config.ts";
import { readUtf8 } from "./encoding.ts";
import { brief } from "./json.ts";
import { nearest } from "./nearest.ts";

/** Validates `value`. Throws a SyntaxError of one line about the first key that does not fit; `source` names the file. */
export function parse<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  source: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true, message: expectation });
  if (result.success) return result.output;
  throw issueError(source, schema, result.issues[0]);
}

/** Reads and validates a JSON file. */
export async function readJsonAs<S extends v.GenericSchema>(
  host: Host,
  path: string,
  schema: S,
): Promise<v.InferOutput<S>> {
  return parse(schema, await readJsonValue(host, path), path);
}

/** As readJsonAs(); an absent file counts as an empty object. */
export async function readOptionalJsonAs<S extends v.GenericSchema>(
  host: Host,
  path: string,
  schema: S,
): Promise<v.InferOutput<S>> {
  return (await host.kind(path)) === "file" ? await readJsonAs(host, path, schema) : parse(schema, {}, path);
}

/** Reads and validates a file with one JSON value per line. */
export async function readJsonLinesAs<S extends v.GenericSchema>(
  host: Host,
  path: string,
  schema: S,
): Promise<v.InferOutput<S>[]> {
  const lines = (await readUtf8(host, path)).split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line, i) => {
    const source = `${path}, line ${i + 1}`;
    return parse(schema, readJsonLine(line, source), source);
  });
}

/** The error for a value of a key that should be something else, also for rules beyond the schema. */
export const mismatch = (source: string, key: string, value: unknown, should: string): SyntaxError =>
  new SyntaxError(`Cannot use ${source}: ${key} is ${brief(value)} but should be ${should}`);

/** An object with any content. */
export const anyObject = v.custom<Readonly<Record<string, unknown>>>(isObject, "an object");

/** As v.object(), but refuses lists. Other keys are left out. */
export const object = <const E extends v.ObjectEntries>(entries: E) => v.pipe(anyObject, v.object(entries));

/** As object(), but refuses other keys. */
export const strictObject = <const E extends v.ObjectEntries>(entries: E) =>
  v.pipe(anyObject, v.strictObject(entries));

/** Values by any key. Refuses keys that v.record() would silently leave out. */
export const record = <S extends v.GenericSchema>(value: S) =>
  v.pipe(
    anyObject,
    v.check(
      (all) => !["__proto__", "prototype", "constructor"].some((key) => Object.hasOwn(all, key)),
      "without the keys __proto__, prototype and constructor",
    ),
    v.record(v.string(), value),
  );

/** An integer from `least` to `most`, by default the largest that is exact in float64. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER) {
  const should = `a whole number from ${least} to ${most === Number.MAX_SAFE_INTEGER ? "2^53 - 1" : most}`;
  return v.pipe(v.number(should), v.safeInteger(should), v.minValue(least, should), v.maxValue(most, should));
}

/** A finite number for which `holds` is true; `should` says that in words. */
export const number = (should: string, holds: (x: number) => boolean) =>
  v.pipe(v.number(should), v.finite(should), v.check(holds, should));

/** A finite number. */
export const finite = v.pipe(v.number("a finite number"), v.finite());

/** A string that matches `form`; `should` says that in words. */
export const text = (should: string, form: RegExp) => v.pipe(v.string(should), v.regex(form, should));

/** A finite number or NaN, which JSON.stringify() writes as null. */
export const finiteOrNan = v.pipe(
  v.nullable(finite),
  v.transform((x) => x ?? Number.NaN),
);

type Entries = Readonly<Record<string, unknown>>;

/** The schemas of an object's keys; undefined for a schema of something else. */
export function entriesOf(schema: unknown): Entries | undefined {
  const { entries, wrapped, pipe = [] } = schema as Parts;
  if (entries) return entries;
  if (wrapped) return entriesOf(wrapped);
  return pipe.map(entriesOf).find((found) => found !== undefined);
}

/** The keys of an object's schema. */
export const keysOf = (schema: unknown): string[] => Object.keys(entriesOf(schema) ?? {});

/** The parts of a valibot schema that are looked at here. */
interface Parts {
  readonly entries?: Entries;
  readonly wrapped?: unknown;
  readonly item?: unknown;
  readonly value?: unknown;
  readonly pipe?: readonly unknown[];
}

/** The schema of the value of a key or of an item. */
function schemaAt(schema: unknown, key: unknown): unknown {
  const { entries, wrapped, item, value, pipe = [] } = (schema ?? {}) as Parts;
  if (entries) return entries[String(key)];
  if (wrapped) return schemaAt(wrapped, key);
  return item ?? value ?? pipe.map((each) => schemaAt(each, key)).find((found) => found !== undefined);
}

/** The error for an issue that valibot found. */
function issueError(source: string, schema: v.GenericSchema, issue: v.BaseIssue<unknown>): SyntaxError {
  const { path = [], message } = issue;
  const last = path.at(-1);
  if (last === undefined) return mismatch(source, "it", issue.input, message);
  const key = path.map((item) => String(item.key)).join(".");
  if (last.origin !== "key") return mismatch(source, key, last.value, message);
  const parent = path.slice(0, -1).reduce<unknown>((inner, item) => schemaAt(inner, item.key), schema);
  const name = String(last.key);
  if (Object.hasOwn(last.input as object, name)) {
    const near = nearest(name, keysOf(parent));
    const hint =
      near === undefined
        ? ""
        : `; did you mean ${[...path.slice(0, -1).map((item) => item.key), near].join(".")}?`;
    return new SyntaxError(`Cannot use ${source}: there is no key ${key}${hint}`);
  }
  const { issues } = v.safeParse(schemaAt(parent, name) as v.GenericSchema, undefined, {
    message: expectation,
  });
  return new SyntaxError(`Cannot use ${source}: it lacks the key ${key}, ${issues?.[0].message}`);
}

/** What a schema without a message of its own expects. */
function expectation({ type, expected, requirement }: v.BaseIssue<unknown>): string {
  const choices = expected?.replaceAll('"', "") ?? type;
  switch (type) {
    case "boolean":
      return "true or false";
    case "array":
      return "a list";
    case "literal":
      return choices;
    case "picklist":
    case "union":
      return `one of ${choices.replace(/^\((.*)\)$/, "$1").replaceAll(" | ", ", ")}`;
    case "finite":
      return "a finite number";
    case "min_value":
      return `at least ${requirement}`;
    case "gt_value":
      return `more than ${requirement}`;
    case "max_value":
      return `at most ${requirement}`;
    case "lt_value":
      return `less than ${requirement}`;
    default:
      return `a ${choices}`;
  }
}
