/** What a file is, by its first bytes, where it is not what was expected. */

/** So many bytes are enough to tell. */
export const HEAD_BYTES = 256;

/** How files begin, as Latin-1. The first that fits counts. */
const BEGINNINGS: [string, string][] = [
  ["OggS", "Ogg"],
  ["fLaC", "FLAC"],
  ["RIFX", "big-endian RIFX"],
  ["NIST_1A", "NIST SPHERE"],
  ["ajkg", "Shorten"],
  ["#!AMR", "AMR"],
  [".snd", "Sun AU"],
  ["caff", "Core Audio (CAF)"],
  ["riff\x2e\x91\xcf\x11", "Wave64"],
  ["\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (ASF)"],
  ["wvpk", "WavPack"],
  ["MAC ", "Monkey's Audio"],
  ["MThd", "MIDI"],
  ["ADIF", "AAC"],
  ["\x0b\x77", "AC-3"],
  ["PK\x03\x04", "a ZIP archive"],
  ["\x1f\x8b", "a gzip archive"],
  ["%PDF", "PDF"],
];
const PATTERNS: [RegExp, string][] = [
  [/^\xff[\xf0\xf1\xf8\xf9]/, "AAC"],
  [/^(ID3|\xff[\xe2-\xfb])/, "MP3"],
  [/^FORM....AIF/s, "AIFF"],
  [/^....ftyp/s, "MP4"],
  [/^(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b/is, "a web page (HTML)"],
  [/^(\xef\xbb\xbf)?\s*<(\?xml|[a-z]+[\s>])/i, "XML"],
];
/** Matroska and its subset for the web begin alike; the document's type stands a little behind. */
const EBML = "\x1a\x45\xdf\xa3";

/** "FLAC", "a web page (HTML)", … or undefined. */
export function kindOfFile(head: Uint8Array): string | undefined {
  const text = String.fromCharCode(...head.subarray(0, HEAD_BYTES));
  if (text.startsWith(EBML)) return text.includes("matroska") ? "Matroska" : "WebM";
  return (BEGINNINGS.find(([beginning]) => text.startsWith(beginning)) ??
    PATTERNS.find(([pattern]) => pattern.test(text)))?.[1];
}
