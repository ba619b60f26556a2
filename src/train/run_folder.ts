/**
 * RUN: config.json, metrics.jsonl, log.txt, TensorBoard events, checkpoints/, best/, model/.
 *
 * A checkpoint is a model folder with the optimiser's state and state.json, which is written last; one without it was
 * never finished and is removed. The state says how long the other files were, so that a resumed run cuts off what came
 * after.
 */
import type { Host } from "../host/host.ts";
import { readJson } from "../io/config.ts";
import { TensorBoardEvents } from "./tensorboard.ts";

const encoder = new TextEncoder();

/** Writes a small file whole or not at all. */
export async function writeWhole(host: Host, path: string, content: string | Uint8Array): Promise<void> {
  const file = await host.createAtomic(path);
  try {
    await file.write(typeof content === "string" ? encoder.encode(content) : content);
    await file.commit();
  } catch (error) {
    await file.abort();
    throw error;
  }
}

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

  /** Makes a run folder with its config. Throws where a run lies there already. */
  static async create(host: Host, path: string, config: unknown): Promise<RunFolder> {
    if ((await host.kind(`${path}/config.json`)) !== undefined) {
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

  /** The newest finished checkpoint and its state; what was never finished is removed. */
  async latest(): Promise<{ folder: string; state: Record<string, unknown> } | undefined> {
    const names = await this.host.list(`${this.path}/checkpoints`);
    let newest: string | undefined;
    for (const name of names) {
      const folder = `${this.path}/checkpoints/${name}`;
      if ((await this.host.kind(`${folder}/state.json`)) === "file") newest = folder;
      else await this.host.remove(folder);
    }
    if (newest === undefined) return undefined;
    return { folder: newest, state: await readJson(this.host, `${newest}/state.json`) };
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
    const names = await host.list(`${path}/checkpoints`);
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
    for (const name of await host.list(`${path}/best`)) {
      if (!named.has(name)) await host.remove(`${path}/best/${name}`);
    }
  }
}
