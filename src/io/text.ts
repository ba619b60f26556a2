/** Normalisation of transcripts, the same for CTC targets, word error rates and BERT. */
import { listed } from "./listed.ts";

const UNITS =
  "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN SEVENTEEN EIGHTEEN NINETEEN".split(
    " ",
  );
const TENS = "- - TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY".split(" ");
const SCALES: [number, string][] = [
  [1e12, "TRILLION"],
  [1e9, "BILLION"],
  [1e6, "MILLION"],
  [1e3, "THOUSAND"],
  [100, "HUNDRED"],
];
const ORDINALS: Record<string, string> = {
  ONE: "FIRST",
  TWO: "SECOND",
  THREE: "THIRD",
  FIVE: "FIFTH",
  EIGHT: "EIGHTH",
  NINE: "NINTH",
  TWELVE: "TWELFTH",
};

/** Letters that Unicode does not decompose, and how they are spelt without diacritics. */
const PLAIN: Record<string, string> = Object.fromEntries(
  "Ł:L Ø:O Æ:AE Œ:OE Đ:D Ð:D Þ:TH ẞ:SS Ħ:H Ŧ:T Ŋ:NG ĸ:K Ƶ:Z Ɨ:I Ʉ:U Ɓ:B Ɖ:D Ɗ:D Ƙ:K Ƴ:Y Ƥ:P Ƭ:T Ƒ:F Ɠ:G Ɲ:N Ɵ:O Ƀ:B Ƞ:N Ⱡ:L Ɫ:L Ɽ:R ʼ:'"
    .split(" ")
    .map((pair) => pair.split(":")),
);
const FOLDED = new RegExp(`[${Object.keys(PLAIN).join("")}]`, "gu");

/** Characters that are pronounced: letters and digits of other scripts, signs that are read out; and U+FFFD, a lost character. */
const SPOKEN = /(?![|~<>\u2190-\u21ff])[\p{L}\p{N}\p{Sc}\p{Sm}&%@#§°\ufffd]/gu;

/**
 * Brings a transcript to A–Z, apostrophes and single spaces. Tags in [], {} and <> are removed, numbers become words, hyphens
 * and marks between words become spaces, diacritics are removed, letters such as Ł, Ø and Æ are spelt with others. Anything
 * else is removed; see droppedCharacters().
 *
 *   "[LAUGHTER] Well-known: 21 cafés, the 3rd…" → "WELL KNOWN TWENTY ONE CAFES THE THIRD"
 */
export function normalizeTranscript(text: string): string {
  return spell(text)
    .replace(/[^A-Z' ]/g, "")
    .replace(/(?<![A-Z])'(?![A-Z])/g, " ")
    .replace(/ +/g, " ")
    .trim();
}

/** Characters that are pronounced and that normalizeTranscript() removes, with their counts. */
export function droppedCharacters(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [character] of spell(text).replace(/[A-Z]/g, "").matchAll(SPOKEN))
    counts.set(character, (counts.get(character) ?? 0) + 1);
  return counts;
}

/** Dropped characters for a message: `"Ж", "И" 2`, at most ten. */
export function showDropped(dropped: ReadonlyMap<string, number>): string {
  return listed(
    [...dropped].map(([sign, n]) => `"${sign}"${n > 1 ? ` ${n}` : ""}`),
    10,
  );
}

/** The text in upper case with numbers as words, before characters are dropped. */
function spell(text: string): string {
  return withoutTags(text)
    .replace(/[\u2018\u2019\u201b\u2032\u02bc\u00b4`]/g, "'")
    .replace(/\p{No}/gu, " $& ") // 3² is not 32, nor 1½ 11
    .normalize("NFKD")
    .toUpperCase()
    .replace(FOLDED, (letter) => PLAIN[letter])
    .replace(/(\d),(?=\d{3}(?!\d))/g, "$1")
    .replace(/(\d+)(?:(ST|ND|RD|TH)\b|\.(\d+))?/g, (_, whole, ordinal, decimals) => {
      const words = ordinal ? ordinalWords(whole) : numberWords(whole);
      return ` ${words}${decimals ? ` POINT ${digitWords(decimals)}` : ""} `;
    })
    .replace(/\.{2,}|[-\u2010-\u2015_/,;:!?\s]/g, " ");
}

const CLOSING: Record<string, string> = { "[": "]", "{": "}", "<": ">" };

/** Replaces each tag, from a bracket to the next one that closes it, by a space; linear in time also for unclosed brackets. */
function withoutTags(text: string): string {
  const unclosed = new Set<string>();
  let kept = "";
  let from = 0;
  for (const { 0: bracket, index } of text.matchAll(/[[{<]/g)) {
    if (index < from || unclosed.has(bracket)) continue;
    const end = text.indexOf(CLOSING[bracket], index);
    if (end < 0) unclosed.add(bracket);
    else {
      kept += `${text.slice(from, index)} `;
      from = end + 1;
    }
  }
  return kept + text.slice(from);
}

function numberWords(digits: string): string {
  // Telephone numbers and the like are spelt digit by digit.
  if (digits.length > 15 || (digits.length > 1 && digits.startsWith("0"))) return digitWords(digits);
  return cardinal(Number(digits));
}

const digitWords = (digits: string) => [...digits].map((digit) => UNITS[Number(digit)]).join(" ");

function cardinal(value: number): string {
  if (value < 20) return UNITS[value];
  const [size, name] = SCALES.find(([scale]) => value >= scale) ?? [10, ""];
  const head = Math.floor(value / size);
  const rest = value % size;
  const words = name ? `${cardinal(head)} ${name}` : TENS[head];
  return rest === 0 ? words : `${words} ${cardinal(rest)}`;
}

function ordinalWords(digits: string): string {
  const words = numberWords(digits).split(" ");
  const last = words.pop()!;
  return [...words, ORDINALS[last] ?? (last.endsWith("Y") ? `${last.slice(0, -1)}IETH` : `${last}TH`)].join(
    " ",
  );
}
