/**
 * Reads a corpus from a table of one's own, manifest.csv or manifest.jsonl: a row for each recording, with the columns or keys
 * path, label, text, speaker, group and split, of which the first two are required.
 */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { parseCsv } from "../../io/csv.ts";
import { readUtf8 } from "../../io/encoding.ts";
import { listed } from "../../io/listed.ts";
import { readJsonLinesAs } from "../../io/schema.ts";
import { droppedCharacters, normalizeTranscript, showDropped } from "../../io/text.ts";
import { speakerGroups } from "./clips.ts";
import {
  type Corpus,
  type Label,
  type Problem,
  type Split,
  UNKNOWN_SPEAKER,
  type Utterance,
} from "./corpus.ts";
import { bySession } from "./folds.ts";

/** Names of the file in a folder. */
export const MANIFEST_FILES = ["manifest.csv", "manifest.jsonl"] as const;

/** Groups of speakers where the table has none. */
const GROUPS = 5;

const COLUMNS = ["path", "label", "text", "speaker", "group", "split"] as const;
type Row = Partial<Record<(typeof COLUMNS)[number], string>>;

/** Labels in lower case that are one of the four classes. */
const LABEL: Readonly<Record<string, Label>> = {
  ...{ angry: "angry", anger: "angry", ang: "angry" },
  ...{ happy: "happy", happiness: "happy", hap: "happy", joy: "happy" },
  ...{ sad: "sad", sadness: "sad" },
  ...{ neutral: "neutral", neu: "neutral" },
};

/** The manifest that `root` is or holds; undefined where there is none. Throws where it holds two. */
export async function manifestIn(host: Host, root: string): Promise<string | undefined> {
  if ((await host.kind(root)) === "file") return root;
  const found: string[] = [];
  for (const name of MANIFEST_FILES) if ((await host.kind(`${root}/${name}`)) === "file") found.push(name);
  if (found.length > 1)
    throw new Error(`Cannot read a corpus from ${root}: it has ${found.join(" and ")}; name one of them`);
  return found.length === 0 ? undefined : `${root}/${found[0]}`;
}

/**
 * Reads a manifest, with paths relative to its folder. Folds are its split where it has one, else its groups, else groups of
 * its speakers. Throws one line where it is damaged, or says nothing of which folds could be made.
 */
export async function readOwnManifest(host: Host, root: string): Promise<Corpus> {
  const path = await manifestIn(host, root);
  if (path === undefined)
    throw new Error(`Cannot read a manifest from ${root}: it has no ${MANIFEST_FILES.join(" or ")}`);
  const slash = path.lastIndexOf("/");
  const folder = slash < 0 ? "." : path.slice(0, slash) || "/";
  const rows = await readRows(host, path);
  const filled = (column: keyof Row) => rows.filter((row) => row[column]).length;
  const [split, grouped, spoken, texts] = [
    filled("split"),
    filled("group"),
    filled("speaker"),
    filled("text"),
  ];
  const refuse = (why: string): never => {
    throw new SyntaxError(`Cannot use ${path}: ${why}`);
  };
  const number = (column: keyof Row) => rows.findIndex((row) => !row[column]) + 1;
  if (rows.length === 0) refuse("it has no rows");
  if (split > 0 && grouped > 0) refuse("it has group and split, and either makes the folds");
  if (split > 0 && split < rows.length) refuse(`row ${number("split")} has no split`);
  if (grouped > 0 && grouped < rows.length) refuse(`row ${number("group")} has no group`);
  if (spoken < rows.length && (spoken > 0 || split === 0))
    refuse(`row ${number("speaker")} has no speaker, and without a split folds are made by speakers`);

  const problems: Problem[] = [];
  const otherLabels = new Map<string, number>();
  const ownLabels = new Map<string, { label: Label; count: number }>();
  const utterances: Utterance[] = [];
  const seen = new Set<string>();
  const speakers = new Map(rows.map((row) => [row.speaker ?? "", undefined]));
  const groups = speakerGroups(speakers, GROUPS);
  for (const [i, row] of rows.entries()) {
    const { path: file = "", label: own = "", text = "", speaker = "", group, split } = row;
    if (file === "") refuse(`row ${i + 1} has no path`);
    if (split && !["train", "dev", "test"].includes(split))
      refuse(`row ${i + 1} has the split "${split}", expected train, dev or test`);
    const id = file.replace(/\.\w+$/, "");
    const problem = (kind: Problem["kind"], handled: string) => problems.push({ id, kind, handled });
    const label = LABEL[own.toLowerCase()];
    if (label === undefined) {
      otherLabels.set(own || "(none)", (otherLabels.get(own || "(none)") ?? 0) + 1);
      continue;
    }
    if (seen.has(id)) {
      problem("duplicate id", "the first one is used");
      continue;
    }
    seen.add(id);
    const wav = file.startsWith("/") ? file : `${folder}/${file}`;
    if ((await host.kind(wav)) !== "file") {
      problem("missing wav", "left out");
      continue;
    }
    if (texts > 0 && text === "") problem("missing transcript", "taken as empty");
    const dropped = droppedCharacters(text);
    if (dropped.size > 0) problem("dropped characters", `kept without ${showDropped(dropped)}`);
    ownLabels.set(own, { label, count: (ownLabels.get(own)?.count ?? 0) + 1 });
    const session = split ?? group ?? (groups.get(speaker) as string);
    utterances.push({
      ...{ id, wav, text, words: normalizeTranscript(text), label },
      ...{ speaker: speaker || UNKNOWN_SPEAKER, session, improvised: false },
      // Dev and test share no speaker where groups are made; with a split a recording stands alone.
      dialogue: split ? id : speaker,
      ...(split ? { split: split as Split } : {}),
    });
  }
  const sessions = [...new Set(rows.map((row) => row.split ?? row.group ?? groups.get(row.speaker ?? "")))];
  return {
    ...{ name: path.slice(slash + 1), root: folder, utterances, otherLabels, ownLabels, problems },
    sessions: (sessions as string[]).sort(bySession),
    transcribed: texts > 0,
    foldRule:
      split > 0
        ? "its own split"
        : grouped > 0
          ? "its groups"
          : `${sessions.length} groups of its ${speakers.size} speakers, dealt out in turn`,
  };
}

const text = v.optional(v.nullable(v.union([v.string(), v.number()], "a text or a number")));
const line = v.object({
  ...{ path: text, label: text, text, speaker: text, group: text, split: text },
});

/** The rows of a manifest. Throws where a .csv lacks one of the columns `required`. */
export async function readRows(
  host: Host,
  path: string,
  required: readonly string[] = ["path", "label"],
): Promise<Row[]> {
  const clean = (row: Record<string, string | number | null | undefined>): Row =>
    Object.fromEntries(
      COLUMNS.map((name) => [
        name,
        row[name] === null ? undefined : String(row[name] ?? "").trim() || undefined,
      ]),
    );
  if (path.endsWith(".jsonl")) return (await readJsonLinesAs(host, path, line)).map(clean);
  if (!path.endsWith(".csv"))
    throw new SyntaxError(`Cannot read a corpus from ${path}: a manifest is a .csv or a .jsonl file`);
  const [header = [], ...rows] = parseCsv(await readUtf8(host, path), path);
  const names = header.map((name) => name.trim().toLowerCase());
  for (const column of required)
    if (!names.includes(column))
      throw new SyntaxError(
        `Cannot use ${path}: it lacks the column ${column}; it has ${listed(names, 8) || "none"}`,
      );
  return rows.map((row, i) => {
    if (row.length !== names.length)
      throw new SyntaxError(
        `Cannot use ${path}: row ${i + 1} has ${row.length} fields, expected ${names.length}`,
      );
    return clean(Object.fromEntries(names.map((name, j) => [name, row[j]])));
  });
}
