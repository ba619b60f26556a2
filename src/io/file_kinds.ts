/** The format of a file by its first bytes, for messages about files that are not what was expected. */

/** Number of bytes that kindOfFile() looks at. */
export const HEAD_BYTES = 256;

/** First bytes of files, as Latin-1; the first entry that fits counts. */
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
  ["FLV\x01", "Flash video"],
  ["DSD ", "DSD"],
  ["FRM8", "DSD"],
  ["Creative Voice File", "Creative Voice"],
  ["\x80\x02\x8a", "a Python pickle"],
  ["\x80\x04\x95", "a Python pickle"],
  ["\x93NUMPY", "a NumPy array"],
  ["\x89HDF", "HDF5"],
  ["MATLAB", "a MATLAB file"],
  ["SQLite format 3", "an SQLite database"],
  ["\x89PNG", "a picture (PNG)"],
  ["\xff\xd8\xff", "a picture (JPEG)"],
  ["GIF8", "a picture (GIF)"],
  ["PK\x03\x04", "a ZIP archive"],
  ["PK\x05\x06", "an empty ZIP archive"],
  ["7z\xbc\xaf", "a 7z archive"],
  ["Rar!", "a RAR archive"],
  ["BZh", "a bzip2 archive"],
  ["\xfd7zXZ", "an XZ archive"],
  ["\x28\xb5\x2f\xfd", "a Zstandard archive"],
  ["\x1f\x8b", "a gzip archive"],
  ["%PDF", "PDF"],
];
const PATTERNS: [RegExp, string][] = [
  [/^\xff[\xf0\xf1\xf8\xf9]/, "AAC"],
  [/^ID3.*fLaC/s, "FLAC"],
  [/^ID3.*RIFF....WAVE/s, "a WAVE file behind an ID3 tag"],
  [/^(ID3|\xff[\xe2-\xfb])/, "MP3"],
  [/^FORM....AIF/s, "AIFF"],
  [/^....ftyp/s, "MP4"],
  [/^....(moov|mdat|wide)/s, "QuickTime"],
  [/^G.{187}G/s, "MPEG-TS"],
  [/^(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b/is, "a web page (HTML)"],
  [/^(\xef\xbb\xbf)?\s*<(\?xml|[a-z]+[\s>])/i, "XML"],
  [/^(\xef\xbb\xbf)?\s*(\{\s*("|\}\s*$)|\[\s*(["{[\d-]|\]\s*$))/, "JSON"],
];
/** Matroska and WebM begin alike; the type of the document follows. */
const EBML = "\x1a\x45\xdf\xa3";

/** The format of a file that begins with `head`: "FLAC", "a web page (HTML)"; undefined where unknown. */
export function kindOfFile(head: Uint8Array): string | undefined {
  const bytes = head.subarray(0, HEAD_BYTES);
  const wide = head[0] === 0xff && head[1] === 0xfe; // UTF-16, as some shells write what they fetch
  const text = String.fromCharCode(...(wide ? bytes.subarray(2).filter((byte) => byte > 0) : bytes));
  if (text.startsWith(EBML)) return text.includes("matroska") ? "Matroska" : "WebM";
  return (BEGINNINGS.find(([beginning]) => text.startsWith(beginning)) ??
    PATTERNS.find(([pattern]) => pattern.test(text)))?.[1];
}
