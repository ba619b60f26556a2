/** Joins corpora to one, as a manifest of their recordings. */
import { listed } from "../../io/listed.ts";
import { type Corpus, type Split, UNKNOWN_SPEAKER } from "./corpus.ts";
import { sessionsOf } from "./folds.ts";

/** A corpus, and what it is called in the joined one. */
export interface Part {
  readonly name: string;
  readonly corpus: Corpus;
}

/** What becomes of groups. Each is a part's name, or one of its sessions, as "mini/Session5". */
export interface Choice {
  readonly test?: readonly string[];
  readonly dev?: readonly string[];
  readonly without?: readonly string[];
}

/** A row of a manifest. */
export interface Row {
  readonly path: string;
  readonly label: string;
  readonly text?: string;
  readonly speaker: string;
  readonly group?: string;
  readonly split?: Split;
}

export interface Joined {
  readonly rows: readonly Row[];
  /** Groups in the order of the parts, with what they are, and their rows. */
  readonly groups: readonly {
    readonly name: string;
    readonly use: Split | "group";
    readonly count: number;
  }[];
  /** Groups that `without` left out. */
  readonly leftOut: readonly string[];
  /** Parts without transcripts: where there is one, no row has a text. */
  readonly wordless: readonly string[];
}

/**
 * The rows of a manifest of all utterances with one of the four labels. Sessions become groups NAME/SESSION and speakers
 * NAME/SPEAKER; where a test is chosen, the groups become a split. `pathOf` says what is written for a recording. Throws a
 * RangeError of one line where the choice names no group, or one twice, where a part does not name its speakers, and where a
 * recording is in two parts.
 */
export function joinCorpora(
  parts: readonly Part[],
  pathOf: (wav: string) => string,
  choice: Choice = {},
): Joined {
  const refuse = (why: string): never => {
    throw new RangeError(`Cannot join: ${why}`);
  };
  const groupsOf = ({ name, corpus }: Part) => sessionsOf(corpus.utterances).map((each) => `${name}/${each}`);
  const all = parts.flatMap(groupsOf);
  const uses = new Map<string, keyof Choice>();
  for (const use of ["test", "dev", "without"] as const)
    for (const wanted of choice[use] ?? []) {
      const found = all.filter((group) => group === wanted || group.startsWith(`${wanted}/`));
      if (found.length === 0) refuse(`--${use} names ${wanted || '""'}, and there are ${listed(all, 12)}`);
      for (const group of found) {
        const other = uses.get(group);
        if (other !== undefined && other !== use) refuse(`${group} is in --${other} and in --${use}`);
        uses.set(group, use);
      }
    }
  const split = [...uses.values()].includes("test");
  if (!split && [...uses.values()].includes("dev"))
    refuse("--dev needs --test, as a manifest with a split has both");
  const wordless = parts.filter(({ corpus }) => !corpus.transcribed).map(({ name }) => name);

  const rows: Row[] = [];
  const counts = new Map<string, number>();
  const owner = new Map<string, string>();
  for (const { name, corpus } of parts)
    for (const { wav, text, label, speaker, session } of corpus.utterances) {
      const group = `${name}/${session}`;
      const use = uses.get(group);
      if (label === undefined || use === "without") continue;
      if (speaker === UNKNOWN_SPEAKER) refuse(`${name} does not say who speaks in ${wav}`);
      const path = pathOf(wav);
      const other = owner.get(path);
      if (other !== undefined) refuse(`${path} is in ${other} and in ${name}`);
      owner.set(path, name);
      counts.set(group, (counts.get(group) ?? 0) + 1);
      rows.push({
        ...{ path, label, ...(wordless.length === 0 && { text }), speaker: `${name}/${speaker}` },
        ...(split ? { split: use ?? "train" } : { group }),
      });
    }
  if (rows.length === 0) refuse("no recording is left");
  if (split && !rows.some((row) => row.split === "train")) refuse("nothing is left to learn from");
  const useOf = (group: string) => (split ? ((uses.get(group) ?? "train") as Split) : "group");
  return {
    rows,
    groups: [...counts].map(([name, count]) => ({ name, use: useOf(name), count })),
    leftOut: all.filter((group) => uses.get(group) === "without"),
    wordless,
  };
}
