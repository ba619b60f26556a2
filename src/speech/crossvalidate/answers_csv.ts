/** Reads answers that answersCsv() has written. */
import type { Host } from "../../host/host.ts";
import { parseCsv } from "../../io/csv.ts";
import { readUtf8 } from "../../io/encoding.ts";
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import { argmax } from "../metrics/metrics.ts";
import type { Answer } from "../evaluate/report.ts";

type Labelled = Answer["utterance"];

/**
 * The answers in a CSV file of `evaluate --out`. `utterances` gives what the file lacks: speaker, dialogue, length. Throws
 * one line where a row does not fit the corpus.
 */
export async function readAnswers(
  host: Host,
  path: string,
  utterances: readonly Utterance[],
): Promise<Answer[]> {
  const byId = new Map(
    utterances.filter((each): each is Labelled => each.label !== undefined).map((each) => [each.id, each]),
  );
  const [header, ...rows] = parseCsv(await readUtf8(host, path), path);
  const columns = ["id", "label", "prediction", ...LABELS.map((label) => `p_${label}`)];
  const missing = columns.find((name) => !header?.includes(name));
  if (missing !== undefined) throw new SyntaxError(`Cannot use ${path}: it lacks the column ${missing}`);
  const recognises = header.includes("hypothesis");
  const gated = header.includes("gate_acoustic") && header.includes("gate_text");
  return rows.map((row, i) => {
    const refuse = (why: string): never => {
      throw new SyntaxError(`Cannot use ${path}: row ${i + 1} ${why}`);
    };
    if (row.length !== header.length) refuse(`has ${row.length} fields, expected ${header.length}`);
    const field = (name: string) => row[header.indexOf(name)];
    const utterance = byId.get(field("id")) ?? refuse(`names ${field("id")}, which the corpus lacks`);
    if (utterance.label !== field("label"))
      refuse(`says that ${utterance.id} is ${field("label")}, the corpus says ${utterance.label}`);
    const probabilities = LABELS.map((label) => Number(field(`p_${label}`)));
    if (probabilities.some((p) => !(p >= 0 && p <= 1)))
      refuse(`has probabilities ${probabilities.join(", ")}, expected numbers from 0 to 1`);
    if (LABELS[argmax(probabilities)] !== field("prediction"))
      refuse(`predicts ${field("prediction")}, its probabilities say ${LABELS[argmax(probabilities)]}`);
    const fields = gated ? [field("gate_acoustic"), field("gate_text")] : [];
    const [acoustic, text] = fields.map((value) => (value === "" ? Number.NaN : Number(value)));
    const gates = fields.some((value) => value !== "") ? { acoustic, text } : undefined;
    if (gates && !(Number.isFinite(acoustic) && Number.isFinite(text)))
      refuse(`has gates ${fields.join(", ")}, expected two numbers`);
    return {
      ...{ utterance, probabilities },
      ...(recognises ? { hypothesis: field("hypothesis") } : {}),
      ...(gates ? { gates } : {}),
    };
  });
}
