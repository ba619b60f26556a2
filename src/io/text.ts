/** The one normaliser of transcripts: for CTC targets, for word error rates and for BERT alike. */
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

/** Letters that Unicode does not take apart, by their usual plain spelling. */
const PLAIN: Record<string, string> = Object.fromEntries(
  "Ł:L Ø:O Æ:AE Œ:OE Đ:D Ð:D Þ:TH ẞ:SS Ħ:H Ŧ:T Ŋ:NG ĸ:K Ƶ:Z Ɨ:I Ʉ:U Ɓ:B Ɖ:D Ɗ:D Ƙ:K Ƴ:Y Ƥ:P Ƭ:T Ƒ:F Ɠ:G Ɲ:N Ɵ:O Ƀ:B Ƞ:N Ⱡ:L Ɫ:L Ɽ:R ʼ:'"
    .split(" ")
    .map((pair) => pair.split(":")),
);
const FOLDED = new RegExp(`[${Object.keys(PLAIN).join("")}]`, "gu");

/** What a listener would hear: letters and digits of other scripts, signs that are read out, and lost characters. */
const SPOKEN = /(?![|~<>\u2190-\u21ff])[\p{L}\p{N}\p{Sc}\p{Sm}&%@#§°\ufffd]/gu;

/**
 * A–Z, apostrophes and single spaces. Tags in [], {} and <> vanish, numbers become words, hyphens and marks
 * between words become spaces, accents are dropped, letters such as Ł, Ø and Æ are spelt plainly. What else there
 * is vanishes; droppedCharacters() tells which.
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

/** How often each character that a listener would hear is missing from the normalised transcript. */
export function droppedCharacters(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [character] of spell(text).replace(/[A-Z]/g, "").matchAll(SPOKEN))
    counts.set(character, (counts.get(character) ?? 0) + 1);
  return counts;
}

/** `"Ж", "И" 2`: what was dropped, for a message; of many kinds the first ten. */
export function showDropped(dropped: ReadonlyMap<string, number>): string {
  return listed(
    [...dropped].map(([sign, n]) => `"${sign}"${n > 1 ? ` ${n}` : ""}`),
    10,
  );
}

/** The text in capitals, with numbers as words; marks that stand for nothing and foreign letters are still there. */
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

/** A space for each tag, from its bracket to the next that closes it. One pass, however many are never closed. */
function withoutTags(text: string): string {
  const never = new Set<string>();
  let kept = "";
  let from = 0;
  for (const { 0: bracket, index } of text.matchAll(/[[{<]/g)) {
    if (index < from || never.has(bracket)) continue;
    const end = text.indexOf(CLOSING[bracket], index);
    if (end < 0) never.add(bracket);
    else {
      kept += `${text.slice(from, index)} `;
      from = end + 1;
    }
  }
  return kept + text.slice(from);
}

function numberWords(digits: string): string {
  // Telephone numbers and the like are read digit by digit.
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
