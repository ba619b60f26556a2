/** The one normaliser of transcripts: for CTC targets, for word error rates and for BERT alike. */

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

/**
 * A–Z, apostrophes and single spaces. Tags in [], {} and <> vanish, numbers become words, hyphens and marks
 * between words become spaces, accents are dropped.
 *
 *   "[LAUGHTER] Well-known: 21 cafés, the 3rd…" → "WELL KNOWN TWENTY ONE CAFES THE THIRD"
 */
export function normalizeTranscript(text: string): string {
  return text
    .replace(/\[.*?\]|\{.*?\}|<.*?>/gs, " ")
    .replace(/[\u2018\u2019\u02bc`]/g, "'")
    .normalize("NFKD")
    .toUpperCase()
    .replace(/(\d),(?=\d{3}(?!\d))/g, "$1")
    .replace(/(\d+)(?:(ST|ND|RD|TH)\b|\.(\d+))?/g, (_, whole, ordinal, decimals) => {
      const words = ordinal ? ordinalWords(whole) : numberWords(whole);
      return ` ${words}${decimals ? ` POINT ${digitWords(decimals)}` : ""} `;
    })
    .replace(/\.{2,}|[-\u2010-\u2015_/,;:!?\s]/g, " ")
    .replace(/[^A-Z' ]/g, "")
    .replace(/(?<![A-Z])'(?![A-Z])/g, " ")
    .replace(/ +/g, " ")
    .trim();
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
