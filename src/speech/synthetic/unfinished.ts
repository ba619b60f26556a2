/** A corpus that is being made. It lies in OUT.partial, so that what is called OUT is always whole. */
import type { Host } from "../../host/host.ts";

export interface UnfinishedCorpus {
  /** Where its files go. */
  readonly path: string;
  /** Gives the folder its name. */
  publish(): Promise<void>;
  /** Removes it with all it holds. */
  discard(): Promise<void>;
  /** Lets another process make it. */
  release(): void;
}

/** What an unfinished corpus may hold: what is made, locks, and files that were being written. */
const OURS =
  /^(Session\d+|(manifest\.json|oracle\.json|truth\.jsonl|text\.txt|vocab\.txt)(\..*\.tmp)?|lock(\..*)?)$/;

/**
 * Locks OUT.partial, emptied of what a process that died left in it. Throws where `out` exists, where another process is
 * making it, and where OUT.partial is somebody's own folder.
 */
export async function claimCorpus(host: Host, out: string): Promise<UnfinishedCorpus> {
  const path = `${out}.partial`;
  const refuseMade = async () => {
    if ((await host.kind(out)) !== undefined)
      throw new Error(`Cannot make a corpus in ${out}: it exists already`);
  };
  const found = async () => ((await host.kind(path)) === "directory" ? await host.list(path) : []);
  await refuseMade();
  const foreign = (await found()).find((name) => !OURS.test(name));
  if (foreign !== undefined)
    throw new Error(
      `Cannot make a corpus in ${out}: ${path} holds ${foreign} and is no unfinished corpus, expected nothing of that name`,
    );
  await host.makeDirectory(path);
  const lock = host.lock(path, "make a corpus in");
  try {
    await refuseMade(); // by another process, since
    for (const name of await found()) if (!name.startsWith("lock")) await host.remove(`${path}/${name}`);
  } catch (error) {
    lock.release();
    throw error;
  }
  return {
    path,
    async publish() {
      await host.rename(path, out);
      await host.remove(`${out}/lock`); // went along, so that nobody claimed the folder before it had its name
    },
    discard: () => host.remove(path),
    release: () => lock.release(),
  };
}
