/** Word error rate. */

/** Errors of a hypothesis against a reference, by an alignment of fewest edits. */
export interface Edits {
  /** Words replaced. */
  readonly substitutions: number;
  /** Words of the reference that the hypothesis lacks. */
  readonly deletions: number;
  /** Words of the hypothesis that the reference lacks. */
  readonly insertions: number;
  /** Words that match. */
  readonly correct: number;
  /** Words of the reference. */
  readonly length: number;
}

/** Levenshtein alignment, each edit costing 1; of alignments with equally many edits one with most matches. */
export function alignWords(reference: readonly string[], hypothesis: readonly string[]): Edits {
  const R = reference.length;
  const H = hypothesis.length;
  // Of alignments with equally many edits one with fewest substitutions has most matches.
  const edit = Math.min(R, H) + 1;
  const cost = Array.from({ length: R + 1 }, () => new Float64Array(H + 1));
  for (let i = 0; i <= R; i++) cost[i][0] = i * edit;
  for (let j = 0; j <= H; j++) cost[0][j] = j * edit;
  const change = (i: number, j: number) =>
    cost[i - 1][j - 1] + (reference[i - 1] === hypothesis[j - 1] ? 0 : edit + 1);
  for (let i = 1; i <= R; i++) {
    for (let j = 1; j <= H; j++) {
      cost[i][j] = Math.min(change(i, j), cost[i - 1][j] + edit, cost[i][j - 1] + edit);
    }
  }
  let [i, j, substitutions, deletions, insertions, correct] = [R, H, 0, 0, 0, 0];
  while (i > 0 || j > 0) {
    if (i > 0 && j > 0 && cost[i][j] === change(i, j)) {
      if (reference[--i] === hypothesis[--j]) correct++;
      else substitutions++;
    } else if (i > 0 && cost[i][j] === cost[i - 1][j] + edit) {
      deletions++;
      i--;
    } else {
      insertions++;
      j--;
    }
  }
  return { substitutions, deletions, insertions, correct, length: R };
}

/** Two texts to compare, both after normalizeTranscript(). */
export interface TranscriptPair {
  /** The correct text. */
  readonly reference: string;
  /** The recognised text. */
  readonly hypothesis: string;
}

/** Edits of one utterance. An empty text has no words. */
export function wordEdits({ reference, hypothesis }: TranscriptPair): Edits {
  return alignWords(split(reference), split(hypothesis));
}

/** Edits of many utterances, added up. */
export function totalEdits(edits: readonly Edits[]): Edits {
  const total = (key: keyof Edits) => edits.reduce((n, one) => n + one[key], 0);
  return {
    substitutions: total("substitutions"),
    deletions: total("deletions"),
    insertions: total("insertions"),
    correct: total("correct"),
    length: total("length"),
  };
}

/** Word error rate: edits per word of the references, a number from 0 on; NaN where no reference has a word. */
export function wer(edits: Edits): number {
  const errors = edits.substitutions + edits.deletions + edits.insertions;
  return edits.length === 0 ? Number.NaN : errors / edits.length;
}

function split(text: string): string[] {
  return text.split(/\s+/).filter((word) => word.length > 0);
}
