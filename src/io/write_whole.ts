/** Atomic writes of small files. */
import type { Host } from "../host/host.ts";

/** Writes a small file atomically: on an error the former file remains, and no other. */
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

/** Throws where writeWhole() would throw, to know before long work. Leaves no file behind. */
export async function checkWritable(host: Host, path: string): Promise<void> {
  if ((await host.kind(path)) === "directory") throw new Error(`Cannot write ${path}: it is a folder`);
  const file = await host.createAtomic(path);
  await file.abort();
}
