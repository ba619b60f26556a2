/** Reads CSV. */

/**
 * Fields of RFC 4180: quoted ones may hold commas, doubled quotes and line ends. Lines without a character are left out.
 * Throws a SyntaxError that names `path` where a quote is never closed.
 */
export function parseCsv(text: string, path: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^,\n\r"]*))(,|\r?\n|\r|$)/y;
  while (field.lastIndex < text.length) {
    const at = field.lastIndex;
    const found = field.exec(text);
    if (!found) {
      const line = text.slice(0, at).split(/\r\n|\r|\n/).length;
      throw new SyntaxError(
        `Cannot read ${path}: a quote in line ${line} is not closed, or stands inside a field`,
      );
    }
    row.push(found[1]?.replaceAll('""', '"') ?? found[2]);
    if (found[3] === "," && field.lastIndex < text.length) continue;
    if (found[3] === ",") row.push("");
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  }
  return rows;
}
