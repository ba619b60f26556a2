/**
 * training.json of a model folder: what the model was trained on, so that nobody tests it on that by mistake. Clips are known
 * by their samples: another corpus may use the same ids, and a copy other ones.
 */
import * as v from "valibot";
import type { Utterance } from "../corpora/corpus.ts";
import type { Host } from "../../host/host.ts";
import { finite, integer, object, readJsonAs, record } from "../../io/schema.ts";
import { readWavFormat } from "../../io/wav.ts";
import { readMono } from "../../io/wav_samples.ts";

/** Digests by utterance id; "" for a clip that could not be read when the record was made. */
const clips = record(v.string());

const corpus = object({
  name: v.string(),
  /** Of ids, labels, words and lengths of all its utterances, wherever they lie. */
  identity: v.string(),
  system: v.string(),
  preset: v.string(),
  /** The session that was held out for the test. */
  heldOut: v.string(),
  /** Share of dialogues and seed that chose the dev set. */
  dev: finite,
  seed: integer(0),
  trainedOn: clips,
  /** The dev set: it chose the epoch. */
  selectedBy: clips,
});

const schema = object({
  format: v.literal(1),
  /** The model's own training first, then what the checkpoints that it began with were trained on. */
  corpora: v.array(corpus),
  /** Names of the corpora whose plain text was read for masked-word pretraining. */
  text: v.array(v.string()),
  /** Names of the checkpoints that it began with and that do not say what they were trained on. */
  unknown: v.array(v.string()),
});

export type TrainingCorpus = Readonly<v.InferOutput<typeof corpus>>;
export type Provenance = Readonly<v.InferOutput<typeof schema>>;

export const PROVENANCE_FILE = "training.json";

export const provenanceText = (record: Provenance): string => `${JSON.stringify(record, null, 1)}\n`;

/** The record in a model folder; undefined where there is none. Throws one line where it is damaged. */
export async function readProvenance(host: Host, folder: string): Promise<Provenance | undefined> {
  const path = `${folder}/${PROVENANCE_FILE}`;
  if ((await host.kind(path)) !== "file") return undefined;
  return await readJsonAs(host, path, schema);
}

/** A checkpoint that a training began with: a name for it, and its record where it has one. */
export type InitialCheckpoint = readonly [name: string, record: Provenance | undefined];

/** The record of a training's own corpora and of the checkpoints that it began with. */
export function provenance(
  own: { readonly corpus?: TrainingCorpus; readonly text?: string },
  before: readonly InitialCheckpoint[] = [],
): Provenance {
  const records = before.map(([, record]) => record).filter((record) => record !== undefined);
  const nameless = before.filter(([, record]) => record === undefined).map(([name]) => name);
  const corpora = [...(own.corpus ? [own.corpus] : []), ...records.flatMap((record) => record.corpora)];
  const once = (names: readonly string[]) => [...new Set(names)];
  return {
    format: 1,
    corpora: withoutRepeats(corpora),
    text: once([...(own.text === undefined ? [] : [own.text]), ...records.flatMap((record) => record.text)]),
    unknown: once([...nameless, ...records.flatMap((record) => record.unknown)]),
  };
}

/** Leaves out clips that an entry before has in the same part, and entries of which nothing is left. */
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

/** Samples that tell a clip from others: two minutes at 16 kHz. */
const ENOUGH = 2 ** 21;

/** Digests of clips by id: 48 bits in base64, "" for a file that cannot be read. Throws the signal's reason. */
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

/**
 * Of the samples alone, as mono of 16 bits: what a file says besides them may change, and so may the format in which it holds
 * them.
 */
async function clipDigest(host: Host, path: string): Promise<string> {
  const file = await host.open(path);
  try {
    const whole = await readWavFormat(file);
    const format = { ...whole, frames: Math.min(whole.frames, ENOUGH) };
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

/** How much of a test a model knows: numbers of its utterances, each counted once. */
export interface Overlap {
  /** Trained on, by the model or by a checkpoint that it began with. */
  readonly trainedOn: number;
  /** In a dev set, which chose the epoch. */
  readonly selectedBy: number;
  /** The same samples as a clip of another id that was trained on or in a dev set: a copy, or a corpus that has it twice. */
  readonly sameSamples: number;
  /**
   * An id that was trained on or in a dev set, but other samples: of another corpus, or of a changed copy. None where the
   * corpus is the same but for its samples: then the ids count.
   */
  readonly otherSamples: number;
}

/**
 * Compares a test, by the digests of its clips, with what a model was trained on. `identity` of the test's corpus: one that has the
 * utterances of a corpus that it was trained on, word for word and as long, is that corpus however its recordings were converted.
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
    // A clip that could not be read when the record was made is known by its id alone.
    const within = (part: Set<string>) => part.has(clip(id, digest)) || part.has(clip(id, ""));
    if (within(trainedOn)) counts.trainedOn++;
    else if (within(selectedBy)) counts.selectedBy++;
    else if (samples.has(digest)) counts.sameSamples++;
    else if (digest !== "" && ids.has(id)) counts.otherSamples++;
  }
  return counts;
}
