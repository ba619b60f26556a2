/**
 * training.json of a model folder: what the model was trained on, so that it is not tested on that by mistake. Recordings are
 * identified by a digest of their samples, since other corpora may have the same ids, and copies other ones.
 */
import * as v from "valibot";
import type { Utterance } from "../corpora/corpus.ts";
import type { Host } from "../../host/host.ts";
import { finite, integer, object, readJsonAs, record } from "../../io/schema.ts";
import { readWavFormat } from "../../io/wav.ts";
import { readMono } from "../../io/wav_samples.ts";

/** Digests by utterance id; "" for a recording that could not be read. */
const clips = record(v.string());

const corpus = object({
  name: v.string(),
  /** A hash of ids, labels, words and lengths of all utterances. */
  identity: v.string(),
  system: v.string(),
  preset: v.string(),
  /** Name of the session held out, or of the speaker. */
  heldOut: v.string(),
  /** A hash of the ids in training, dev and test sets; absent in older records. */
  split: v.optional(v.string()),
  /** Share of the dialogues in the dev set, and the seed of its choice. */
  dev: finite,
  seed: integer(0),
  trainedOn: clips,
  /** The dev set, which selected the epoch. */
  selectedBy: clips,
});

const schema = object({
  format: v.literal(1),
  /** Of the model's own training first, then of the checkpoints that it started from. */
  corpora: v.array(corpus),
  /** Names of the corpora whose text.txt was used for masked language modelling. */
  text: v.array(v.string()),
  /** Names of the checkpoints that it started from and that have no such record. */
  unknown: v.array(v.string()),
});

/** A corpus on which a model was trained. */
export type TrainingCorpus = Readonly<v.InferOutput<typeof corpus>>;
/** The content of training.json. */
export type Provenance = Readonly<v.InferOutput<typeof schema>>;

/** Name of the record in a model folder. */
export const PROVENANCE_FILE = "training.json";

/** The record as text. */
export const provenanceText = (record: Provenance): string => `${JSON.stringify(record, null, 1)}\n`;

/** The record in a model folder; undefined where there is none. Throws one line where it is damaged. */
export async function readProvenance(host: Host, folder: string): Promise<Provenance | undefined> {
  const path = `${folder}/${PROVENANCE_FILE}`;
  if ((await host.kind(path)) !== "file") return undefined;
  return await readJsonAs(host, path, schema);
}

/** A checkpoint that a training started from: its name, and its record where it has one. */
export type InitialCheckpoint = readonly [name: string, record: Provenance | undefined];

/** The record of a training on `own`, started from `initial`. */
export function provenance(
  own: { readonly corpus?: TrainingCorpus; readonly text?: string },
  initial: readonly InitialCheckpoint[] = [],
): Provenance {
  const records = initial.map(([, record]) => record).filter((record) => record !== undefined);
  const unrecorded = initial.filter(([, record]) => record === undefined).map(([name]) => name);
  const corpora = [...(own.corpus ? [own.corpus] : []), ...records.flatMap((record) => record.corpora)];
  const once = (names: readonly string[]) => [...new Set(names)];
  return {
    format: 1,
    corpora: withoutRepeats(corpora),
    text: once([...(own.text === undefined ? [] : [own.text]), ...records.flatMap((record) => record.text)]),
    unknown: once([...unrecorded, ...records.flatMap((record) => record.unknown)]),
  };
}

/** Leaves out recordings that an earlier entry has in the same part, and entries that are empty then. */
function withoutRepeats(corpora: readonly TrainingCorpus[]): TrainingCorpus[] {
  const seen = { trainedOn: new Set<string>(), selectedBy: new Set<string>() };
  const fresh = (part: keyof typeof seen, all: Readonly<Record<string, string>>) => {
    const left = Object.entries(all).filter((clip) => !seen[part].has(clip.join(" ")));
    for (const clip of left) seen[part].add(clip.join(" "));
    return Object.fromEntries(left);
  };
  return corpora
    .map((one) => ({
      ...one,
      trainedOn: fresh("trainedOn", one.trainedOn),
      selectedBy: fresh("selectedBy", one.selectedBy),
    }))
    .filter((one, i) => i === 0 || Object.keys({ ...one.trainedOn, ...one.selectedBy }).length > 0);
}

/** Only so many samples are hashed: two minutes at 16 kHz. */
const MAX_SAMPLES = 2 ** 21;

/** Digests by utterance id: 48 bits in base64, "" for a recording that cannot be read. Throws the reason of an aborted signal. */
export async function clipDigests(
  host: Host,
  utterances: readonly Pick<Utterance, "id" | "wav">[],
  signal?: AbortSignal,
): Promise<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const { id, wav } of utterances) {
    signal?.throwIfAborted();
    out[id] = await clipDigest(host, wav).catch(() => "");
  }
  return out;
}

/** A digest of the samples, as mono of 16 bits: header and format of the file may change. */
async function clipDigest(host: Host, path: string): Promise<string> {
  const file = await host.open(path);
  try {
    const whole = await readWavFormat(file);
    const format = { ...whole, frames: Math.min(whole.frames, MAX_SAMPLES) };
    const { frames, channels, bytesPerSample, encoding, position } = format;
    const bytes = new Uint8Array(2 * frames);
    if (encoding === "integer" && bytesPerSample === 2 && channels === 1) await file.read(bytes, position);
    else {
      const view = new DataView(bytes.buffer);
      for (const [i, value] of (await readMono(file, format)).entries())
        view.setInt16(2 * i, Math.max(-32768, Math.min(32767, Math.round(value * 32768))), true);
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return btoa(String.fromCharCode(...digest.subarray(0, 6)));
  } finally {
    await file.close();
  }
}

/** Overlap of a test set with a training: numbers of its utterances, each counted once. */
export interface Overlap {
  /** On which the model or a checkpoint that it started from was trained. */
  readonly trainedOn: number;
  /** In a dev set, which selected the epoch. */
  readonly selectedBy: number;
  /** With the samples of an utterance of another id that is one of those: a copy, or a corpus that has it twice. */
  readonly sameSamples: number;
  /** With the id of one of those, but other samples: of another corpus, or of a changed copy. */
  readonly otherSamples: number;
}

/**
 * Compares a test set, given by its digests, with what a model was trained on. `identity`: of the corpus of the test set. Where
 * a corpus of the training has the same, its ids identify the recordings, since they may have been converted.
 */
export function overlapOf(
  record: Provenance,
  test: Readonly<Record<string, string>>,
  identity?: string,
): Overlap {
  const clip = (id: string, digest: string) => `${id} ${digest}`;
  const clips = (part: "trainedOn" | "selectedBy") =>
    new Set(
      record.corpora.flatMap((one) =>
        Object.entries(one[part]).flatMap(([id, digest]) =>
          one.identity === identity ? [clip(id, digest), clip(id, "")] : [clip(id, digest)],
        ),
      ),
    );
  const [trainedOn, selectedBy] = [clips("trainedOn"), clips("selectedBy")];
  const all = record.corpora.flatMap((one) => Object.entries({ ...one.selectedBy, ...one.trainedOn }));
  const ids = new Set(all.map(([id]) => id));
  const samples = new Set(all.map(([, digest]) => digest).filter((digest) => digest !== ""));
  const counts = { trainedOn: 0, selectedBy: 0, sameSamples: 0, otherSamples: 0 };
  for (const [id, digest] of Object.entries(test)) {
    // A recording without a digest is identified by its id alone.
    const within = (part: Set<string>) => part.has(clip(id, digest)) || part.has(clip(id, ""));
    if (within(trainedOn)) counts.trainedOn++;
    else if (within(selectedBy)) counts.selectedBy++;
    else if (samples.has(digest)) counts.sameSamples++;
    else if (digest !== "" && ids.has(id)) counts.otherSamples++;
  }
  return counts;
}
