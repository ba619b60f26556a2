/** The manifest of a generated corpus: what it is, and a hash by which two of them can be told apart. */
import type { Host } from "../../host/host.ts";
import { readJson } from "../../io/config.ts";

export interface Manifest {
  readonly synthetic: true;
  readonly format: 1;
  readonly preset: string;
  readonly seed: number;
  /** Clips of the four classes. */
  readonly clips: number;
  /** Clips with any label. */
  readonly utterances: number;
  readonly seconds: number;
  /** Files of the sessions, their bytes, and a SHA-256 over names and contents. */
  readonly files: number;
  readonly bytes: number;
  readonly sha256: string;
}

/** Undefined for a folder without one: a real corpus. Throws where it is no manifest. */
export async function readManifest(host: Host, root: string): Promise<Manifest | undefined> {
  const path = `${root}/manifest.json`;
  if ((await host.kind(path)) !== "file") return undefined;
  const value: Partial<Manifest> = await readJson(host, path);
  if (value.synthetic !== true || value.format !== 1 || typeof value.sha256 !== "string") {
    throw new SyntaxError(`Cannot read ${path}: expected the manifest of a generated corpus, format 1`);
  }
  return value as Manifest;
}

/** SHA-256 over the sorted lines "path sha256" of every file in Session1, Session2, … */
export async function hashSessions(
  host: Host,
  root: string,
  signal?: AbortSignal,
): Promise<Pick<Manifest, "files" | "bytes" | "sha256">> {
  const lines: string[] = [];
  let bytes = 0;
  const visit = async (path: string): Promise<void> => {
    for (const name of await host.list(`${root}/${path}`)) {
      const child = `${path}/${name}`;
      if ((await host.kind(`${root}/${child}`)) === "directory") {
        await visit(child);
        continue;
      }
      signal?.throwIfAborted();
      const content = await host.readBytes(`${root}/${child}`);
      bytes += content.length;
      lines.push(`${child} ${await sha256(content)}`);
    }
  };
  for (const name of await host.list(root)) if (/^Session\d+$/.test(name)) await visit(name);
  const all = new TextEncoder().encode(lines.sort().join("\n"));
  return { files: lines.length, bytes, sha256: await sha256(all) };
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
