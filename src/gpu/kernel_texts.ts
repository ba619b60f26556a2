/**
 * Texts of the kernels, and of what they include, by file name inside kernels/. A checkout reads the files, so that an edited kernel
 * needs no build. `npm run build` puts modules of texts in the place of this one, so that the package works from any folder
 * and in a bundle; see tools/build_kernels.mjs.
 */
import type { Host } from "../host/host.ts";
import { KERNELS } from "./launch.ts";
import { INCLUDE } from "./wgsl.ts";

const FOLDER = new URL("../../kernels/", import.meta.url);

/** All texts: operators that are imported later find theirs, and kernels that users declare find what they include. */
export async function kernelTexts(host: Host): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>();
  const read = async (file: string): Promise<void> => {
    if (texts.has(file)) return;
    texts.set(file, "");
    const text = await readKernel(host, file);
    texts.set(file, text);
    await Promise.all([...text.matchAll(INCLUDE)].map((m) => read(m[1])));
  };
  await Promise.all(KERNELS.map((name) => read(`${name}.wgsl`)));
  return texts;
}

async function readKernel(host: Host, file: string): Promise<string> {
  try {
    return await host.readText(new URL(file, FOLDER));
  } catch (cause) {
    const advice = "only the built package (npm run build) works without the folder kernels/, as in a bundle";
    throw new Error(`Cannot find kernel ${file}: ${advice}`, { cause });
  }
}
