/** Reads a corpus of acted speech by the names of its files, wherever they lie in its folder. */
import type { Host } from "../../host/host.ts";
import { normalizeTranscript } from "../../io/text.ts";
import { type Clip, clipsIn, speakerGroups } from "./clips.ts";
import type { Corpus, Label, Problem, Utterance } from "./corpus.ts";
import { FILE_NAMES, type NamedClip } from "./file_names.ts";

/** A corpus that is read from the names of its files. */
export type ActedName = keyof typeof FILE_NAMES;

/**
 * Reads RAVDESS, CREMA-D, EMO-DB or TESS. Labels are the emotions as they were acted. Its folds are groups of speakers with
 * both sexes in each, and the speakers of dev are not in training. Throws where no clip is found.
 */
export async function readActed(
  host: Host,
  root: string,
  name: ActedName,
  found?: { readonly wavs: readonly Clip[] },
): Promise<Corpus> {
  const { title, release, labels, groups, parse } = FILE_NAMES[name];
  const { wavs } = found ?? (await clipsIn(host, root));
  const problems: Problem[] = [];
  const clips: (Clip & NamedClip)[] = [];
  const others = new Map<string, string[]>();
  const seen = new Set<string>();
  for (const clip of wavs) {
    const named = parse(clip.stem);
    if (named === undefined) others.set(clip.folder, [...(others.get(clip.folder) ?? []), clip.stem]);
    else if (seen.has(clip.stem))
      problems.push({ id: clip.stem, kind: "duplicate id", handled: `left out: ${clip.path}` });
    else {
      seen.add(clip.stem);
      clips.push({ ...clip, ...named });
    }
  }
  if (clips.length === 0)
    throw new Error(
      `Cannot read ${title} from ${root}: none of its ${wavs.length} wav files has a name of ${title}`,
    );
  for (const [folder, [first, ...rest]] of others)
    problems.push({
      id: folder || ".",
      kind: "other name",
      handled: `left out: ${rest.length + 1} wav ${rest.length > 0 ? "files" : "file"} with no name of ${title}, the first ${first}.wav`,
    });
  const spoken = clips.filter(({ emotion }) => emotion !== "song").length;
  if (spoken < release)
    problems.push({
      id: root,
      kind: "incomplete release",
      handled: `used as it is: ${spoken} clips, the release has ${release}`,
    });

  const sexes = new Map(clips.map(({ speaker, sex }) => [speaker, sex]));
  const group = speakerGroups(sexes, groups);
  const otherLabels = new Map<string, number>();
  const ownLabels = new Map<string, { label: Label; count: number }>();
  const utterances: Utterance[] = [];
  for (const { stem, path, emotion, speaker, text, dialogue = speaker } of clips) {
    const label = labels[emotion];
    if (label === undefined) {
      otherLabels.set(emotion, (otherLabels.get(emotion) ?? 0) + 1);
      continue;
    }
    ownLabels.set(emotion, { label, count: (ownLabels.get(emotion)?.count ?? 0) + 1 });
    utterances.push({
      ...{ id: stem, wav: path, text, words: normalizeTranscript(text), label },
      ...{ speaker, session: group.get(speaker) as string, dialogue, improvised: false },
    });
  }
  const sessions = [...new Set(group.values())].sort();
  return {
    ...{ name: title, root, sessions, utterances, otherLabels, ownLabels, problems },
    transcribed: true,
    foldRule: `${sessions.length} groups of its ${group.size} speakers, women and men dealt out in turn`,
  };
}
