/** Whether a corpus can be used: its files, its sessions, its folds. */
import type { Host } from "../../host/host.ts";
import type { Corpus } from "./corpus.ts";
import { type Examined, examine } from "./examine.ts";
import { bySession, type Fold, folds } from "./folds.ts";
import { hashSessions, readManifest } from "./manifest.ts";

/** The result of checkCorpus(). */
export interface CheckedCorpus extends Examined {
  /** Number of usable utterances of each session, in the order of the sessions' numbers. */
  readonly sessions: readonly (readonly [name: string, utterances: number])[];
  /** One per session, speaker-independent; absent where none can be made. */
  readonly folds?: readonly Fold[];
  /** Why no folds can be made. */
  readonly error?: Error;
  /** Whether the files of a synthetic corpus are those of its manifest; undefined for any other. */
  readonly intact?: boolean;
}

/** Reads the header of every wav file, and every file of a synthetic corpus. Throws the reason of an aborted `signal`. */
export async function checkCorpus(
  host: Host,
  corpus: Corpus,
  { signal }: { signal?: AbortSignal } = {},
): Promise<CheckedCorpus> {
  const examined = await examine(host, corpus, { signal });
  const { utterances } = examined;
  const manifest = await readManifest(host, corpus.root);
  const hash = manifest && (await hashSessions(host, corpus.root, signal)).sha256;
  return {
    ...examined,
    sessions: [...corpus.sessions].sort(bySession).map((name) => {
      return [name, utterances.filter((u) => u.session === name).length];
    }),
    ...attemptFolds(utterances),
    intact: manifest && hash === manifest.sha256,
  };
}

function attemptFolds(utterances: Examined["utterances"]): Pick<CheckedCorpus, "folds" | "error"> {
  try {
    return { folds: folds(utterances) };
  } catch (error) {
    return { error: error as Error };
  }
}
