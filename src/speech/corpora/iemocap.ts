/**
 * Reads IEMOCAP_full_release (Busso et al. 2008) with its irregularities: hidden `._` copies, CR line ends, transcript lines
 * without an id, ids without label or wav, dialogues 05a/05b and script01_1b, blocks without votes, folders of single raters
 * beside the consensus.
 */
import type { Host } from "../../host/host.ts";
import { readAnyText } from "../../io/encoding.ts";
import { droppedCharacters, normalizeTranscript, showDropped } from "../../io/text.ts";
import { type Corpus, type Label, type Problem, SESSIONS, type Utterance } from "./corpus.ts";

/** Consensus codes to classes; excitement counts as happiness, as in all four-class work on IEMOCAP. */
export const MERGE: Readonly<Record<string, Label>> = {
  ang: "angry",
  hap: "happy",
  exc: "happy",
  sad: "sad",
  neu: "neutral",
};

/** IEMOCAP's other codes; xxx: the raters did not agree. */
const OTHER = new Set(["fru", "fea", "sur", "dis", "oth", "xxx"]);

/** Number of utterances of the release with any label, and with one of the four classes. */
const RELEASE = { labelled: 10_039, fourClass: 5_531 };

/** Ses05M_script01_1b_F003: session, marker wearer, dialogue, part and take, speaker, turn. */
const ID = /^Ses(\d\d)[FM]_(impro|script)\d\d(?:_\d)?[a-z]?_([FM])(\d+)$/;
const EVALUATION = /^\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\S+)/;
const TRANSCRIPT = /^(\S+)\s+\[\s*[\d.]+\s*-\s*[\d.]+\s*\]:?\s*(.*)$/;

/** Options of readIemocap(). */
export interface IemocapOptions {
  /** Return also utterances whose label is none of the four classes, without a label. Default false. */
  all?: boolean;
}

/** Rated turns of a dialogue, from dialog/EmoEvaluation/<dialogue>.txt. */
export function parseEvaluation(text: string): { id: string; code: string; start: number; end: number }[] {
  return lines(text).flatMap((line) => {
    const match = EVALUATION.exec(line);
    if (match === null) return [];
    const [, start, end, id, code] = match;
    return [{ id, code, start: Number(start), end: Number(end) }];
  });
}

/** Text by utterance id, from dialog/transcriptions/<dialogue>.txt, without the lines "M: ...", which have no id. */
export function parseTranscripts(text: string): Map<string, string> {
  const out = new Map<string, string>();
  for (const line of lines(text)) {
    const match = TRANSCRIPT.exec(line);
    if (match !== null) out.set(match[1], match[2].trim());
  }
  return out;
}

/**
 * Reads the sessions in `root` or in its IEMOCAP_full_release. Unusable utterances are left out and listed as problems.
 * Throws where no session is found.
 */
export async function readIemocap(host: Host, root: string, options: IemocapOptions = {}): Promise<Corpus> {
  const base = await findRelease(host, root);
  const utterances: Utterance[] = [];
  const problems: Problem[] = [];
  const otherLabels = new Map<string, number>();
  const ownLabels = new Map<string, { label: Label; count: number }>();
  const seen = new Set<string>();
  let labelled = 0;

  const read = async (path: string): Promise<string> => {
    const { text, encoding } = await readAnyText(host, path);
    if (encoding !== "UTF-8") {
      const id = path.slice(base.length + 1);
      problems.push({ id, kind: "text not UTF-8", handled: `read as ${encoding}` });
    }
    return text;
  };

  const rated = await sessionsIn(host, base);
  const sessions = await sessionFolders(host, base);
  for (const id of sessions.filter((name) => !rated.includes(name)))
    problems.push({ id, kind: "incomplete release", handled: "left out: it has no dialog/EmoEvaluation" });
  for (const session of rated) {
    const evaluations = `${base}/${session}/dialog/EmoEvaluation`;
    // The folders Categorical, Attribute and Self-evaluation hold the labels of single raters: not read.
    const dialogues = (await host.list(evaluations)).filter((f) => /^Ses\w+\.txt$/i.test(f));
    const texts = `${base}/${session}/dialog/transcriptions`;
    const transcriptFiles = await anyCase(host, texts);
    for (const file of dialogues) {
      const dialogue = file.slice(0, -".txt".length);
      const transcript = transcriptFiles(file);
      const transcripts = parseTranscripts(transcript ? await read(`${texts}/${transcript}`) : "");
      const folder = `${base}/${session}/sentences/wav/${dialogue}`;
      const wavs = await anyCase(host, folder);

      for (const { id, code, start, end } of parseEvaluation(await read(`${evaluations}/${file}`))) {
        labelled++;
        const label = MERGE[code];
        const parts = ID.exec(id);
        const problem = (kind: Problem["kind"], handled: string) => problems.push({ id, kind, handled });
        if (parts === null || (label === undefined && !OTHER.has(code))) {
          problem("unknown label", `left out: ${parts === null ? "not an utterance id" : `label "${code}"`}`);
          continue;
        }
        if (label === undefined) {
          otherLabels.set(code, (otherLabels.get(code) ?? 0) + 1);
          if (!options.all) continue;
        }
        if (seen.has(id)) {
          problem("duplicate id", "the first one is used");
          continue;
        }
        seen.add(id);
        const wav = wavs(`${id}.wav`);
        if (wav === undefined) {
          problem("missing wav", "left out");
          continue;
        }
        const text = transcripts.get(id);
        if (text === undefined) problem("missing transcript", "taken as empty");
        const dropped = droppedCharacters(text ?? "");
        if (dropped.size > 0) problem("dropped characters", `kept without ${showDropped(dropped)}`);
        if (label !== undefined) ownLabels.set(code, { label, count: (ownLabels.get(code)?.count ?? 0) + 1 });
        utterances.push({
          id,
          wav: `${folder}/${wav}`,
          text: text ?? "",
          words: normalizeTranscript(text ?? ""),
          label,
          // The first letter of an id is the marker wearer; the last group's is the one who speaks.
          speaker: `${parts[1]}${parts[3]}`,
          session,
          dialogue,
          improvised: parts[2] === "impro",
          start,
          end,
        });
      }
    }
  }

  const generated = (await host.kind(`${base}/manifest.json`)) === "file";
  const fourClass = utterances.filter((u) => u.label !== undefined).length;
  if (!generated && labelled === RELEASE.labelled && fourClass !== RELEASE.fourClass) {
    problems.push({
      id: root,
      kind: "incomplete release",
      handled: `used as it is: ${fourClass} utterances of the four classes, the release has ${RELEASE.fourClass}`,
    });
  }
  return {
    name: generated ? "synthetic" : "IEMOCAP",
    root: base,
    sessions,
    utterances,
    ...{ otherLabels, ownLabels, transcribed: true, foldRule: SESSIONS },
    problems,
  };
}

/** The folder of the sessions; undefined where `root` has none. */
export async function iemocapIn(host: Host, root: string): Promise<string | undefined> {
  for (const base of [root, `${root}/IEMOCAP_full_release`])
    if ((await host.kind(base)) === "directory" && (await sessionsIn(host, base)).length > 0) return base;
  return undefined;
}

async function findRelease(host: Host, root: string): Promise<string> {
  const trimmed = root.replace(/\/+$/, "");
  const base = await iemocapIn(host, trimmed);
  if (base !== undefined) return base;
  const found = (await host.kind(trimmed)) === "directory" ? await host.list(trimmed) : [];
  const names = found.length === 0 ? "nothing" : found.slice(0, 8).join(", ");
  throw new Error(
    `Cannot read IEMOCAP from ${root}: expected Session1 to Session5 or IEMOCAP_full_release, found ${names}`,
  );
}

async function sessionFolders(host: Host, base: string): Promise<string[]> {
  const names = (await host.list(base)).filter((name) => /^Session\d+$/.test(name));
  const kinds = await Promise.all(names.map((name) => host.kind(`${base}/${name}`)));
  return names.filter((_, i) => kinds[i] === "directory");
}

/** The sessions with labels, sorted as text: a run's random choices depend on the order. */
async function sessionsIn(host: Host, base: string): Promise<string[]> {
  const names = await sessionFolders(host, base);
  const kinds = await Promise.all(names.map((name) => host.kind(`${base}/${name}/dialog/EmoEvaluation`)));
  return names.filter((_, i) => kinds[i] === "directory");
}

/** Finds files of a folder by name whatever its case, ".WAV" for ".wav"; an absent folder has none. */
async function anyCase(host: Host, folder: string): Promise<(name: string) => string | undefined> {
  const names = (await host.kind(folder)) === "directory" ? await host.list(folder) : [];
  const exact = new Set(names);
  const folded = new Map(names.map((name) => [name.toLowerCase(), name]));
  return (name) => (exact.has(name) ? name : folded.get(name.toLowerCase()));
}

function lines(text: string): string[] {
  return text.split(/\r\n|\r|\n/).map((line) => line.replace(/^\ufeff/, "")); // concatenated files have several byte order marks
}
