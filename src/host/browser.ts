/**
 * A browser's tab or worker: navigator.gpu, and files by their address, read through fetch(). Relative addresses begin at the
 * page's; a File of the user's has one by URL.createObjectURL(). There is nothing to write to.
 */

import { builtInGpu } from "./built_in_gpu.ts";
import type { Host } from "./host.ts";
import { refusePointer } from "./pointer.ts";
import { fetchWhole, holds, openWebFile, refused, request } from "./web_file.ts";

const BUILT_IN = {
  absent:
    "this browser has none here; it needs a recent Chrome, Edge, Safari or Firefox, and a page by https or of localhost",
  instead: "Dawn in Node",
};

/** Memory in GiB, rounded; where a browser does not tell, what nearly every machine has. */
const MEMORY = 4;

const addressOf = (path: string | URL): string =>
  new URL(path, globalThis.document?.baseURI ?? location.href).href;

/** For what a browser has not. */
const cannot =
  (verb: string) =>
  (path: string): never => {
    throw new Error(`Cannot ${verb} ${path}: a page in a browser has no files of its own, use Node or Deno`);
  };
const cannotLater = (verb: string) => async (path: string) => cannot(verb)(path);

/** Folders are told by their name: a server tells no more of one than that it has no such file. */
async function kind(path: string): Promise<"file" | "directory" | undefined> {
  const url = addressOf(path);
  if (/^(blob|data):/.test(url)) return "file";
  if (!/\.[a-z]\w*$/i.test(new URL(url).pathname))
    return (await kind(`${url.replace(/\/$/, "")}/config.json`)) && "directory";
  const answer = await request(url, { method: "HEAD" });
  if (answer.ok) return holds(url, answer) ? "file" : undefined;
  if ([404, 410].includes(answer.status)) return undefined;
  if (![405, 501].includes(answer.status)) throw refused(url, answer);
  const byte = await request(url, { headers: { Range: "bytes=0-0" } }); // a server without HEAD
  await byte.body?.cancel();
  return holds(url, byte) || byte.status === 416 ? "file" : undefined;
}

export const browser: Host = {
  name: "browser",
  describe() {
    const { userAgent, hardwareConcurrency } = navigator;
    return `${userAgent}, ${hardwareConcurrency} cores`;
  },
  debug: (line) => console.debug(line),
  async gpu(options = {}) {
    if (options.implementation === "dawn")
      throw new Error("Cannot use dawn: a browser has its own WebGPU, leave implementation out");
    return await builtInGpu(options, BUILT_IN);
  },
  quiet: (start) => start(),
  async collectGarbage() {
    for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  },
  async readText(path) {
    const text = await (await fetchWhole(addressOf(path))).text();
    refusePointer(String(path), text);
    return text;
  },
  readBytes: async (path) => new Uint8Array(await (await fetchWhole(addressOf(path))).arrayBuffer()),
  open: (path) => openWebFile(addressOf(path)),
  kind,
  async entry(path) {
    const found = await kind(path);
    if (found === undefined) return undefined;
    const id = addressOf(path);
    if (found === "directory") return { kind: found, id, size: 0 };
    const file = await openWebFile(id);
    return { kind: found, id, size: file.size };
  },
  async list(path) {
    throw new Error(`Cannot list ${path}: a browser cannot ask a server what a folder holds, name the file`);
  },
  createAtomic: cannotLater("write"),
  makeDirectory: cannotLater("create"),
  append: cannotLater("write"),
  openPartial: cannotLater("write"),
  link: (_, path) => cannotLater("write")(path),
  freeDisk: async () => undefined,
  rename: (_, to) => cannotLater("write")(to),
  remove: cannotLater("remove"),
  sha256: () => cannot("hash")("SHA-256"),
  sha1: () => cannot("hash")("SHA-1"),
  lock: (folder, action) => cannot(action)(folder),
  spawn: (script) => cannot("start")(script.href),
  // Half is left to the rest of the machine; a page is told no more than the size of its memory.
  freeMemory: () => ((navigator as { deviceMemory?: number }).deviceMemory ?? MEMORY) * 2 ** 29,
  memoryUsage() {
    const { memory } = performance as { memory?: { usedJSHeapSize: number } };
    const heap = memory?.usedJSHeapSize ?? 0;
    return { heap, process: heap };
  },
  cacheDirectory: () => cannot("name")("a cache directory"),
  homeDirectory: () => cannot("name")("a home directory"),
  environment: () => undefined,
};
