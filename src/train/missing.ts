/** Utterances that could be read when a run began and cannot be read any more. */

/** Most of an epoch, or of the dev set, that a run does without. */
const MOST_MISSING = 0.05;
/** As many files may be missing however small the corpus is. */
const FEW = 2;

/** So much is missing that the corpus itself must be: an unmounted disk, a network that is down. */
export class TooFewError extends Error {}

/** Throws where `missing` of `all` utterances of `what` are too many. */
export function refuseTooFew(missing: number, all: number, what: string): void {
  if (missing === 0 || (missing < all && missing <= Math.max(FEW, MOST_MISSING * all))) return;
  throw new TooFewError(
    `Cannot go on training: ${missing} of ${all} utterances of ${what} can no longer be read, at most ${100 * MOST_MISSING} % may be missing`,
  );
}
