/** What is measured of an adapter and remembered in the user's cache folder, a file for each driver. */
import type { Host } from "../host/host.ts";
import { writeWhole } from "./write_whole.ts";

/**
 * The file in `folder` of the cache folder for what `place` names, its adapter first: another driver has another file.
 */
export function rememberedFile(
  host: Host,
  folder: string,
  place: readonly [adapter: string, ...string[]],
): string {
  const digest = host.sha256();
  digest.update(new TextEncoder().encode(place.join("\n")));
  const name = place[0]
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 40)
    .replace(/^-|-$/g, "");
  return `${host.cacheDirectory()}/${folder}/${name}-${digest.hex().slice(0, 8)}.json`;
}

/** Writes such a file whole, and its folder where there is none. */
export async function remember(host: Host, path: string, text: string): Promise<void> {
  await host.makeDirectory(path.slice(0, path.lastIndexOf("/")));
  await writeWhole(host, path, text);
}
