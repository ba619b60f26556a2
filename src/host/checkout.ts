/** Files of a checkout that the built package holds as text. */
import { readFileSync } from "node:fs";

/** The text of a file; undefined where it is not there, as in a bundle of the sources. */
export function checkoutText(url: URL): string | undefined {
  try {
    return readFileSync(url, "utf8");
  } catch {
    return undefined;
  }
}
