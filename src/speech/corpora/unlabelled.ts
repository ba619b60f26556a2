/**
 * Speech for pretraining, which needs no emotions: the recordings that manifest.jsonl names, any corpus in IEMOCAP's layout, or
 * every WAV file below a folder, without words.
 */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { droppedCharacters, normalizeTranscript, showDropped } from "../../io/text.ts";
import { object, readJsonLinesAs } from "../../io/schema.ts";
import type { Corpus, Problem, Utterance } from "./corpus.ts";
import { type Fold, type FoldOptions, holdOut } from "./folds.ts";
import { readIemocap } from "./iemocap.ts";

/** Name of the list of recordings. */
export const MANIFEST_FILE = "manifest.jsonl";

/** What a corpus without sessions holds out. */
export const NOTHING_HELD_OUT = "none";

/** A line of manifest.jsonl; other keys are left alone. */
const line = object({
  /** Of the WAV file, from the folder of manifest.jsonl. */
  path: v.pipe(v.string(), v.nonEmpty()),
  text: v.optional(v.string()),
  speaker: v.optional(v.string()),
});

/** Whether a corpus has sessions to hold out. */
export const hasSessions = ({ sessions }: Pick<Corpus, "sessions">): boolean => sessions.length > 0;

/**
 * Reads the speech in `root`. Where `words` are needed, recordings without a transcript are left out. Throws one line where there
 * are no recordings.
 */
export async function readSpeech(host: Host, root: string, words: boolean): Promise<Corpus> {
  const path = `${root}/${MANIFEST_FILE}`;
  if ((await host.kind(path)) === "file") return await readLines(host, root, path, words);
  const names = (await host.kind(root)) === "directory" ? await host.list(root) : [];
  if (names.some((name) => /^(Session\d+|IEMOCAP_full_release)$/.test(name)))
    return await readIemocap(host, root, { all: true });
  if (words)
    throw new Error(
      `Cannot read ${root}: it has neither ${MANIFEST_FILE} nor Session1, Session2, …, and recordings alone have no words`,
    );
  const wavs = await wavsBelow(host, root, "");
  if (wavs.length === 0)
    throw new Error(`Cannot read ${root}: expected ${MANIFEST_FILE}, Session1 or WAV files, found none`);
  const utterances = wavs.map((path) => utteranceOf(root, path, "", path.replace(/\/?[^/]*$/, "")));
  return corpusOf(root, utterances, []);
}

async function readLines(host: Host, root: string, path: string, words: boolean): Promise<Corpus> {
  const utterances: Utterance[] = [];
  const problems: Problem[] = [];
  const seen = new Set<string>();
  for (const { path: wav, text, speaker } of await readJsonLinesAs(host, path, line)) {
    const one = utteranceOf(root, wav, text ?? "", speaker);
    const { id } = one;
    if (seen.has(id)) {
      problems.push({ id, kind: "duplicate id", handled: "left out: it stands above already" });
      continue;
    }
    seen.add(id);
    if (words && text === undefined) {
      problems.push({ id, kind: "missing transcript", handled: "left out" });
      continue;
    }
    if ((await host.kind(one.wav)) !== "file") {
      problems.push({ id, kind: "missing wav", handled: "left out" });
      continue;
    }
    const dropped = new Map(droppedCharacters(text ?? ""));
    if (dropped.size > 0)
      problems.push({ id, kind: "dropped characters", handled: `kept without ${showDropped(dropped)}` });
    utterances.push(one);
  }
  return corpusOf(root, utterances, problems);
}

/** Recordings of one speaker stay on one side of a split; without one, each stands alone. */
function utteranceOf(root: string, path: string, text: string, speaker: string | undefined): Utterance {
  const id = path.replace(/\.wav$/i, "");
  return {
    ...{ id, wav: `${root}/${path}`, text, words: normalizeTranscript(text) },
    ...{ speaker: speaker || id, session: NOTHING_HELD_OUT, dialogue: speaker || id, improvised: false },
  };
}

const corpusOf = (root: string, utterances: readonly Utterance[], problems: readonly Problem[]): Corpus => ({
  ...{ name: "speech", root, sessions: [], utterances, otherLabels: new Map(), problems },
});

/** Paths of all WAV files below `root`/`folder`, from `root`, sorted in each folder. */
async function wavsBelow(host: Host, root: string, folder: string): Promise<string[]> {
  const found: string[] = [];
  const at = folder === "" ? root : `${root}/${folder}`;
  if ((await host.kind(at)) !== "directory") return found;
  for (const name of (await host.list(at)).sort()) {
    // macOS writes extended attributes of x.wav into ._x.wav on disks that have none.
    if (name.startsWith("._")) continue;
    const path = folder === "" ? name : `${folder}/${name}`;
    const kind = await host.kind(`${root}/${path}`);
    if (kind === "directory") found.push(...(await wavsBelow(host, root, path)));
    else if (kind === "file" && /\.wav$/i.test(name)) found.push(path);
  }
  return found;
}

/** All speakers but those of the dev set, and no test. */
export function withoutTest(utterances: readonly Utterance[], options: FoldOptions): Fold {
  // No session has an empty name.
  return { ...holdOut(utterances, "", options), name: NOTHING_HELD_OUT };
}
