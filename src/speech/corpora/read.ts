/** Reads a corpus of any layout that is known, and finds out which it is. */
import type { Host } from "../../host/host.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import { beginningOf } from "../../io/listed.ts";
import { type ActedName, readActed } from "./acted.ts";
import { type Clip, clipsIn } from "./clips.ts";
import type { Corpus } from "./corpus.ts";
import { FILE_NAMES } from "./file_names.ts";
import { iemocapIn, readIemocap } from "./iemocap.ts";
import { meldIn, readMeld } from "./meld.ts";
import { manifestIn, readOwnManifest } from "./own_manifest.ts";

/** Names of the layouts, as `--corpus` takes them. */
export const CORPUS_NAMES = ["iemocap", "ravdess", "crema-d", "emo-db", "tess", "meld", "manifest"] as const;

/** Name of a layout. */
export type CorpusName = (typeof CORPUS_NAMES)[number];

/** Folders that hold nothing but IEMOCAP, and many files of it. */
const IEMOCAP_FOLDERS = /^(Session\d+|IEMOCAP_full_release)$/;

const isActed = (name: CorpusName): name is ActedName => Object.hasOwn(FILE_NAMES, name);

/**
 * Reads the corpus in the folder `root`, or the manifest `root`. Without a `name` the layout is found; where there is a
 * manifest, the names of the files count for nothing. Throws one line that says what was found where it is none of them, or may be several.
 */
export async function readCorpus(host: Host, root: string, name?: CorpusName): Promise<Corpus> {
  const folder = root.replace(/(?<=.)\/+$/, "");
  if (name !== undefined) return await readAs(host, folder, name);
  const marked: CorpusName[] = [];
  if ((await iemocapIn(host, folder)) !== undefined) marked.push("iemocap");
  if ((await host.kind(folder)) === "directory" && (await meldIn(host, folder)) !== undefined)
    marked.push("meld");
  if ((await manifestIn(host, folder)) !== undefined) marked.push("manifest");
  if (marked.length > 1) refuseAmbiguous(root, marked);
  if (marked[0] === "manifest") return await readAs(host, folder, "manifest");

  const clips =
    (await host.kind(folder)) === "directory"
      ? await clipsIn(host, folder, marked[0] === "iemocap" ? IEMOCAP_FOLDERS : undefined)
      : undefined;
  const counts = Object.entries(FILE_NAMES).map(([each, { title, parse }]) => {
    const count = clips?.wavs.filter(({ stem }) => parse(stem) !== undefined).length ?? 0;
    return { name: each as ActedName, title, count };
  });
  const seen = counts.filter(({ count }) => count > 0);
  if (marked.length === 1 && seen.length === 0) return await readAs(host, folder, marked[0]);
  if (marked.length === 0 && seen.length === 1) return await readAs(host, folder, seen[0].name, clips);
  if (seen.length > 0)
    refuseAmbiguous(
      root,
      [...marked, ...seen.map((each) => each.name)],
      `: ${seen.map(({ count, title }) => `${count} wav ${count === 1 ? "file has a name" : "files have names"} of ${title}`).join(", ")}`,
    );
  throw new Error(await nothingFound(host, root, folder, clips?.wavs.length ?? 0));
}

function refuseAmbiguous(root: string, names: readonly CorpusName[], why = ""): never {
  throw new ArgumentError(
    `Cannot tell which corpus ${root} is, ${names.join(" or ")}${why}; --corpus NAME says it`,
  );
}

async function readAs(
  host: Host,
  root: string,
  name: CorpusName,
  clips?: { readonly wavs: readonly Clip[] },
): Promise<Corpus> {
  if (name === "iemocap") return await readIemocap(host, root);
  if (name === "manifest") return await readOwnManifest(host, root);
  if ((await host.kind(root)) !== "directory")
    throw new Error(`Cannot read ${name} from ${root}: there is no such folder`);
  if (name === "meld") return await readMeld(host, root);
  if (isActed(name)) return await readActed(host, root, name, clips);
  throw new RangeError(`Cannot read ${root} as ${name}: expected one of ${CORPUS_NAMES.join(", ")}`);
}

async function nothingFound(host: Host, root: string, folder: string, wavs: number): Promise<string> {
  const names = (await host.kind(folder)) === "directory" ? await host.list(folder) : [];
  const titles = Object.values(FILE_NAMES).map(({ title }) => title);
  return `Cannot read a corpus from ${root}: expected Session1 to Session5 or IEMOCAP_full_release, train_sent_emo.csv of MELD, clips of ${titles.join(", ")}, manifest.csv or manifest.jsonl, found ${names.length === 0 ? "nothing" : `${beginningOf(names, 8)} with ${wavs} wav files`}`;
}
