/** Files that are written whole or not at all. */
import type { Host } from "../host/host.ts";

/** Writes a small file; whatever goes wrong, what stood there stays and nothing else does. */
export async function writeWhole(host: Host, path: string, content: string | Uint8Array): Promise<void> {
  const file = await host.createAtomic(path);
  try {
    await file.write(typeof content === "string" ? new TextEncoder().encode(content) : content);
    await file.commit();
  } catch (error) {
    await file.abort();
    throw error;
  }
}

/** Throws now where writeWhole() would throw once the work is done. Leaves nothing behind. */
export async function checkWritable(host: Host, path: string): Promise<void> {
  if ((await host.kind(path)) === "directory") throw new Error(`Cannot write ${path}: it is a folder`);
  const file = await host.createAtomic(path);
  await file.abort();
}
