/** Models of the Hugging Face Hub, in the cache that Python's huggingface_hub uses. */
import type { Host } from "../host/host.ts";
import { cachedCommit, lockFolderOf, rememberCommit, Snapshot } from "./cache.ts";
import { download } from "./download.ts";
import { commitOf, filesOf, type HubFile } from "./listing.ts";
import { isCommit, modelName, requireModelName, showName } from "./name.ts";
import { isLanguageModel, isSmall, missingIn, shardsOf, weightsIn } from "./needed.ts";
import { type Hub, HubError } from "./request.ts";
import { type HubSettings, hubSettings } from "./settings.ts";

/** How far a download is. */
export interface PullProgress {
  /** The file on its way: "model.safetensors". */
  readonly path: string;
  /** Bytes of it that are there. */
  readonly bytes: number;
  /** All of its bytes. */
  readonly of: number;
  /** Bytes that were there when this download of it began. */
  readonly from: number;
}

/** Options of pullModel(). */
export interface PullOptions {
  /** By default those of the environment. */
  readonly settings?: HubSettings;
  /** Told of everything that is waited for, and of a copy that may be old. */
  readonly onNote?: (line: string) => void;
  /** Told of the bytes as they come. */
  readonly onProgress?: (progress: PullProgress) => void;
  /** Called with the folder once all but the weights is there; where it throws, they are not downloaded. */
  readonly check?: (folder: string) => Promise<void>;
  /** Stops; the next pull goes on from there. Its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Waits. */
  readonly sleep?: (milliseconds: number) => Promise<void>;
}

/** A model in the cache. */
export interface PulledModel {
  /** "ORG/NAME". */
  readonly id: string;
  /** As it was given, "main" by default. */
  readonly revision: string;
  /** Its commit. */
  readonly commit: string;
  /** A model folder. */
  readonly folder: string;
  /** The files that the hub listed and that are read here; empty where it was not asked. */
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  /** Bytes that were downloaded. */
  readonly downloaded: number;
}

/**
 * Downloads what is missing of a model, "ORG/NAME" or "ORG/NAME@REVISION", and returns its folder: config, tokenizer and
 * vocabulary, and the weights, as safetensors or else as pytorch_model.bin. Where the hub cannot be asked, or is not to be
 * (HF_HUB_OFFLINE), the cache must hold it. Throws one line that says what is missing, and how to get it.
 */
export async function pullModel(host: Host, name: string, options: PullOptions = {}): Promise<PulledModel> {
  const hub = await hubFor(host, name, options);
  const { settings, model, onNote } = hub;
  if (settings.offline) return await fromCache(hub, "HF_HUB_OFFLINE is set");
  try {
    return await fromHub(hub, options);
  } catch (error) {
    if (!(error instanceof HubError && error.passing)) throw error;
    const cached = await fromCache(hub, "").catch(() => undefined);
    if (!cached) throw error;
    onNote(`${error.reason}; taking ${showName(model)} as it is in the cache, commit ${cached.commit}`);
    return cached;
  }
}

async function hubFor(host: Host, name: string, options: PullOptions): Promise<Hub> {
  const model = requireModelName(name);
  const { settings = await hubSettings(host), onNote = () => {}, signal } = options;
  return { host, settings, model, signal, onNote, sleep: options.sleep ?? sleeper(signal) };
}

/** The model as it was pulled before. */
async function fromCache(hub: Hub, why: string): Promise<PulledModel> {
  const { host, model, settings } = hub;
  const { id, revision } = model;
  const how = `wavegate pull ${showName(model)} downloads it where there is a network`;
  const commit = await cachedCommit(host, settings.cache, model);
  if (commit === undefined)
    throw new HubError(hub, `${why}, and ${settings.cache} holds no ${revision} of it; ${how}`);
  const { folder } = new Snapshot(host, settings.cache, model, commit);
  const missing = await missingIn(host, folder);
  if (missing.length > 0)
    throw new HubError(hub, `${why}, and ${folder} lacks ${missing.join(", ")}; ${how}`);
  return { id, revision, commit, folder, files: [], downloaded: 0 };
}

const MIB = 2 ** 20;
/** A language model beyond that is often larger than the model, and slow to read: whoever wants it names it. */
const LARGEST_LANGUAGE_MODEL = 64 * MIB;

async function fromHub(hub: Hub, { onProgress, check }: PullOptions): Promise<PulledModel> {
  const { host, model, settings } = hub;
  const { cache } = settings;
  const commit = await commitOf(hub);
  const listed = new Map((await filesOf(hub, commit)).map((file) => [file.path, file]));
  const snapshot = new Snapshot(host, cache, model, commit);
  let downloaded = 0;
  const fetchAll = async (files: readonly HubFile[]) => {
    downloaded += await complete(hub, snapshot, files, { commit, onProgress });
  };
  const { files: weights, index } = weightsIn([...listed.keys()]);
  if (weights.length === 0 && index === undefined) throw noWeights(hub, [...listed.keys()]);
  const small = [...listed.values()].filter(({ path }) => isSmall(path));
  if (!small.some(({ path }) => path === "config.json")) throw new HubError(hub, "it has no config.json");
  await fetchAll(small);
  await check?.(snapshot.folder);
  const large: HubFile[] = [];
  for (const file of [...listed.values()].filter(({ path }) => isLanguageModel(path))) {
    if (file.size <= LARGEST_LANGUAGE_MODEL) large.push(file);
    else
      hub.onNote(
        `${file.path} of ${model.id} is left out, as it has ${Math.ceil(file.size / MIB)} MiB, more than ${LARGEST_LANGUAGE_MODEL / MIB}: --lm takes one`,
      );
  }
  if (index !== undefined) await fetchAll([listed.get(index)!]);
  const names = index === undefined ? weights : await shardsOf(host, `${snapshot.folder}/${index}`);
  for (const name of names) {
    const file = listed.get(name);
    if (!file) throw new HubError(hub, `${index} names ${name}, which is not among its files`);
    large.push(file);
  }
  await fetchAll(large);
  await rememberCommit(host, cache, model, commit).catch((error: Error) => {
    // A cache that is read only, for all of a group.
    hub.onNote(`${model.revision} of ${model.id} is not remembered: ${error.message}`);
  });
  const files = [...small, ...(index === undefined ? [] : [listed.get(index)!]), ...large];
  return {
    ...{ id: model.id, revision: model.revision, commit, folder: snapshot.folder, downloaded },
    files: files.map(({ path, size }) => ({ path, bytes: size })),
  };
}

function noWeights(hub: Hub, paths: readonly string[]): HubError {
  const others = paths.filter((path) => /\.(h5|msgpack|onnx|gguf|pt|pth|ckpt|safetensors|bin)$/.test(path));
  const there = others.length > 0 ? `: it has ${others.slice(0, 5).join(", ")}` : "";
  return new HubError(hub, `it has neither model.safetensors nor pytorch_model.bin${there}`);
}

/** Downloads those files that are missing, under a lock, and returns how many bytes came. */
async function complete(
  hub: Hub,
  snapshot: Snapshot,
  files: readonly HubFile[],
  { commit, onProgress }: { commit: string; onProgress?: PullOptions["onProgress"] },
): Promise<number> {
  const { host, model, settings } = hub;
  const missing = async () => {
    const found: HubFile[] = [];
    for (const file of files) if (!(await snapshot.has(file))) found.push(file);
    return found;
  };
  if ((await missing()).length === 0) return 0;
  const locks = lockFolderOf(settings.cache, model);
  await host.makeDirectory(locks);
  const lock = await lockPatiently(hub, locks);
  let bytes = 0;
  try {
    await snapshot.prepare();
    const wanted = await missing(); // another process may have downloaded some
    await checkSpace(hub, snapshot, wanted);
    for (const file of wanted) {
      const fresh = !(await snapshot.hasBlob(file));
      if (fresh) {
        let from: number | undefined;
        await download(hub, {
          file,
          url: `${settings.endpoint}/${model.id}/resolve/${commit}/${file.path.split("/").map(encodeURIComponent).join("/")}`,
          target: snapshot.blob(file),
          onBytes(now) {
            from ??= now;
            onProgress?.({ path: file.path, bytes: now, of: file.size, from });
          },
        });
        bytes += file.size - (from ?? 0);
      }
      await snapshot.place(file, fresh);
    }
  } finally {
    lock.release();
  }
  return bytes;
}

/** Milliseconds between looks at a lock that another process holds. */
const LOOK = 500;

/** Waits for another process that pulls the same model. */
async function lockPatiently(hub: Hub, folder: string) {
  for (let told = false; ; told = true) {
    try {
      return hub.host.lock(folder, "pull in");
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== "ELOCKED") throw error;
      if (!told) hub.onNote(`waiting: ${message}`);
    }
    await hub.sleep(LOOK);
  }
}

/** Throws where the disk has less room than the files take. */
async function checkSpace(hub: Hub, snapshot: Snapshot, files: readonly HubFile[]): Promise<void> {
  const { host, settings } = hub;
  const free = await host.freeDisk(settings.cache);
  if (free === undefined) return;
  let needed = 0;
  for (const file of files) {
    if (await snapshot.hasBlob(file)) continue;
    const partial = await host.entry(`${snapshot.blob(file)}.incomplete`);
    needed += Math.max(0, file.size - (partial?.size ?? 0));
  }
  if (needed <= free) return;
  const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  throw new HubError(
    hub,
    `it takes ${mib(needed)} more, and the disk of ${settings.cache} has ${mib(free)} left; HF_HUB_CACHE names another folder`,
  );
}

function sleeper(signal: AbortSignal | undefined) {
  return (milliseconds: number) =>
    new Promise<void>((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, milliseconds);
      if (signal?.aborted) stop();
      else signal?.addEventListener("abort", stop, { once: true });
    });
}

/**
 * The folder of a model: a path as it is, ORG/NAME[@REVISION] as pullModel() returns it. A folder of that name comes before the
 * hub, and where the cache holds such a model too, that is said. A commit that the cache holds is not looked up.
 */
export async function resolveModel(host: Host, path: string, options: PullOptions = {}): Promise<string> {
  const model = modelName(path);
  if (!model) return path;
  const hub = await hubFor(host, path, options);
  const held = await cachedCommit(host, hub.settings.cache, model);
  if ((await host.kind(path)) !== undefined) {
    if (held !== undefined && !model.pinned)
      hub.onNote(`${path} is taken from this folder; ${model.id}@main is the model of the hub`);
    return path;
  }
  const above = model.id.slice(0, model.id.indexOf("/"));
  // A slip of the pen rather than a model of the hub, which is not told of it.
  if (!model.pinned && held === undefined && (await host.kind(above)) === "directory")
    throw new Error(
      `Cannot open model ${path}: the folder ${above} holds none of that name; ${path}@main is that of the hub`,
    );
  if (isCommit(model.revision)) {
    const cached = await fromCache(hub, "").catch(() => undefined);
    if (cached) return cached.folder;
  }
  try {
    return (await pullModel(host, path, options)).folder;
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    throw new Error(`Cannot open model ${path}: there is no such folder, and from the hub: ${error.reason}`, {
      cause: error,
    });
  }
}
