/**
 * Files of the web for ranged reading: in blocks by HTTP ranges where the server has them, else whole. Blocks of weights are
 * kept in the browser's Cache storage, one cache for each version of a file; a block is there whole or not at all.
 */

import type { RangedFile } from "./host.ts";

/** Bytes of a block. */
const BLOCK = 4 * 2 ** 20;
/** Blocks that are fetched side by side. */
const TOGETHER = 4;
/** Milliseconds before each new attempt to fetch what broke off. */
const WAITS = [300, 1000, 3000];
/** Begins the names of the caches. */
const CACHE = "wavegate";
/** A cache takes addresses alone. */
const keyOf = (block: number) => `https://wavegate.invalid/${block}`;
/** Files that are worth keeping. */
const WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt)$/;

/** What is there under an address; `init` as fetch() takes it. Throws one line that names the address. */
export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await fetch(url, init);
    } catch (cause) {
      if (attempt < WAITS.length && !/^(blob|data):/.test(url)) await sleep(WAITS[attempt]);
      else throw new Error(`Cannot read ${url}: ${unreachable(url)}`, { cause });
    }
  }
}

const unreachable = (url: string): string =>
  url.startsWith("blob:")
    ? "the page has let go of it, or it is another page's"
    : "its server cannot be reached, or does not let this page read from it (CORS)";

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The error for an answer that holds no file. */
export function refused(url: string, { status, statusText }: Response): Error {
  const reasons: Record<number, string> = { 401: "it wants a login", 403: "forbidden", 404: "no such file" };
  const reason = reasons[status] ?? statusText;
  const error = new Error(`Cannot read ${url}: the server answers ${status}${reason ? ` (${reason})` : ""}`);
  return status === 404 || status === 410 ? Object.assign(error, { code: "ENOENT" }) : error;
}

/** Whether an answer holds the file that was asked for. Many servers of applications send their page where nothing is. */
export const holds = (url: string, answer: Response): boolean =>
  answer.ok &&
  (/\.html?$|\/$/.test(new URL(url).pathname) ||
    !/^text\/html\b/.test(answer.headers.get("content-type") ?? ""));

/** The whole file. Throws where it is not there. */
export async function fetchWhole(url: string): Promise<Response> {
  const answer = await request(url);
  if (holds(url, answer)) return answer;
  await answer.body?.cancel();
  throw answer.ok ? pageInstead(url) : refused(url, answer);
}

const pageInstead = (url: string): Error =>
  Object.assign(
    new Error(`Cannot read ${url}: the server answers with a page, as some do where no file is`),
    {
      code: "ENOENT",
    },
  );

/** Opens a file for ranged reading. Throws one line that names it. */
export async function openWebFile(url: string): Promise<RangedFile> {
  if (/^(blob|data):/.test(url)) return ofBlob(url, await (await fetchWhole(url)).blob());
  const first = await request(url, { headers: { Range: "bytes=0-0" } });
  if (first.status === 416) return ofBlob(url, new Blob()); // an empty file has no byte
  if (!holds(url, first)) {
    await first.body?.cancel();
    throw first.ok ? pageInstead(url) : refused(url, first);
  }
  if (first.status !== 206) return ofBlob(url, await first.blob()); // a server without ranges sends all
  await first.arrayBuffer();
  const size = Number(/\/(\d+)$/.exec(first.headers.get("content-range") ?? "")?.[1] ?? Number.NaN);
  // Servers of other origins may hide Content-Range, but not Content-Length.
  if (Number.isNaN(size)) return ofBlob(url, await (await fetchWhole(url)).blob());
  const tag = first.headers.get("etag") ?? first.headers.get("last-modified");
  return ofBlocks(
    url,
    size,
    tag,
    WEIGHTS.test(new URL(url).pathname) ? await cacheFor(url, size, tag) : undefined,
  );
}

/** The cache of this version of a file, after those of others were removed; undefined where there is no storage or no version. */
async function cacheFor(url: string, size: number, tag: string | null): Promise<Cache | undefined> {
  if (tag === null) return undefined;
  const own = `${CACHE} ${url} ${size} ${tag}`;
  try {
    for (const name of await caches.keys())
      if (name.startsWith(`${CACHE} ${url} `) && name !== own) await caches.delete(name);
    return await caches.open(own);
  } catch {
    return undefined; // switched off, as in a page that may store nothing
  }
}

function requireInside(url: string, size: number, into: Uint8Array, position: number): void {
  if (position + into.length > size)
    throw new Error(
      `Cannot read ${url}: it ends at byte ${size}, ${position + into.length - size} bytes too early`,
    );
}

function ofBlob(url: string, blob: Blob): RangedFile {
  return {
    size: blob.size,
    async read(into, position) {
      requireInside(url, blob.size, into, position);
      into.set(new Uint8Array(await blob.slice(position, position + into.length).arrayBuffer()));
    },
    close: async () => {},
  };
}

function ofBlocks(url: string, size: number, tag: string | null, storage?: Cache): RangedFile {
  let cache = storage;
  /** Those of the last read: the next tensor begins in the last block of the one before. */
  let recent = new Map<number, Uint8Array<ArrayBuffer>>();

  const keep = async (index: number, bytes: Uint8Array<ArrayBuffer>) => {
    try {
      await cache?.put(keyOf(index), new Response(bytes));
    } catch (error) {
      cache = undefined;
      console.warn(`wavegate: ${url} is not kept in this browser: ${(error as Error).message}`);
    }
  };
  const block = async (index: number): Promise<Uint8Array<ArrayBuffer>> => {
    const begin = index * BLOCK;
    const length = Math.min(BLOCK, size - begin);
    const kept = await cache?.match(keyOf(index)).catch(() => undefined);
    const stored = kept && new Uint8Array(await kept.arrayBuffer());
    if (stored?.length === length) return stored;
    const bytes = await fetchRange(url, begin, length, tag);
    await keep(index, bytes);
    return bytes;
  };
  return {
    size,
    async read(into, position) {
      requireInside(url, size, into, position);
      if (into.length === 0) return;
      const [first, last] = [Math.floor(position / BLOCK), Math.floor((position + into.length - 1) / BLOCK)];
      for (let from = first; from <= last; from += TOGETHER) {
        const indices = Array.from({ length: Math.min(TOGETHER, last - from + 1) }, (_, i) => from + i);
        const read = indices.map(async (i) => [i, recent.get(i) ?? (await block(i))] as const);
        recent = new Map(await Promise.all(read));
        for (const [index, bytes] of recent) {
          const begin = Math.max(position, index * BLOCK);
          const end = Math.min(position + into.length, index * BLOCK + bytes.length);
          into.set(bytes.subarray(begin - index * BLOCK, end - index * BLOCK), begin - position);
        }
      }
    },
    async close() {
      recent = new Map();
    },
  };
}

/** `length` bytes from `begin` on, of the version that `tag` names. What breaks off is fetched again. */
async function fetchRange(
  url: string,
  begin: number,
  length: number,
  tag: string | null,
): Promise<Uint8Array<ArrayBuffer>> {
  for (let attempt = 0; ; attempt++) {
    const answer = await request(url, { headers: { Range: `bytes=${begin}-${begin + length - 1}` } });
    const temporary = answer.status === 429 || answer.status >= 500;
    if (answer.status === 206) {
      const now = answer.headers.get("etag") ?? answer.headers.get("last-modified");
      if (now !== tag) throw new Error(`Cannot read ${url}: it changed while it was read, load it again`);
      const bytes = await answer.arrayBuffer().catch(() => undefined);
      if (bytes?.byteLength === length) return new Uint8Array(bytes);
      if (attempt === WAITS.length)
        throw new Error(
          `Cannot read ${url}: of ${length} bytes from byte ${begin} on ${bytes?.byteLength ?? "not all"} came`,
        );
    } else if (!temporary || attempt === WAITS.length) {
      await answer.body?.cancel();
      if (answer.ok) throw new Error(`Cannot read ${url}: the server stopped to answer by ranges`);
      throw refused(url, answer);
    }
    await sleep(WAITS[attempt]);
  }
}
