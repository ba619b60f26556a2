/** What the hub says of a revision: its commit, and the files of that. */
import * as v from "valibot";
import { isObject } from "../io/config.ts";
import { integer, object, parse, text } from "../io/schema.ts";
import { isCommit } from "./name.ts";
import { type Hub, HubError, requestText } from "./request.ts";

/** A file of a commit. */
export interface HubFile {
  /** From the root of the model: "config.json", "bert/vocab.txt". */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** A large file's SHA-256, else git's SHA-1. The cache names it by that. */
  readonly etag: string;
}

/** Folders of a model folder that this project writes and reads. */
const FOLDERS = ["bert", "hubert", "language_model"];

/** A path that leads nowhere but below the model's folder, on any system. */
const isPlain = (path: string) => path.split("/").every((part) => /^(?!\.{0,2}$)[^\\:\0]+$/.test(part));

const entrySchema = object({
  type: v.string(),
  path: v.string(),
  size: integer(0),
  oid: v.optional(text("40 hexadecimal digits", /^[0-9a-f]{40}$/)),
  lfs: v.nullish(object({ oid: text("64 hexadecimal digits", /^[0-9a-f]{64}$/), size: integer(0) })),
});

// Loaded with the first request. By a name that no bundler follows: only whoever pulls needs it.
const LIBRARY: string = "@huggingface/hub";

async function library(hub: Hub): Promise<typeof import("@huggingface/hub")> {
  return await import(/* webpackIgnore: true */ /* @vite-ignore */ LIBRARY).catch((cause: Error) => {
    throw new HubError(hub, `npm ${LIBRARY} cannot be loaded: ${cause.message.split("\n", 1)[0]}`);
  });
}

/** How the library asks: it would wait for nothing, and give its token to every host. */
function fetchBy(hub: Hub): typeof fetch {
  return async (input, init) =>
    await requestText(hub, String(input), Object.fromEntries(new Headers(init?.headers)));
}

/** The commit of the model's revision. */
export async function commitOf(hub: Hub): Promise<string> {
  const { model, settings } = hub;
  if (isCommit(model.revision)) return model.revision;
  const { modelInfo } = await library(hub);
  const { sha } = await answered(hub, () =>
    modelInfo({
      ...{ name: model.id, revision: model.revision, additionalFields: ["sha"] },
      ...{ hubUrl: settings.endpoint, fetch: fetchBy(hub) },
    }),
  );
  if (typeof sha === "string" && isCommit(sha)) return sha;
  throw new HubError(hub, `${settings.endpoint} names no commit for ${model.revision}`);
}

/** The files of a commit, in its root and in FOLDERS. */
export async function filesOf(hub: Hub, commit: string): Promise<HubFile[]> {
  const { listFiles } = await library(hub);
  const files: HubFile[] = [];
  const list = async (folder?: string): Promise<string[]> => {
    const folders: string[] = [];
    const entries = listFiles({
      ...{ repo: hub.model.id, revision: commit, path: folder },
      ...{ hubUrl: hub.settings.endpoint, fetch: fetchBy(hub) },
    });
    for await (const entry of entries) {
      const { type, path, size, oid, lfs } = parse(entrySchema, entry, `the listing of ${hub.model.id}`);
      if (!isPlain(path)) continue;
      const etag = lfs?.oid ?? oid;
      if (type === "directory") folders.push(path);
      else if (type === "file" && etag !== undefined) files.push({ path, size: lfs?.size ?? size, etag });
    }
    return folders;
  };
  await answered(hub, async () => {
    const folders = await list();
    for (const folder of FOLDERS) if (folders.includes(folder)) await list(folder);
  });
  return files;
}

/** Where an answer is no JSON, as the page on which a network wants a login, or of another form, says so in one line. */
async function answered<T>(hub: Hub, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    hub.signal?.throwIfAborted();
    if (error instanceof HubError || !isObject(error)) throw error;
    const why = String(error.message).split("\n", 1)[0];
    throw new HubError(hub, `${hub.settings.endpoint} answers what no hub does: ${why}`);
  }
}
