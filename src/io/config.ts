/** JSON files. */

import type { Host } from "../host/host.ts";
import { readUtf8 } from "./encoding.ts";
import { brief, parseJson } from "./json.ts";

/** The value in a JSON file. Throws one line that names the file and the position of the error. */
export async function readJsonValue(host: Host, path: string): Promise<unknown> {
  return parseNamed(await readUtf8(host, path), path);
}

/** The value in one line of a file; `source` names both in errors. */
export const readJsonLine = (line: string, source: string): unknown =>
  parseNamed(line, source, (message) => message.replace(/^line 1, /, ""));

function parseNamed(text: string, source: string, place = (message: string) => message): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    throw new SyntaxError(`Cannot read ${source}: not JSON, ${place((cause as Error).message)}`, { cause });
  }
}

/** The object in a JSON file. Throws as readJsonValue(), and for a value that is no object. */
export async function readJson(host: Host, path: string): Promise<Record<string, unknown>> {
  const value = await readJsonValue(host, path);
  if (isObject(value)) return value;
  throw new SyntaxError(`Cannot use ${path}: it is ${brief(value)} but should be an object`);
}

/** As readJson(); an empty object where there is no file. */
export async function readOptionalJson(host: Host, path: string): Promise<Record<string, unknown>> {
  return (await host.kind(path)) === "file" ? await readJson(host, path) : {};
}

/** Whether a value is an object, neither null nor a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
