/** Figures for the page: short, with units, none of them an exponent. */

/** Three digits: 0.012, 1.23, 12.3, 1230. */
export function digits(x: number): string {
  const size = Math.abs(x);
  if (size >= 100) return x.toFixed(0);
  return x.toFixed(size >= 10 ? 1 : size >= 1 || size === 0 ? 2 : 3);
}

const PREFIXES = ["", "k", "M", "G", "T", "P"];

/** 1.336e11 and "FLOP/s" → "134 GFLOP/s". */
export function withPrefix(x: number, unit: string): string {
  let value = x;
  let i = 0;
  for (; Math.abs(value) >= 999.5 && i < PREFIXES.length - 1; i++) value /= 1000;
  return `${digits(value)} ${PREFIXES[i]}${unit}`;
}

/** 8.2 MiB. */
export const mebibytes = (bytes: number): string => `${digits(bytes / 2 ** 20)} MiB`;

export const percent = (share: number): string => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** "M=149 N=128 K=288". */
export const showShape = (shape: Readonly<Record<string, number>>): string =>
  Object.entries(shape)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
