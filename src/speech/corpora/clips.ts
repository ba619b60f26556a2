/** Finds the recordings of a corpus, and makes groups of its speakers. */
import type { Host } from "../../host/host.ts";

/** Deepest folder that is looked into. */
const DEPTH = 5;

/** A recording in the folder of a corpus. */
export interface Clip {
  /** Its folder, relative to the corpus; "" for the corpus's own. */
  readonly folder: string;
  /** Name of the file without its suffix. */
  readonly stem: string;
  /** The whole path. */
  readonly path: string;
}

/**
 * The wav files in `root`, sorted by path, and the number of video files. Hidden files are left out, and folders in `root`
 * whose name `skip` matches.
 */
export async function clipsIn(
  host: Host,
  root: string,
  skip?: RegExp,
): Promise<{ wavs: Clip[]; videos: number }> {
  const wavs: Clip[] = [];
  let videos = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    for (const name of (await host.list(folder === "" ? root : `${root}/${folder}`)).sort()) {
      if (name.startsWith(".") || (folder === "" && skip?.test(name))) continue;
      const inside = folder === "" ? name : `${folder}/${name}`;
      const path = `${root}/${inside}`;
      const [, stem, suffix] = /^(.+)\.(wav|mp4|avi|flv)$/i.exec(name) ?? [];
      if (suffix?.toLowerCase() === "wav") wavs.push({ folder, stem, path });
      else if (suffix !== undefined) videos++;
      else if (depth < DEPTH && !/\.\w{1,5}$/.test(name) && (await host.kind(path)) === "directory")
        await visit(inside, depth + 1);
    }
  };
  await visit("", 0);
  return { wavs, videos };
}

/**
 * The group of each speaker, "Group1" to at most "GroupN". Those of each sex are dealt out in turn in the order of their
 * names, so that every group has both where there are enough of both.
 */
export function speakerGroups(
  speakers: ReadonlyMap<string, "F" | "M" | undefined>,
  groups: number,
): Map<string, string> {
  const out = new Map<string, string>();
  const count = Math.min(groups, speakers.size);
  for (const sex of new Set(speakers.values())) {
    const own = [...speakers].filter(([, each]) => each === sex).map(([name]) => name);
    for (const [i, name] of own.sort().entries()) out.set(name, `Group${(i % count) + 1}`);
  }
  return out;
}
