/** Baselines by the folds of a cross-validation, to be read beside its figures. */
import type { Host } from "../../host/host.ts";
import { type Baselines, measureBaselines, readBaselines, writeBaselines } from "../baselines/baselines.ts";
import { readCorpus } from "../corpora/read.ts";
import { meanAndDeviation, percent } from "../metrics/metrics.ts";
import type { Plan } from "./plan.ts";

/**
 * A line with the UA of the baselines over the folds of the plan. They are those that lie beside a generated corpus, or are
 * measured once and kept in `out`. Where folds are speakers, or a class is missing, the line says that there are none.
 */
export async function baselineNote(
  host: Host,
  out: string,
  { asked }: Plan,
  signal: AbortSignal,
): Promise<string> {
  const corpus = await readCorpus(host, asked.data, asked.corpus);
  if (!asked.folds.every((fold) => corpus.sessions.includes(fold)))
    return "No baselines: they are measured by sessions, and not by speakers.";
  let baselines: Baselines;
  try {
    const known = (await readBaselines(host, corpus.root)) ?? (await readBaselines(host, out));
    baselines = known ?? (await measure(host, corpus, signal));
    if (!known) await writeBaselines(host, out, baselines);
  } catch (error) {
    signal.throwIfAborted();
    return `No baselines: ${(error as Error).message.split("\n")[0]}.`;
  }
  const missing = asked.folds.find((fold) => baselines.lda.folds[fold] === undefined);
  if (missing !== undefined) return `No baselines: there are none of ${missing}.`;
  const ua = (name: "lda" | "ldaBySpeaker" | "unigrams") => {
    const { mean, deviation } = meanAndDeviation(asked.folds.map((fold) => baselines[name].folds[fold]));
    return `${percent(mean)} ± ${(100 * deviation).toFixed(1)}`;
  };
  const text = corpus.transcribed ? `, naive Bayes on the true words ${ua("unigrams")}` : "";
  return `Baselines by the same folds, UA: linear discriminant analysis of hand features ${ua("lda")}, of these standardised by speaker ${ua("ldaBySpeaker")}${text}.`;
}

const measure = (
  host: Host,
  corpus: Parameters<typeof measureBaselines>[1],
  signal: AbortSignal,
): Promise<Baselines> =>
  measureBaselines(host, corpus, {
    onClip: () => signal.throwIfAborted(),
    // The evaluation has reported it.
    onProblem: () => {},
  });
