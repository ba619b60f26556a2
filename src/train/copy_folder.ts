/** Copies of model folders. */
import type { Host } from "../host/host.ts";
import { isChecksum, readChecked } from "./checksum.ts";

/**
 * Copies what a model folder holds, but not the state of training. Throws where a file is not as its checksum says.
 */
export async function copyFolder(host: Host, from: string, to: string): Promise<void> {
  await host.makeDirectory(to);
  for (const name of await host.list(from)) {
    if ((await host.kind(`${from}/${name}`)) === "directory")
      await copyFolder(host, `${from}/${name}`, `${to}/${name}`);
    else if (name !== "state.json" && !isChecksum(name))
      await copyFile(host, `${from}/${name}`, `${to}/${name}`);
  }
}

async function copyFile(host: Host, from: string, to: string): Promise<void> {
  const target = await host.createAtomic(to);
  try {
    await readChecked(host, from, (piece) => target.write(piece));
    await target.commit();
  } catch (error) {
    await target.abort();
    throw error;
  }
}
