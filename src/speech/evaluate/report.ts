/** The report of an evaluation: as an object, as a table of text, and one CSV row per utterance. */
import { LABELS, type Label, type Utterance } from "../corpora/corpus.ts";
import { editsOf, type UtteranceAnswer } from "../metrics/answer.ts";
import { bootstrap, type Interval, wilson } from "./intervals.ts";
import { argmax, type ClassScores, gather, percent, score } from "../metrics/metrics.ts";
import { partsOf, type Slice } from "./slices.ts";
import { type Edits, totalEdits, wer } from "../metrics/wer.ts";

/** A model's answer to one labelled utterance. */
export type Answer = UtteranceAnswer<Utterance & { readonly label: Label }>;

/** A score and its 95 % confidence interval. */
export interface Estimate {
  /** The score. */
  readonly value: number;
  /** Its confidence interval. */
  readonly interval: Interval;
}

/** Scores of a model on a test set, each from 0 to 1. */
export interface Report {
  /** Number of utterances. */
  readonly utterances: number;
  /** Unweighted accuracy, with a bootstrap interval over dialogues. */
  readonly ua: Estimate;
  /** Weighted accuracy, with Wilson's interval. */
  readonly wa: Estimate;
  /** Mean F1 over the classes. */
  readonly macroF1: number;
  /** Word error rate, with a bootstrap interval over dialogues; absent where the system recognises no words. */
  readonly wer?: Estimate & { readonly edits: Edits };
  /** WA of always predicting the most frequent class. */
  readonly majority: number;
  /** Scores of each class. */
  readonly classes: Readonly<Record<Label, ClassScores>>;
  /** Rows: truth, columns: prediction, in the order of LABELS. */
  readonly confusion: readonly (readonly number[])[];
  /** Scores of parts of the test set: "speaker 01F", "improvised", "under 2 s", "no word errors". */
  readonly slices: Readonly<Record<string, Slice>>;
}

/**
 * Scores answers; `seed` is of the bootstrap. Throws a RangeError where there are no answers, or one has not LABELS.length
 * probabilities.
 */
export function scoreAnswers(answers: readonly Answer[], seed = 0): Report {
  const bad = answers.find((answer) => answer.probabilities.length !== LABELS.length);
  if (bad !== undefined) {
    throw new RangeError(
      `Cannot report ${bad.utterance.id}: ${bad.probabilities.length} probabilities, expected ${LABELS.length}`,
    );
  }
  const truth = answers.map((answer) => LABELS.indexOf(answer.utterance.label));
  const predicted = answers.map((answer) => argmax(answer.probabilities));
  const scores = score(truth, predicted, LABELS.length);
  const dialogues = answers.map((answer) => answer.utterance.dialogue);
  const uaOf = (indices: readonly number[]) =>
    score(gather(truth, indices), gather(predicted, indices), LABELS.length).ua;
  const correct = truth.filter((t, i) => t === predicted[i]).length;

  return {
    utterances: answers.length,
    ua: { value: scores.ua, interval: bootstrap(dialogues, uaOf, { seed }) },
    wa: { value: scores.wa, interval: wilson(correct, answers.length) },
    macroF1: scores.macroF1,
    wer: werFigure(answers, dialogues, seed),
    majority: Math.max(...scores.perClass.map((one) => one.support)) / answers.length,
    classes: Object.fromEntries(LABELS.map((label, k) => [label, scores.perClass[k]])) as Record<
      Label,
      ClassScores
    >,
    confusion: scores.confusion,
    slices: Object.fromEntries(
      partsOf(answers).map(({ name, count, ua, wa, wer, gates }) => [name, { count, ua, wa, wer, gates }]),
    ),
  };
}

function werFigure(answers: readonly Answer[], dialogues: readonly string[], seed: number): Report["wer"] {
  const edits = editsOf(answers);
  if (edits === undefined) return undefined;
  const total = totalEdits(edits);
  const interval = bootstrap(dialogues, (indices) => wer(totalEdits(gather(edits, indices))), { seed });
  return { value: wer(total), interval, edits: total };
}

/** The report as text, for a terminal of 80 columns. */
export function formatReport(result: Report): string {
  const lines = [
    `${result.utterances} utterances`,
    `UA  ${figure(result.ua)}   dialogues resampled`,
    `WA  ${figure(result.wa)}   majority class ${percent(result.majority)}`,
  ];
  if (result.wer !== undefined) {
    const { substitutions, deletions, insertions, length } = result.wer.edits;
    lines.push(
      `WER ${figure(result.wer)}   ${substitutions} substituted, ${deletions} deleted, ${insertions} inserted of ${length}`,
    );
  }
  const cell = (value: string | number) => String(value).padStart(9);
  lines.push(
    "",
    `${"truth".padEnd(10)}${LABELS.map(cell).join("")}${["recall", "precision", "F1"].map((s) => s.padStart(11)).join("")}`,
  );
  LABELS.forEach((label, k) => {
    const { recall, precision, f1 } = result.classes[label];
    const shares = [recall, precision, f1].map((value) => percent(value).padStart(11)).join("");
    lines.push(`${label.padEnd(10)}${result.confusion[k].map(cell).join("")}${shares}`);
  });
  const parts = Object.entries(result.slices);
  const gated = parts.some(([, { gates }]) => gates);
  const heads = ["count", "UA", "WA", "WER", ...(gated ? ["gate s", "gate t"] : [])];
  lines.push("", `${"part".padEnd(18)}${heads.map(cell).join("")}`);
  for (const [name, { count, ua, wa, wer, gates }] of parts) {
    const rate = wer === undefined ? "" : percent(wer);
    const means = gates ? [gates.acoustic.toFixed(3), gates.text.toFixed(3)] : [];
    lines.push(
      `${name.padEnd(18)}${[count, percent(ua), percent(wa), rate, ...means].map(cell).join("")}`.trimEnd(),
    );
  }
  if (gated) lines.push("gate s, gate t: mean weight of speech's own features, and of text's own");
  return lines.join("\n");
}

/**
 * CSV with a row per utterance: id, label, prediction, probabilities, reference and, where the system recognises words,
 * hypothesis, where it has gates, their means. Numbers have nine digits, all that f32 holds.
 */
export function answersCsv(answers: readonly Answer[]): string {
  const recognises = answers.some(({ hypothesis }) => hypothesis !== undefined);
  const gated = answers.some(({ gates }) => gates !== undefined);
  const header = [
    ...["id", "label", "prediction", ...LABELS.map((label) => `p_${label}`), "reference"],
    ...(recognises ? ["hypothesis"] : []),
    ...(gated ? ["gate_acoustic", "gate_text"] : []),
  ];
  const rows = answers.map(({ utterance, probabilities, hypothesis, gates }) => [
    ...[utterance.id, utterance.label, LABELS[argmax(probabilities)]],
    ...[...probabilities.map(numberField), utterance.words],
    ...(recognises ? [hypothesis ?? ""] : []),
    ...(gated ? [numberField(gates?.acoustic), numberField(gates?.text)] : []),
  ]);
  return toCsv([header, ...rows]);
}

/** A number with nine digits, all that f32 holds; empty where there is none. */
export const numberField = (value: number | undefined): string =>
  value === undefined ? "" : `${Number(value.toPrecision(9))}`;

/** Rows of fields as CSV (RFC 4180, lines ended by \n). */
export const toCsv = (rows: readonly (readonly string[])[]): string =>
  `${rows.map((row) => row.map(quoted).join(",")).join("\n")}\n`;

function quoted(field: string): string {
  return /[",\n\r]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}

function figure({ value, interval }: Estimate): string {
  return `${percent(value).padStart(7)}   95 % ${percent(interval.low)} to ${percent(interval.high)}`;
}
