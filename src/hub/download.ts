/** One file of the hub, by ranges: what came before a connection broke off, or a process ended, is not asked for again. */
import type { Digest, PartialFile } from "../host/host.ts";
import type { HubFile } from "./listing.ts";
import { chunks, type Hub, HubError, networkReason, pause, request, TRIES } from "./request.ts";

/** What a download is about. */
export interface Download {
  readonly file: HubFile;
  /** Its address. */
  readonly url: string;
  /** Where it goes; `target`.incomplete holds what is there so far. */
  readonly target: string;
  /** Told how many bytes are there. */
  readonly onBytes: (bytes: number) => void;
}

const CHUNK = 2 ** 20;

/** Downloads a file and checks its hash; `target` is whole or absent. The caller holds the lock. Throws a HubError. */
export async function download(hub: Hub, { file, url, target, onBytes }: Download): Promise<void> {
  const { host } = hub;
  const incomplete = `${target}.incomplete`;
  for (let again = false; ; again = true) {
    const partial = await host.openPartial(incomplete);
    let outcome: Outcome;
    try {
      outcome = await receive(hub, { file, url, partial, incomplete, onBytes });
    } catch (error) {
      await partial.close().catch(() => {});
      // What a full disk did not take is of no use there.
      if (["ENOSPC", "EDQUOT", "EFBIG"].includes((error as NodeJS.ErrnoException).code ?? ""))
        await host.remove(incomplete);
      throw error;
    }
    await partial.close();
    if (outcome.hex === file.etag) return await host.rename(incomplete, target);
    await host.remove(incomplete);
    const name = file.etag.length === 64 ? "SHA-256" : "git SHA-1";
    const reason = `the ${name} of ${file.path} is ${outcome.hex}, expected ${file.etag}`;
    if (again || !outcome.resumed) throw new HubError(hub, `${reason}; what came is removed`);
    hub.onNote(`${reason}: the part of an earlier download was bad, once more from its start`);
  }
}

interface Outcome {
  /** The hash. */
  readonly hex: string;
  /** Whether a part was there before. */
  readonly resumed: boolean;
}

type Receiving = Omit<Download, "target"> & { readonly partial: PartialFile; readonly incomplete: string };

/** Fills the file and hashes it. */
async function receive(hub: Hub, { file, url, partial, incomplete, onBytes }: Receiving): Promise<Outcome> {
  if (partial.size > file.size) await partial.clear();
  const resumed = partial.size > 0;
  let digest = resumed ? await digestOfPart(hub, file, incomplete, partial.size) : newDigest(hub, file);
  onBytes(partial.size);
  let fruitless = 0;
  while (partial.size < file.size) {
    const before = partial.size;
    const response = await request(hub, url, {
      headers: before > 0 ? { range: `bytes=${before}-` } : {},
      persistent: true,
    });
    if (response.status === 200 && before > 0) {
      // It was sent from its start instead.
      await partial.clear();
      digest = newDigest(hub, file);
    }
    const refused = wrongLength(response, file, partial.size);
    if (refused !== undefined) {
      await response.body?.cancel().catch(() => {});
      throw await dropped(hub, incomplete, refused);
    }
    let why = "the connection ended";
    try {
      for await (const chunk of chunks(hub, response)) {
        if (partial.size + chunk.length > file.size) {
          const reason = `${file.path} comes with more than the ${file.size} bytes that it should have`;
          throw await dropped(hub, incomplete, reason);
        }
        await partial.write(chunk).catch((error) => {
          throw new DiskError(error);
        });
        digest.update(chunk);
        onBytes(partial.size);
      }
    } catch (error) {
      hub.signal?.throwIfAborted();
      if (error instanceof HubError) throw error;
      if (error instanceof DiskError) throw error.cause;
      why = networkReason(error).text;
    }
    if (partial.size === file.size) break;
    fruitless = partial.size > before ? 0 : fruitless + 1;
    if (fruitless === TRIES)
      throw new HubError(hub, `${file.path} ends at byte ${partial.size} of ${file.size}: ${why}`, true);
    hub.host.debug?.(`${file.path}: ${why} at byte ${partial.size}`);
    await hub.sleep(pause(fruitless));
  }
  return { hex: digest.hex(), resumed };
}

/** Keeps failures of the disk apart from those of the network. */
class DiskError extends Error {
  constructor(cause: unknown) {
    super("", { cause });
  }
}

/** The error for what cannot be a part of the file; nothing of it is kept. */
async function dropped(hub: Hub, incomplete: string, reason: string): Promise<HubError> {
  await hub.host.remove(incomplete);
  return new HubError(hub, `${reason}; what came is removed`);
}

/** What is wrong with the lengths in an answer; undefined where nothing is. */
function wrongLength({ status, headers }: Response, file: HubFile, from: number): string | undefined {
  const should = `${file.path} should have ${file.size} bytes`;
  if (status === 416) return `${should}, and ends before byte ${from}`;
  if (status === 206) {
    const range = headers.get("content-range") ?? "";
    const [, begin, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range) ?? [];
    if (begin === undefined)
      return `${file.path} comes in parts without their places (content-range: ${range})`;
    if (Number(begin) !== from) return `${file.path} comes from byte ${begin}, asked for from ${from}`;
    return total === "*" || Number(total) === file.size ? undefined : `${should}, and comes with ${total}`;
  }
  const length = headers.get("content-length");
  if (length === null || headers.has("content-encoding") || Number(length) === file.size) return undefined;
  return `${should}, and comes with ${length}`;
}

/** Of a large file its SHA-256, of another git's: the SHA-1 behind its kind and length. */
function newDigest({ host }: Hub, { etag, size }: HubFile): Digest {
  if (etag.length === 64) return host.sha256();
  const digest = host.sha1();
  digest.update(new TextEncoder().encode(`blob ${size}\0`));
  return digest;
}

async function digestOfPart(hub: Hub, file: HubFile, path: string, size: number): Promise<Digest> {
  const digest = newDigest(hub, file);
  const part = await hub.host.open(path);
  const buffer = new Uint8Array(Math.min(CHUNK, size));
  try {
    for (let at = 0; at < size; at += buffer.length) {
      hub.signal?.throwIfAborted();
      const bytes = buffer.subarray(0, size - at);
      await part.read(bytes, at);
      digest.update(bytes);
    }
  } finally {
    await part.close();
  }
  return digest;
}
