/** A corpus that is being made: it lies in OUT.partial until it is complete. */
import type { Host } from "../../host/host.ts";

export interface UnfinishedCorpus {
  /** Where its files go. */
  readonly path: string;
  /** Renames the folder to OUT. */
  publish(): Promise<void>;
  /** Removes the folder and everything in it. */
  discard(): Promise<void>;
  /** Releases the lock. */
  release(): void;
}

/** The names in an unfinished corpus: its files, those that were being written, and locks. Version 0.1 wrote oracle.json. */
const OWN_NAMES =
  /^(Session\d+|((manifest|baselines|oracle)\.json|truth\.jsonl|text\.txt|vocab\.txt)(\..*\.tmp)?|lock(\..*)?)$/;

/**
 * Creates and locks OUT.partial, and removes what a process that died left in it. Throws where `out` exists, where another
 * process is making it, and where OUT.partial holds anything that no corpus has. `names`: what may lie there; `keep`: what stays.
 */
export async function claimCorpus(
  host: Host,
  out: string,
  { names: own = OWN_NAMES, keep }: { readonly names?: RegExp; readonly keep?: RegExp } = {},
): Promise<UnfinishedCorpus> {
  const path = `${out}.partial`;
  const refuseMade = async () => {
    if ((await host.kind(out)) !== undefined)
      throw new Error(`Cannot make a corpus in ${out}: it exists already`);
  };
  const found = async () => ((await host.kind(path)) === "directory" ? await host.list(path) : []);
  await refuseMade();
  const foreign = (await found()).find((name) => !own.test(name));
  if (foreign !== undefined)
    throw new Error(
      `Cannot make a corpus in ${out}: ${path} holds ${foreign} and is no unfinished corpus, expected nothing of that name`,
    );
  await host.makeDirectory(path);
  const lock = host.lock(path, "make a corpus in");
  try {
    await refuseMade(); // another process may have published it since
    for (const name of await found())
      if (!name.startsWith("lock") && !keep?.test(name)) await host.remove(`${path}/${name}`);
  } catch (error) {
    lock.release();
    throw error;
  }
  return {
    path,
    async publish() {
      await host.rename(path, out);
      await host.remove(`${out}/lock`); // held until after the rename, so that no other process claims the folder before
    },
    discard: () => host.remove(path),
    release: () => lock.release(),
  };
}
