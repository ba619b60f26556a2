/** Lists of names for messages, of which only the first `most` are shown. */

/** "a, b and 4 more". */
export const listed = (names: readonly string[], most: number): string =>
  names.slice(0, most).join(", ") + (names.length > most ? ` and ${names.length - most} more` : "");

/** "a, b, …", for messages that give the number of names elsewhere. */
export const beginningOf = (names: readonly string[], most: number): string =>
  names.slice(0, most).join(", ") + (names.length > most ? ", …" : "");
