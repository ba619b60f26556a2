/** `config.json` and its kin. */

import type { Host } from "../host/host.ts";
import { readUtf8 } from "./encoding.ts";
import { parseJson } from "./json.ts";

/** The object in a JSON file. Throws one line that names the file, and the place where the text is wrong. */
export async function readJson(host: Host, path: string): Promise<Record<string, unknown>> {
  const text = await readUtf8(host, path);
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new SyntaxError(`Cannot read ${path}: not JSON, ${(cause as Error).message}`, { cause });
  }
  if (isObject(value)) return value;
  const found = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
  throw new TypeError(`Cannot read ${path}: it holds ${found}, expected an object`);
}

/** As readJson(); an empty object where no file is. */
export async function readOptionalJson(host: Host, path: string): Promise<Record<string, unknown>> {
  return (await host.kind(path)) === "file" ? await readJson(host, path) : {};
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
