/**
 * Reads MELD (Poria et al. 2019, ACL): {train,dev,test}_sent_emo.csv, and the sound of its videos as wav files. Its split is by
 * dialogues of one series, whose main characters speak in all parts: it is no test on unheard speakers.
 */
import type { Host } from "../../host/host.ts";
import { parseCsv } from "../../io/csv.ts";
import { readAnyText } from "../../io/encoding.ts";
import { droppedCharacters, normalizeTranscript, showDropped } from "../../io/text.ts";
import { clipsIn } from "./clips.ts";
import type { Corpus, Label, Problem, Split, Utterance } from "./corpus.ts";

const SPLITS = ["train", "dev", "test"] as const satisfies Split[];

const LABEL: Readonly<Record<string, Label>> = {
  ...{ anger: "angry", joy: "happy", sadness: "sad", neutral: "neutral" },
};

const OTHER = new Set(["disgust", "fear", "surprise"]);

/** Utterances of the release. */
const RELEASE = 13_708;

const COLUMNS = ["Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"] as const;

/** The tables of the splits; undefined where any lacks. */
export async function meldIn(host: Host, root: string): Promise<Readonly<Record<Split, string>> | undefined> {
  const found: Partial<Record<Split, string>> = {};
  for (const split of SPLITS)
    for (const folder of ["", `${split}/`, "MELD.Raw/", `MELD.Raw/${split}/`, "data/MELD/"]) {
      const path = `${root}/${folder}${split}_sent_emo.csv`;
      if ((await host.kind(path)) === "file") found[split] ??= path;
    }
  const { train, dev, test } = found;
  return train !== undefined && dev !== undefined && test !== undefined ? { train, dev, test } : undefined;
}

/** The split that a folder is of: "train_splits", "dev_splits_complete", "output_repeated_splits_test". */
const splitOf = (folder: string): Split | undefined =>
  SPLITS.find((split) => new RegExp(`(^|[^a-z])${split}([^a-z]|$)`, "i").test(folder));

/** Reads MELD in `root`. Throws where a table lacks, or no video has its sound beside it. */
export async function readMeld(host: Host, root: string): Promise<Corpus> {
  const tables = await meldIn(host, root);
  if (tables === undefined)
    throw new Error(
      `Cannot read MELD from ${root}: it lacks one of train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv`,
    );
  const { wavs, videos } = await clipsIn(host, root);
  const sounds = new Map<string, string>();
  for (const { folder, stem, path } of wavs) {
    const split = splitOf(folder);
    if (split !== undefined && !sounds.has(`${split} ${stem}`)) sounds.set(`${split} ${stem}`, path);
  }
  if (sounds.size === 0)
    throw new Error(
      `Cannot read MELD from ${root}: it has ${videos} videos and no sound of them; in each folder of videos make it by: for f in *.mp4; do ffmpeg -i $f -ac 1 -ar 16000 \${f%.mp4}.wav; done`,
    );

  const problems: Problem[] = [];
  const otherLabels = new Map<string, number>();
  const ownLabels = new Map<string, { label: Label; count: number }>();
  const utterances: Utterance[] = [];
  const seen = new Set<string>();
  let rows = 0;
  for (const split of SPLITS) {
    const path = tables[split];
    const { text: table, encoding } = await readAnyText(host, path);
    if (encoding !== "UTF-8")
      problems.push({
        id: path.slice(root.length + 1),
        kind: "text not UTF-8",
        handled: `read as ${encoding}`,
      });
    const [header = [], ...body] = parseCsv(table, path);
    const lacking = COLUMNS.find((column) => !header.includes(column));
    if (lacking !== undefined) throw new SyntaxError(`Cannot read ${path}: it lacks the column ${lacking}`);
    for (const [i, row] of body.entries()) {
      if (row.length !== header.length)
        throw new SyntaxError(
          `Cannot read ${path}: row ${i + 1} has ${row.length} fields, expected ${header.length}`,
        );
      rows++;
      const [text, speaker, emotion, dialogue, utterance] = COLUMNS.map((name) => row[header.indexOf(name)]);
      const stem = `dia${dialogue}_utt${utterance}`;
      const id = `${split}_${stem}`;
      const problem = (kind: Problem["kind"], handled: string) => problems.push({ id, kind, handled });
      const label = LABEL[emotion.toLowerCase()];
      if (label === undefined && !OTHER.has(emotion.toLowerCase())) {
        problem("unknown label", `left out: label "${emotion}"`);
        continue;
      }
      if (seen.has(id)) {
        problem("duplicate id", "the first one is used");
        continue;
      }
      seen.add(id);
      if (label === undefined) {
        otherLabels.set(emotion, (otherLabels.get(emotion) ?? 0) + 1);
        continue;
      }
      const wav = sounds.get(`${split} ${stem}`);
      if (wav === undefined) {
        problem("missing wav", "left out");
        continue;
      }
      const dropped = droppedCharacters(text);
      if (dropped.size > 0) problem("dropped characters", `kept without ${showDropped(dropped)}`);
      ownLabels.set(emotion, { label, count: (ownLabels.get(emotion)?.count ?? 0) + 1 });
      utterances.push({
        ...{ id, wav, text, words: normalizeTranscript(text), label, speaker },
        ...{ session: split, split, dialogue: `${split}_dia${dialogue}`, improvised: false },
      });
    }
  }
  if (rows < RELEASE)
    problems.push({
      id: root,
      kind: "incomplete release",
      handled: `used as it is: ${rows} utterances, the release has ${RELEASE}`,
    });
  return {
    ...{ name: "MELD", root, sessions: [...SPLITS], utterances, otherLabels, ownLabels, problems },
    transcribed: true,
    foldRule: "its own split by dialogues, with speakers on both sides",
  };
}
