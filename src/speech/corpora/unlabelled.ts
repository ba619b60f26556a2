/**
 * Speech for pretraining, which needs no emotions: the recordings that a manifest lists, any corpus of a known layout, or every
 * WAV file below a folder, without words.
 */
import type { Host } from "../../host/host.ts";
import { droppedCharacters, normalizeTranscript, showDropped } from "../../io/text.ts";
import { clipsIn } from "./clips.ts";
import type { Corpus, Problem, Utterance } from "./corpus.ts";
import { FILE_NAMES } from "./file_names.ts";
import { type Fold, type FoldOptions, holdOut } from "./folds.ts";
import { iemocapIn, readIemocap } from "./iemocap.ts";
import { meldIn } from "./meld.ts";
import { manifestIn, readRows } from "./own_manifest.ts";
import { type CorpusName, readCorpus } from "./read.ts";

/** What a corpus without sessions holds out. */
export const NOTHING_HELD_OUT = "none";

/** Whether a corpus has sessions to hold out. */
export const hasSessions = ({ sessions }: Pick<Corpus, "sessions">): boolean => sessions.length > 0;

/**
 * Reads the speech in `root`, of the layout `name` or of one that is found. Utterances without one of the four labels are taken
 * too, of a manifest without groups and split, and of IEMOCAP. Where `words` are needed, recordings without a transcript are left
 * out. Throws one line where there are no recordings.
 */
export async function readSpeech(
  host: Host,
  root: string,
  words: boolean,
  name?: CorpusName,
): Promise<Corpus> {
  const folder = root.replace(/(?<=.)\/+$/, "");
  if (name === undefined || name === "manifest") {
    const path = await manifestIn(host, folder);
    if (path !== undefined) return await readManifestSpeech(host, path, words);
  }
  if (name === "iemocap" || (name === undefined && (await iemocapIn(host, folder)) !== undefined))
    return await readIemocap(host, folder, { all: true });
  if (
    name !== undefined ||
    (await host.kind(folder)) !== "directory" ||
    (await meldIn(host, folder)) !== undefined
  )
    return await readCorpus(host, root, name);
  const { wavs } = await clipsIn(host, folder);
  const known = Object.values(FILE_NAMES).some(({ parse }) =>
    wavs.some(({ stem }) => parse(stem) !== undefined),
  );
  // Which also says what was expected where there is nothing.
  if (known || wavs.length === 0) return await readCorpus(host, root);
  if (words)
    throw new Error(
      `Cannot read words from ${root}: it has no manifest.csv or manifest.jsonl, and recordings alone have no words`,
    );
  const utterances = wavs.map((clip) => {
    const id = clip.folder === "" ? clip.stem : `${clip.folder}/${clip.stem}`;
    return utteranceOf(id, clip.path, "", clip.folder);
  });
  return corpusOf(root, utterances, [], false);
}

async function readManifestSpeech(host: Host, path: string, words: boolean): Promise<Corpus> {
  const rows = await readRows(host, path, ["path"]);
  // What is a test there is none to learn from here.
  if (rows.some(({ group, split }) => group ?? split)) return await readCorpus(host, path, "manifest");
  const root = path.slice(0, Math.max(0, path.lastIndexOf("/"))) || ".";
  const utterances: Utterance[] = [];
  const problems: Problem[] = [];
  const seen = new Set<string>();
  for (const [i, { path: file, text, speaker }] of rows.entries()) {
    if (file === undefined) throw new SyntaxError(`Cannot use ${path}: row ${i + 1} has no path`);
    const id = file.replace(/\.\w+$/, "");
    const problem = (kind: Problem["kind"], handled: string) => problems.push({ id, kind, handled });
    const wav = file.startsWith("/") ? file : `${root}/${file}`;
    if (seen.has(id)) problem("duplicate id", "the first one is used");
    else if (words && text === undefined) problem("missing transcript", "left out");
    else if ((await host.kind(wav)) !== "file") problem("missing wav", "left out");
    else {
      const dropped = droppedCharacters(text ?? "");
      if (dropped.size > 0) problem("dropped characters", `kept without ${showDropped(dropped)}`);
      utterances.push(utteranceOf(id, wav, text ?? "", speaker));
    }
    seen.add(id);
  }
  return corpusOf(root, utterances, problems, true);
}

/** Recordings of one speaker stay on one side of a split; without one, each stands alone. */
function utteranceOf(id: string, wav: string, text: string, speaker: string | undefined): Utterance {
  return {
    ...{ id, wav, text, words: normalizeTranscript(text) },
    ...{ speaker: speaker || id, session: NOTHING_HELD_OUT, dialogue: speaker || id, improvised: false },
  };
}

const corpusOf = (
  root: string,
  utterances: readonly Utterance[],
  problems: readonly Problem[],
  transcribed: boolean,
): Corpus => ({
  ...{ name: "speech", root, sessions: [], utterances, problems, transcribed },
  ...{ otherLabels: new Map(), ownLabels: new Map(), foldRule: "none" },
});

/** All speakers but those of the dev set, and no test. */
export function withoutTest(utterances: readonly Utterance[], options: FoldOptions): Fold {
  // No session has an empty name.
  return { ...holdOut(utterances, "", options), name: NOTHING_HELD_OUT };
}
