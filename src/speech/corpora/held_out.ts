/** The session or speaker held out of a corpus, and what is reported of the corpus; shared by training and evaluation. */
import { ArgumentError } from "../../io/argument_error.ts";
import { type Corpus, type Problem, problemLine, summarizeProblems, UNKNOWN_SPEAKER } from "./corpus.ts";
import type { Examined } from "./examine.ts";
import {
  bySession,
  type Fold,
  type FoldOptions,
  holdOut,
  holdOutSpeaker,
  sessionNamed,
  sessionsOf,
  speakersOf,
} from "./folds.ts";

/** Reports the problems of the corpus in `data`: a summary, and the first ten; `rest` says where the others are listed. */
export function reportProblems(
  problems: readonly Problem[],
  data: string,
  note: (line: string) => void,
  rest = "wavegate corpus check names them all",
): void {
  if (problems.length === 0) return;
  note(`${problems.length} problems in ${data}: ${summarizeProblems(problems)}`);
  for (const problem of problems.slice(0, 10)) note(`  ${problemLine(problem)}`);
  if (problems.length > 10) note(`  and ${problems.length - 10} more; ${rest}`);
}

/** The speaker of the name `wanted`, in letters of any case: "5f" is 05F. Undefined where there is none. */
export function speakerNamed(utterances: Examined["utterances"], wanted: string): string | undefined {
  const [, number, letter] = /^0*(\d+)([FM])$/i.exec(wanted) ?? [];
  return speakersOf(utterances).find(
    (name) => name === wanted || (letter && name === number.padStart(2, "0") + letter.toUpperCase()),
  );
}

/** The fold that holds out a session or speaker of the name that chooseHeldOut() gave; speakers have no FoldOptions. */
export const foldOf = (utterances: Examined["utterances"], name: string, options: FoldOptions = {}): Fold =>
  speakersOf(utterances).includes(name)
    ? holdOutSpeaker(utterances, name)
    : holdOut(utterances, name, options);

/** As chooseSession(), and speakers by name. */
export function chooseHeldOut(
  wanted: string,
  corpus: Pick<Corpus, "root" | "sessions">,
  examined: Pick<Examined, "utterances" | "problems">,
  action: string,
): string {
  return speakerNamed(examined.utterances, wanted) ?? chooseSession(wanted, corpus, examined, action);
}

/**
 * The session with the name or the number `wanted`. Throws an ArgumentError that lists the sessions and speakers where there is
 * none, an Error where none of its utterances can be used. `action` stands in the message: "Cannot ACTION fold 7 of …".
 */
function chooseSession(
  wanted: string,
  { root, sessions }: Pick<Corpus, "root" | "sessions">,
  { utterances, problems }: Pick<Examined, "utterances" | "problems">,
  action: string,
): string {
  const usable = sessionsOf(utterances);
  const all = [...new Set([...sessions, ...usable])].sort(bySession);
  const speakers = speakersOf(utterances);
  const name = sessionNamed(all, wanted);
  if (name === undefined)
    throw new ArgumentError(
      `Cannot ${action} fold ${wanted} of ${root}: its sessions are ${all.join(", ")}${speakers.length > 0 ? `, its speakers ${speakers.join(", ")}` : ""}`,
    );
  if (usable.includes(name)) return name;
  const found = summarizeProblems(problems);
  throw new Error(
    `Cannot ${action} ${name} of ${root}: none of its utterances can be used${found && ` (${found} in the corpus)`}; sessions with some: ${usable.join(", ") || "none"}`,
  );
}

/** "Session5 held out: 269 utterances of speakers 05F, 05M". */
export function heldOutLine(name: string, test: Examined["utterances"]): string {
  const speakers = [...new Set(test.map((u) => u.speaker))].sort();
  const who =
    speakers.length > 20
      ? `${speakers.length} speakers`
      : `${speakers.length === 1 ? "speaker" : "speakers"} ${speakers.join(", ")}`;
  return `${name} held out: ${test.length} utterances of ${who}`;
}

/** Says how many speakers of the test are in training too, as a split that a corpus comes with may have it; else undefined. */
export function heardLine({ name, train, dev, test }: Fold): string | undefined {
  const known = new Set([...train, ...dev].map((u) => u.speaker));
  const speakers = speakersOf(test);
  if (speakers.includes(UNKNOWN_SPEAKER))
    return `the corpus does not say who speaks: speakers of ${name} may be in training too`;
  const heard = speakers.filter((speaker) => known.has(speaker)).length;
  return heard === 0
    ? undefined
    : `${heard} of ${speakers.length} speakers of ${name} are in training too: the corpus's own split is no test on unheard speakers`;
}
