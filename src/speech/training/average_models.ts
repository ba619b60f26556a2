/**
 * The mean of the weights of trained models: a model soup (Wortsman et al. 2022). It makes sense of models that began with the same
 * weights, as of trainings whose recipes differ; those of other seeds begin with other heads.
 */
import type { Host } from "../../host/host.ts";
import { openCheckpoint } from "../../io/checkpoint.ts";
import { readF32, type Safetensors } from "../../io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../../io/safetensors_writer.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { CARD_FILE } from "./model_card.ts";
import { PROVENANCE_FILE, provenance, provenanceText, readProvenance } from "./provenance.ts";
import { folderName } from "./run_provenance.ts";

const WEIGHTS = "model.safetensors";
/** Files of one model that need not be those of another, and whose place others take. */
const OWN: readonly string[] = [WEIGHTS, CARD_FILE, PROVENANCE_FILE, "launch.json"];

/**
 * Writes the model whose weights are the means of those in `folders`, added up in float64, as f32 to a new folder `to`. Its
 * training.json names what any of them was trained on. Returns the number of tensors. Throws one line where there are fewer than two,
 * where their files differ beside the weights, where a tensor has other extents, or nothing in common, and where `to` exists.
 */
export async function averageModels(host: Host, folders: readonly string[], to: string): Promise<number> {
  if (folders.length < 2)
    throw new RangeError(`Cannot average ${folders.length} models: at least 2 expected`);
  if ((await host.kind(to)) !== undefined) throw new Error(`Cannot write ${to}: it is there already`);
  const partial = `${to}.partial`;
  if ((await host.kind(partial)) !== undefined)
    throw new Error(`Cannot write ${to}: ${partial} of another writing is there; remove it`);
  const [first, ...others] = folders;
  const names = await filesOf(host, first);
  for (const other of others) await requireSameFiles(host, [first, names], other);
  const open: Safetensors[] = [];
  let begun = false;
  try {
    for (const folder of folders) open.push(await openCheckpoint(host, folder));
    const keys = [...open[0].tensors.keys()];
    for (const [i, file] of open.entries()) requireSameTensors([first, open[0]], [folders[i], file]);
    for (const [i, file] of open.entries())
      for (const key of keys) if (i > 0) await requireAlike([first, open[0]], [folders[i], file], key);
    begun = true;
    await host.makeDirectory(partial);
    for (const name of names) {
      if (name.includes("/")) await host.makeDirectory(`${partial}/${name.slice(0, name.lastIndexOf("/"))}`);
      await writeWhole(host, `${partial}/${name}`, await host.readBytes(`${first}/${name}`));
    }
    await writeSafetensors(
      host,
      `${partial}/${WEIGHTS}`,
      keys.map((key) => mean(open, key)),
    );
    const records = [];
    for (const folder of folders)
      records.push([folderName(folder), await readProvenance(host, folder)] as const);
    await writeWhole(host, `${partial}/${PROVENANCE_FILE}`, provenanceText(provenance({}, records)));
    await writeWhole(host, `${partial}/${CARD_FILE}`, card(folders.length, await readCard(host, first)));
    await host.rename(partial, to);
    return keys.length;
  } catch (error) {
    if (begun) await host.remove(partial);
    throw error;
  } finally {
    for (const file of open) await file.close();
  }
}

/** Paths of the files beside the weights, those in folders too. */
async function filesOf(host: Host, folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await host.list(folder)) {
    const path = `${folder}/${name}`;
    if (OWN.includes(name)) continue;
    if ((await host.kind(path)) === "file") found.push(name);
    else for (const inner of await host.list(path)) found.push(`${name}/${inner}`);
  }
  return found;
}

async function requireSameFiles(
  host: Host,
  [first, names]: readonly [string, readonly string[]],
  other: string,
): Promise<void> {
  const theirs = await filesOf(host, other);
  const lone = [...names, ...theirs].find((name) => !names.includes(name) || !theirs.includes(name));
  if (lone !== undefined)
    throw new Error(`Cannot average ${first} and ${other}: only one of them has ${lone}`);
  for (const name of names) {
    const [a, b] = [await host.readBytes(`${first}/${name}`), await host.readBytes(`${other}/${name}`)];
    if (a.length !== b.length || a.some((byte, i) => byte !== b[i]))
      throw new Error(`Cannot average ${first} and ${other}: their ${name} differ`);
  }
}

function requireSameTensors(
  [first, a]: readonly [string, Safetensors],
  [other, b]: readonly [string, Safetensors],
): void {
  for (const key of [...a.tensors.keys(), ...b.tensors.keys()]) {
    const [own, their] = [a.tensors.get(key)?.shape, b.tensors.get(key)?.shape];
    if (own?.join() !== their?.join())
      throw new Error(
        `Cannot average ${first} and ${other}: ${key} is ${shown(own)} in the first and ${shown(their)} in the second`,
      );
  }
}

/** Elements from which on the cosine of two random tensors is below ALIKE beyond doubt: its deviation is 1/√n. */
const MANY = 1000;
const ALIKE = 0.2;

async function requireAlike(
  [first, a]: readonly [string, Safetensors],
  [other, b]: readonly [string, Safetensors],
  key: string,
): Promise<void> {
  const { shape } = a.tensors.get(key)!;
  if (shape.length < 2 || shape.reduce((n, extent) => n * extent, 1) < MANY) return;
  const [x, y] = [await readF32(a, key), await readF32(b, key)];
  let [xx, xy, yy] = [0, 0, 0];
  for (const [i, value] of x.entries()) {
    xx += value * value;
    xy += value * y[i];
    yy += y[i] * y[i];
  }
  const cosine = xx * yy === 0 ? 1 : xy / Math.sqrt(xx * yy);
  if (cosine < ALIKE)
    throw new Error(
      `Cannot average ${first} and ${other}: they began with other weights, as of another seed: the cosine of their ${key} is ${cosine.toFixed(2)}`,
    );
}

const shown = (shape: readonly number[] | undefined) => (shape ? `(${shape.join(", ")})` : "not");

function mean(files: readonly Safetensors[], key: string): TensorSource {
  const { shape } = files[0].tensors.get(key)!;
  return {
    ...{ key, dtype: "F32", shape },
    async data() {
      const all: Float32Array[] = [];
      for (const file of files) all.push(await readF32(file, key));
      const out = Float32Array.from(all[0], (_, i) => all.reduce((sum, one) => sum + one[i], 0) / all.length);
      return new Uint8Array(out.buffer);
    },
  };
}

async function readCard(host: Host, folder: string): Promise<string> {
  const path = `${folder}/${CARD_FILE}`;
  return (await host.kind(path)) === "file" ? await host.readText(path) : "";
}

/** The card of the first, with what is new before it; its figures are of that one alone, and go. */
function card(count: number, first: string): string {
  const text = first.replace(/^---\n[\s\S]*?\n---\n/, "");
  const [, title = "a model", rest = ""] = /^# (.*)\n([\s\S]*)$/m.exec(text) ?? [];
  const about = rest.split(/^## /m)[0].trim();
  return `# Mean of ${count} models: ${title}\n\nThe mean of the weights of ${count} models that were trained apart; the first is described here, without its figures.\n\n${about}\n`;
}
