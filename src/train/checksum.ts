/** SHA-256 of a file in FILE.sha256 beside it, as `sha256sum -c` reads it. */
import type { Host } from "../host/host.ts";
import { writeWhole } from "../io/write_whole.ts";

/** Bytes of a file that are in memory while it is read. */
const PIECE = 2 ** 24;

const sidecar = (path: string) => `${path}.sha256`;

export const isChecksum = (name: string): boolean => name.endsWith(".sha256");

export function writeChecksum(host: Host, path: string, sha256: string): Promise<void> {
  return writeWhole(host, sidecar(path), `${sha256}  ${path.slice(path.lastIndexOf("/") + 1)}\n`);
}

/** The checksums in a folder, by the name of their file. */
export async function checksums(host: Host, folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of (await host.list(folder)).filter(isChecksum)) {
    const file = name.slice(0, -sidecar("").length);
    found[file] = (await readChecksum(host, `${folder}/${file}`)) as string;
  }
  return found;
}

/**
 * Reads a file piece by piece. Throws after the last piece where the file is not as it was written; one without a
 * checksum, of an older version, passes. `known` is the checksum where that is noted elsewhere too.
 */
export async function readChecked(
  host: Host,
  path: string,
  onBytes?: (bytes: Uint8Array) => Promise<void>,
  known?: string,
): Promise<void> {
  const expected = known ?? (await readChecksum(host, path));
  if (expected === undefined && !onBytes) return;
  const digest = host.sha256();
  const file = await host.open(path);
  try {
    const buffer = new Uint8Array(Math.min(PIECE, file.size));
    for (let at = 0; at < file.size; at += PIECE) {
      const piece = buffer.subarray(0, Math.min(PIECE, file.size - at));
      await file.read(piece, at);
      digest.update(piece);
      await onBytes?.(piece);
    }
  } finally {
    await file.close();
  }
  const found = digest.hex();
  if (expected !== undefined && found !== expected)
    throw new Error(
      `Cannot use ${path}: it is damaged, its SHA-256 is ${found.slice(0, 8)}… but was ${expected.slice(0, 8)}… when it was written`,
    );
}

async function readChecksum(host: Host, path: string): Promise<string | undefined> {
  if ((await host.kind(sidecar(path))) !== "file") return undefined;
  const [sha256] = (await host.readText(sidecar(path))).split(" ");
  if (!/^[0-9a-f]{64}$/.test(sha256))
    throw new SyntaxError(`Cannot read ${sidecar(path)}: expected a SHA-256 in hexadecimal`);
  return sha256;
}
