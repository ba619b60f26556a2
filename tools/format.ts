/** Numbers and tables as text. */

/** 1536 → "1.5 KiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; Math.abs(value) >= 1023.95 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** 1.336e11 and "FLOP/s" → "134 GFLOP/s". */
export function formatRate(rate: number, unit: string): string {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let value = rate;
  let i = 0;
  for (; Math.abs(value) >= 999.5 && i < prefixes.length - 1; i++) value /= 1000;
  return `${value.toPrecision(3)} ${prefixes[i]}${unit}`;
}

/** 0.0042 → "4.2 ms", 12.34 → "12.3 s", 754 → "12:34", 3754 → "1:02:34". */
export function formatSeconds(seconds: number): string {
  if (seconds < 0.9995) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [first, ...rest] = parts[0] > 0 ? parts : parts.slice(1);
  return [first, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
}

/** Lines of aligned columns; columns of numbers are aligned to the right. */
export function formatTable(header: string[], rows: (string | number)[][]): string[] {
  const cells = [header, ...rows.map((row) => row.map(String))];
  const right = header.map(
    (_, c) => rows.length > 0 && rows.every((row) => /^[-+−]?[\d.]/.test(String(row[c] ?? ""))),
  );
  // Not Math.max(...): its arguments are on the stack, which a million rows overflow.
  const widths = header.map((_, c) => cells.reduce((most, row) => Math.max(most, (row[c] ?? "").length), 0));
  const line = (row: string[]) =>
    widths
      .map((width, c) => (right[c] ? (row[c] ?? "").padStart(width) : (row[c] ?? "").padEnd(width)))
      .join("  ");
  return cells.map((row) => line(row).trimEnd());
}
