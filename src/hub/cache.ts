/**
 * The cache of Python's huggingface_hub:
 *
 *     models--ORG--NAME/blobs/ETAG                 files, by their hash
 *                       snapshots/COMMIT/PATH      links to them
 *                       refs/REVISION              the commit of a branch or tag
 *     .locks/models--ORG--NAME/                    of those that write
 */
import type { Host } from "../host/host.ts";
import { writeWhole } from "../io/write_whole.ts";
import type { HubFile } from "./listing.ts";
import { isCommit, type ModelName } from "./name.ts";

/** A commit of a model in the cache, or on its way there. */
export class Snapshot {
  readonly #host: Host;
  readonly #repository: string;
  /** The folder that holds the model's files under their names. */
  readonly folder: string;

  constructor(host: Host, cache: string, { id }: ModelName, commit: string) {
    this.#host = host;
    this.#repository = `${cache}/${repositoryName(id)}`;
    this.folder = `${this.#repository}/snapshots/${commit}`;
  }

  /** Where the bytes of a file are. */
  blob({ etag }: HubFile): string {
    return `${this.#repository}/blobs/${etag}`;
  }

  /** Whether a file is there, with all its bytes. */
  async has({ path, size }: HubFile): Promise<boolean> {
    return (await sizeOf(this.#host, `${this.folder}/${path}`)) === size;
  }

  /** Whether the bytes of a file are there, as of another commit. */
  async hasBlob(file: HubFile): Promise<boolean> {
    return (await sizeOf(this.#host, this.blob(file))) === file.size;
  }

  /** Makes the folder of the blobs. */
  async prepare(): Promise<void> {
    await this.#host.makeDirectory(`${this.#repository}/blobs`);
  }

  /** Gives a blob its name. Where the disk takes no links, a `fresh` one is moved and another copied, as Python does. */
  async place(file: HubFile, fresh: boolean): Promise<void> {
    const path = `${this.folder}/${file.path}`;
    await this.#host.makeDirectory(path.slice(0, path.lastIndexOf("/")));
    await this.#host.remove(path); // a file that is cut off, or a link to one that is gone
    const up = "../".repeat(file.path.split("/").length + 1);
    if (await this.#host.link(`${up}blobs/${file.etag}`, path)) return;
    if (fresh) await this.#host.rename(this.blob(file), path);
    else await copy(this.#host, this.blob(file), path);
  }
}

const repositoryName = (id: string) => `models--${id.replace("/", "--")}`;

/** The folder in which a process that writes to a model holds a lock. */
export const lockFolderOf = (cache: string, { id }: ModelName): string =>
  `${cache}/.locks/${repositoryName(id)}`;

const refOf = (cache: string, { id, revision }: ModelName) =>
  `${cache}/${repositoryName(id)}/refs/${revision}`;

/** The commit that a revision was when it was pulled last; undefined where it never was. */
export async function cachedCommit(host: Host, cache: string, model: ModelName): Promise<string | undefined> {
  if (isCommit(model.revision)) return model.revision;
  const path = refOf(cache, model);
  if ((await host.kind(path)) !== "file") return undefined;
  const commit = (await host.readText(path)).trim();
  return isCommit(commit) ? commit : undefined;
}

/** Remembers the commit of a revision. */
export async function rememberCommit(
  host: Host,
  cache: string,
  model: ModelName,
  commit: string,
): Promise<void> {
  if (isCommit(model.revision) || (await cachedCommit(host, cache, model)) === commit) return;
  const path = refOf(cache, model);
  await host.makeDirectory(path.slice(0, path.lastIndexOf("/")));
  await writeWhole(host, path, commit);
}

/** Bytes of a file; undefined where none is. */
async function sizeOf(host: Host, path: string): Promise<number | undefined> {
  const found = await host.entry(path);
  return found?.kind === "file" ? found.size : undefined;
}

async function copy(host: Host, from: string, to: string): Promise<void> {
  const file = await host.open(from);
  const target = await host.createAtomic(to);
  try {
    const part = new Uint8Array(Math.min(file.size, 2 ** 20));
    for (let at = 0; at < file.size; at += part.length) {
      const bytes = part.subarray(0, file.size - at);
      await file.read(bytes, at);
      await target.write(bytes);
    }
    await target.commit();
  } finally {
    await target.abort();
    await file.close();
  }
}
