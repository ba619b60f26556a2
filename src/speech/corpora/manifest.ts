/** manifest.json of a synthetic corpus: how it was made, and a hash of its files. */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { finite, integer, number, object, readJsonAs, text } from "../../io/schema.ts";

const count = integer(0);

const schema = object({
  synthetic: v.literal(true),
  format: v.literal(1),
  preset: v.string(),
  seed: number("a whole number", Number.isInteger),
  /** Clips of the four classes. */
  clips: count,
  /** Clips with any label. */
  utterances: count,
  seconds: v.pipe(finite, v.minValue(0)),
  /** Files of the sessions, their bytes, and a SHA-256 over names and contents. */
  files: count,
  bytes: count,
  sha256: text("a SHA-256 in hexadecimal", /^[0-9a-f]{64}$/),
});

/** The content of manifest.json. */
export type Manifest = Readonly<v.InferOutput<typeof schema>>;

/** Undefined where there is none: a real corpus. Throws one line where it is not as `corpus make` writes it. */
export async function readManifest(host: Host, root: string): Promise<Manifest | undefined> {
  const path = `${root}/manifest.json`;
  return (await host.kind(path)) === "file" ? await readJsonAs(host, path, schema) : undefined;
}

/** SHA-256 over the sorted lines "path sha256" of every file in Session1, Session2, …, or in other `folders`. */
export async function hashSessions(
  host: Host,
  root: string,
  signal?: AbortSignal,
  folders = /^Session\d+$/,
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
      lines.push(`${child} ${sha256(host, content)}`);
    }
  };
  for (const name of await host.list(root)) if (folders.test(name)) await visit(name);
  const all = new TextEncoder().encode(lines.sort().join("\n"));
  return { files: lines.length, bytes, sha256: sha256(host, all) };
}

function sha256(host: Host, bytes: Uint8Array): string {
  const digest = host.sha256();
  digest.update(bytes);
  return digest.hex();
}
