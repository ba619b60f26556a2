/**
 * RUN: config.json, metrics.jsonl, log.txt, TensorBoard events, checkpoints/, best/, model/.
 *
 * A checkpoint is a model folder with the optimiser's state and state.json, which is written last; one without it was
 * never finished and is removed. The state says how long the other files were, so that a resumed run cuts off what came
 * after.
 */
import type { Host } from "../host/host.ts";
import { readJson } from "../io/config.ts";
import { writeWhole } from "../io/write_whole.ts";
import { TensorBoardEvents } from "./tensorboard.ts";

const encoder = new TextEncoder();

export const toJson = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** Bytes of the files that grow, at the time of a checkpoint. */
export type Lengths = Readonly<Record<string, number>>;

/** A file to whose end a run writes. Lines are collected and reach the disk together. */
class GrowingFile {
  readonly #host: Host;
  readonly #path: string;
  #pending: Uint8Array[] = [];
  length = 0;

  constructor(host: Host, path: string) {
    this.#host = host;
    this.#path = path;
  }

  get empty(): boolean {
    return this.length === 0 && this.#pending.length === 0;
  }

  add(bytes: Uint8Array): void {
    this.#pending.push(bytes);
  }

  async flush(): Promise<void> {
    if (this.#pending.length === 0) return;
    const all = new Uint8Array(this.#pending.reduce((n, b) => n + b.length, 0));
    let at = 0;
    for (const bytes of this.#pending) {
      all.set(bytes, at);
      at += bytes.length;
    }
    this.#pending = [];
    await this.#host.append(this.#path, all);
    this.length += all.length;
  }

  /** Cuts off what lies beyond `length` bytes. */
  async cut(length: number): Promise<void> {
    const there = (await this.#host.kind(this.#path)) === "file";
    const bytes = there ? await this.#host.readBytes(this.#path) : new Uint8Array(0);
    if (bytes.length < length) {
      throw new Error(`Cannot resume: ${this.#path} has ${bytes.length} bytes, expected at least ${length}`);
    }
    if (bytes.length > length) await writeWhole(this.#host, this.#path, bytes.subarray(0, length));
    this.length = length;
  }
}

export interface Metrics {
  readonly stage: number;
  readonly step: number;
  readonly [name: string]: number | string | boolean;
}

export class RunFolder {
  readonly host: Host;
  readonly path: string;
  readonly #metrics: GrowingFile;
  readonly #log: GrowingFile;
  readonly #events: GrowingFile;
  readonly #board = new TensorBoardEvents();

  private constructor(host: Host, path: string) {
    this.host = host;
    this.path = path;
    this.#metrics = new GrowingFile(host, `${path}/metrics.jsonl`);
    this.#log = new GrowingFile(host, `${path}/log.txt`);
    this.#events = new GrowingFile(host, `${path}/events.out.tfevents.wavegate`);
  }

  /** Makes a run folder with its config. Throws where a run lies there that has come to a checkpoint. */
  static async create(host: Host, path: string, config: unknown): Promise<RunFolder> {
    for (const part of ["checkpoints", "best", "model"]) {
      const there = (await host.kind(`${path}/${part}`)) === "directory";
      if (there && (await host.list(`${path}/${part}`)).length > 0)
        throw new Error(`Cannot start a run in ${path}: one is there already; --resume goes on with it`);
    }
    await host.makeDirectory(`${path}/checkpoints`);
    await host.makeDirectory(`${path}/best`);
    await writeWhole(host, `${path}/config.json`, toJson(config));
    return new RunFolder(host, path);
  }

  /** Opens a run folder to go on. Throws where there is no run. */
  static async open(host: Host, path: string): Promise<RunFolder> {
    if ((await host.kind(`${path}/config.json`)) !== "file") {
      throw new Error(`Cannot resume ${path}: it holds no config.json of a run`);
    }
    for (const part of ["checkpoints", "best"]) await host.makeDirectory(`${path}/${part}`);
    return new RunFolder(host, path);
  }

  /** Folders of the finished checkpoints, the newest first; what was never finished is removed. */
  async finished(): Promise<string[]> {
    const found: string[] = [];
    for (const name of await this.own("checkpoints")) {
      const folder = `${this.path}/checkpoints/${name}`;
      if ((await this.host.kind(`${folder}/state.json`)) === "file") found.unshift(folder);
      else await this.host.remove(folder);
    }
    return found;
  }

  /** Names of this run's folders in a part, the oldest first; what else lies there is somebody's own. */
  async own(part: "checkpoints" | "best"): Promise<string[]> {
    const pattern = { checkpoints: /^stage\d-\d{7,}$/, best: /^stage\d-epoch\d{3,}$/ }[part];
    return (await this.host.list(`${this.path}/${part}`)).filter((name) => pattern.test(name));
  }

  /** Goes back to the state of a checkpoint, or to the beginning. */
  async rewind(lengths: Lengths = {}): Promise<void> {
    await this.#metrics.cut(lengths.metrics ?? 0);
    await this.#events.cut(lengths.events ?? 0);
    await this.#log.flush();
  }

  metrics(record: Metrics): void {
    this.#metrics.add(encoder.encode(`${JSON.stringify(record)}\n`));
    const { stage, step, ...values } = record;
    const scalars = Object.entries(values).filter(([, x]) => typeof x === "number") as [string, number][];
    this.#events.add(
      this.#board.scalars(
        step,
        scalars.map(([name, x]) => [`stage${stage}/${name}`, x]),
        this.#events.empty,
      ),
    );
  }

  log(line: string): void {
    this.#log.add(encoder.encode(`${new Date().toISOString()}  ${line}\n`));
  }

  /** Brings everything to the disk; returns how long the files are. */
  async flush(): Promise<Lengths> {
    for (const file of [this.#metrics, this.#events, this.#log]) await file.flush();
    return { metrics: this.#metrics.length, events: this.#events.length };
  }

  /**
   * Makes folder `name` in `part` and lets `fill` write into it, `state` last. On failure, a full disk for one, what was
   * written is removed: the checkpoints before stay.
   */
  async checkpoint(
    part: "checkpoints" | "best",
    name: string,
    fill: (folder: string) => Promise<unknown>,
  ): Promise<string> {
    const folder = `${this.path}/${part}/${name}`;
    await this.host.remove(folder);
    try {
      await this.host.makeDirectory(folder);
      const state = await fill(folder);
      await writeWhole(this.host, `${folder}/state.json`, toJson(state));
    } catch (error) {
      await this.host.remove(folder).catch(() => {});
      throw error;
    }
    return folder;
  }

  /** Removes all but the newest `keep` checkpoints, and the best models that none of them names. */
  async prune(keep: number): Promise<void> {
    const { host, path } = this;
    const names = await this.own("checkpoints");
    for (const name of names.slice(0, Math.max(0, names.length - keep))) {
      await host.remove(`${path}/checkpoints/${name}`);
    }
    const named = new Set<unknown>();
    for (const name of names.slice(-keep)) {
      const state = await readJson(host, `${path}/checkpoints/${name}/state.json`);
      for (const best of Object.values((state.bests ?? {}) as Record<string, { folder: string }>)) {
        named.add(best.folder);
      }
    }
    for (const name of await this.own("best")) {
      if (!named.has(name)) await host.remove(`${path}/best/${name}`);
    }
  }

  /** Copies a folder of best/ to model/, which is there whole or as it was before. */
  async publish(name: string): Promise<void> {
    const { host, path } = this;
    const [partial, model] = [`${path}/model.partial`, `${path}/model`];
    await host.remove(partial);
    try {
      await copyFolder(host, `${path}/best/${name}`, partial);
      await host.remove(model);
      await host.rename(partial, model);
    } catch (error) {
      await host.remove(partial).catch(() => {});
      throw error;
    }
  }
}

/** Bytes of a file that are in memory while it is copied. */
const PIECE = 2 ** 24;

/** Copies what a model folder holds, but not the state of training. */
async function copyFolder(host: Host, from: string, to: string): Promise<void> {
  await host.makeDirectory(to);
  for (const name of await host.list(from)) {
    if ((await host.kind(`${from}/${name}`)) === "directory")
      await copyFolder(host, `${from}/${name}`, `${to}/${name}`);
    else if (name !== "state.json") await copyFile(host, `${from}/${name}`, `${to}/${name}`);
  }
}

async function copyFile(host: Host, from: string, to: string): Promise<void> {
  const source = await host.open(from);
  try {
    const target = await host.createAtomic(to);
    try {
      for (let at = 0; at < source.size; at += PIECE) {
        const piece = new Uint8Array(Math.min(PIECE, source.size - at));
        await source.read(piece, at);
        await target.write(piece);
      }
      await target.commit();
    } catch (error) {
      await target.abort();
      throw error;
    }
  } finally {
    await source.close();
  }
}
