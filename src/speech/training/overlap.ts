/** Overlap of a test set with what a model was trained on, for the reports of evaluation and training. */
import type { Host } from "../../host/host.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import type { Corpus, Utterance } from "../corpora/corpus.ts";
import { bySession, type Fold, speakersOf } from "../corpora/folds.ts";
import {
  clipDigests,
  type Overlap,
  overlapOf,
  PROVENANCE_FILE,
  type Provenance,
  readProvenance,
} from "./provenance.ts";
import { corpusIdentity } from "./run_provenance.ts";

/** Overlap of a test set with the training of a model, where that is known. */
export type TrainingOverlap =
  | { known: false }
  | ({ known: true; heldOut?: string; unknown: readonly string[] } & Overlap);

/**
 * The session that the training of a model held out, or the speaker. Throws an ArgumentError where that is unknown or not in the
 * corpus.
 */
export function heldOutSession(
  record: Provenance | undefined,
  path: string,
  { root, sessions, utterances }: Corpus,
): string {
  const heldOut = record?.corpora[0]?.heldOut;
  const known = heldOut !== undefined && [...sessions, ...speakersOf(utterances)].includes(heldOut);
  if (known) return heldOut;
  const why =
    heldOut === undefined
      ? `${path} has no ${PROVENANCE_FILE} that says what its training held out`
      : `its training held out ${heldOut}, which ${root} lacks`;
  const names = [...sessions].sort(bySession).join(", ");
  throw new ArgumentError(`Cannot evaluate ${path} without --fold NAME: ${why}; sessions are ${names}`);
}

/** Compares the test set of a fold with what a model was trained on; reads its recordings. `utterances`: all of the corpus. */
export async function trainingOverlap(
  host: Host,
  record: Provenance | undefined,
  { test }: Fold,
  utterances: readonly Utterance[],
): Promise<TrainingOverlap> {
  if (!record) return { known: false };
  const { corpora, unknown } = record;
  const overlap = overlapOf(record, await clipDigests(host, test), await corpusIdentity(utterances));
  return { known: true, heldOut: corpora[0]?.heldOut, unknown, ...overlap };
}

/** Throws where the model was trained or selected on some of the test set. */
export function refuseTrainedOn(path: string, { name, test }: Fold, training: TrainingOverlap): void {
  if (!training.known) return;
  const { heldOut, trainedOn, selectedBy, sameSamples } = training;
  // A corpus may hold a recording twice, on both sides of its split.
  const copies = name === heldOut ? 0 : sameSamples;
  if (trainedOn + selectedBy + copies === 0) return;
  const held = heldOut === undefined ? "" : `; its training held out ${heldOut}`;
  throw new Error(
    `Cannot evaluate ${path} on ${name}: ${overlapText(training, test.length)}${held}; --anyway measures it all the same`,
  );
}

/** "of 52 utterances 48 were trained on and 4 chose the epoch". */
function overlapText({ trainedOn, selectedBy, sameSamples }: Overlap, all: number): string {
  const parts = [
    trainedOn > 0 && `${trainedOn} were trained on`,
    selectedBy > 0 && `${selectedBy} chose the epoch`,
    sameSamples > 0 && `${sameSamples} are copies of such clips`,
  ].filter((part) => part !== false);
  return `of ${all} utterances ${parts.join(" and ")}`;
}

/** The lines of a report about the training of the model; `all`: utterances of the test set. */
export function trainingLines(training: TrainingOverlap, all: number): string[] {
  if (!training.known) return [`what it was trained on is unknown: it has no ${PROVENANCE_FILE}`];
  const { trainedOn, selectedBy, sameSamples, otherSamples, unknown } = training;
  const overlap = trainedOn + selectedBy;
  const whether =
    overlap > 0 || sameSamples === all
      ? `no test: ${overlapText(training, all)}`
      : sameSamples > 0
        ? overlapText(training, all)
        : otherSamples > 0
          ? "none of these samples were trained on"
          : "none of it was trained on";
  return [
    whether,
    ...(otherSamples > 0
      ? [`${otherSamples} have ids that were trained on and other samples: another corpus, or a changed copy`]
      : []),
    ...unknown.map((name) => `it began with ${name}, which does not say what it was trained on`),
  ];
}

/** Notes which checkpoints that a run starts from were trained or selected on some of its test set. */
export async function warnOfOverlap(
  host: Host,
  folders: readonly (string | undefined)[],
  { name, test }: Fold,
  utterances: readonly Utterance[],
  note: (line: string) => void,
): Promise<void> {
  const records: [folder: string, record: Provenance][] = [];
  for (const folder of new Set(folders.filter((one) => one !== undefined))) {
    const record = await readProvenance(host, folder);
    if (record && record.corpora.length > 0) records.push([folder, record]);
  }
  if (records.length === 0) return;
  const [digests, identity] = [await clipDigests(host, test), await corpusIdentity(utterances)];
  for (const [folder, record] of records) {
    const overlap = overlapOf(record, digests, identity);
    if (overlap.trainedOn + overlap.selectedBy + overlap.sameSamples === 0) continue;
    note(`${folder} knows ${name}: ${overlapText(overlap, test.length)}; figures on it will be no test`);
  }
}
