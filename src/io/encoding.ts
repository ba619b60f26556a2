/** Text files: UTF-8 as a rule, but also in the encodings of Windows programs. */

import type { Host } from "../host/host.ts";
import { refusePointer } from "../host/pointer.ts";

/** A text, and how it was decoded. */
export interface DecodedText {
  /** Without a byte order mark. */
  readonly text: string;
  readonly encoding: "UTF-8" | "UTF-16LE" | "UTF-16BE" | "Windows-1252";
}

/**
 * Decodes UTF-16, known by its byte order mark or its NUL bytes, else UTF-8; lines that are not UTF-8 are taken as
 * Windows-1252.
 */
function decodeText(bytes: Uint8Array): DecodedText {
  const wide = utf16Of(bytes);
  if (wide) return { text: new TextDecoder(wide.toLowerCase()).decode(bytes), encoding: wide };
  const text = strictUtf8(bytes);
  if (text !== undefined) return { text, encoding: "UTF-8" };
  const lines: string[] = [];
  for (let begin = 0; begin < bytes.length; ) {
    const feed = bytes.indexOf(10, begin);
    const end = feed < 0 ? bytes.length : feed + 1;
    const line = bytes.subarray(begin, end);
    lines.push(strictUtf8(line) ?? windows1252(line));
    begin = end;
  }
  return { text: lines.join(""), encoding: "Windows-1252" };
}

/** Reads a UTF-8 file, without its byte order mark. Throws a SyntaxError for bytes that are not UTF-8. */
export async function readUtf8(host: Host, path: string): Promise<string> {
  const bytes = await readText(host, path);
  const text = strictUtf8(bytes);
  if (text !== undefined) return text;
  const { encoding } = decodeText(bytes);
  throw new SyntaxError(`Cannot read ${path}: it is not UTF-8 (perhaps ${encoding})`);
}

/** Reads a text file in UTF-8, UTF-16 or Windows-1252. */
export async function readAnyText(host: Host, path: string): Promise<DecodedText> {
  return decodeText(await readText(host, path));
}

async function readText(host: Host, path: string): Promise<Uint8Array> {
  const bytes = await host.readBytes(path);
  refusePointer(path, bytes);
  return bytes;
}

/** By the byte order mark, else by the position of NUL bytes: of Latin letters every second byte is one. */
function utf16Of(bytes: Uint8Array): "UTF-16LE" | "UTF-16BE" | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "UTF-16LE";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "UTF-16BE";
  const head = bytes.subarray(0, 1024);
  const nulls = [0, 0];
  for (let i = 0; i < head.length; i++) if (head[i] === 0) nulls[i % 2]++;
  const most = head.length / 4;
  if (nulls[1] > most && nulls[0] < nulls[1] / 4) return "UTF-16LE";
  if (nulls[0] > most && nulls[1] < nulls[0] / 4) return "UTF-16BE";
  return undefined;
}

function strictUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** 0x80 to 0x9f; the rest is Latin-1. Not by TextDecoder, since some runtimes decode Windows-1252 as Latin-1. */
const WINDOWS =
  "\u20ac\ufffd\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\ufffd\u017d\ufffd\ufffd\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\ufffd\u017e\u0178";

function windows1252(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) =>
    byte >= 0x80 && byte < 0xa0 ? WINDOWS[byte - 0x80] : String.fromCharCode(byte),
  ).join("");
}

/** Bytes in base64. */
export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000)
    text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
