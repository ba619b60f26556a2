/** Names for a message, of which a long list shows only the first `most`. */

/** "a, b and 4 more". */
export const listed = (names: readonly string[], most: number): string =>
  names.slice(0, most).join(", ") + (names.length > most ? ` and ${names.length - most} more` : "");

/** "a, b, …", where their number stands beside it. */
export const beginningOf = (names: readonly string[], most: number): string =>
  names.slice(0, most).join(", ") + (names.length > most ? ", …" : "");
