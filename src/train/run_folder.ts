/**
 * RUN: config.json, launch.json, metrics.jsonl, log.txt, TensorBoard events, checkpoints/, best/, model/.
 *
 * A checkpoint is a model folder with the optimiser's state and state.json. It is made under another name, NAME.partial,
 * with state.json last, and then renamed: the process may be killed at any moment. The state says how long the other
 * files were, so that a resumed run cuts off what came after.
 */
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { readJson } from "../io/config.ts";
import { listed } from "../io/listed.ts";
import { object, readJsonAs, record } from "../io/schema.ts";
import { writeWhole } from "../io/write_whole.ts";
import { isChecksum, readChecked, writeChecksum } from "./checksum.ts";
import { GrowingFile, wholeLines } from "./growing_file.ts";
import { TensorBoardEvents, wholeRecords } from "./tensorboard.ts";

const encoder = new TextEncoder();

/** What a state.json says of the models in best/. */
const naming = object({ bests: record(object({ folder: v.string() })) });

export const toJson = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

type Part = "checkpoints" | "best";

/** Names of a run's folders in checkpoints/ and best/; anything else there is left alone. */
const OWN = { checkpoints: /^stage\d-\d{7,}$/, best: /^stage\d-epoch\d{3,}$/ };
const PARTIAL = ".partial";

/** Bytes of the files that grow, at the time of a checkpoint. */
interface Lengths {
  readonly metrics: number;
  readonly events: number;
}

/** A run is in the folder where another should start. */
export class RunExistsError extends Error {
  /** `how` says what can be done instead. */
  constructor(path: string, how = "resume it, or start in another folder") {
    super(`Cannot start a run in ${path}: one is there already; ${how}`);
  }
}

/** A line of metrics.jsonl. */
export interface Metrics {
  /** Place of the stage in the run. */
  readonly stage: number;
  /** Number of the update in the stage. */
  readonly step: number;
  readonly [name: string]: number | string | boolean;
}

/**
 * The folder of a training run: config.json, metrics.jsonl, log.txt, TensorBoard events, checkpoints/, best/, model/. A
 * process that is killed at any moment leaves whole checkpoints. Lock it by Host.lock() where two processes may want it.
 *
 * @example
 * ```ts
 * const run = await RunFolder.create(host, "runs/a", { learningRate: 1e-3 });
 * run.metrics({ stage: 0, step: 1, loss: 0.5 }); // a line of metrics.jsonl, and TensorBoard's stage0/loss
 * run.log("a line of log.txt");
 * await run.flush();
 * ```
 */
export class RunFolder {
  /** What writes the files. */
  readonly host: Host;
  /** Path of the folder, without a slash at its end. */
  readonly path: string;
  /** False: another process writes, and what would write does nothing. */
  readonly writes: boolean;
  readonly #metrics: GrowingFile;
  readonly #log: GrowingFile;
  readonly #events: GrowingFile;
  readonly #board = new TensorBoardEvents();

  private constructor(host: Host, path: string, writes = true) {
    this.host = host;
    this.path = path;
    this.writes = writes;
    this.#metrics = new GrowingFile(host, `${path}/metrics.jsonl`, wholeLines);
    this.#log = new GrowingFile(host, `${path}/log.txt`, wholeLines);
    this.#events = new GrowingFile(host, `${path}/events.out.tfevents.wavegate`, wholeRecords);
  }

  /**
   * Throws where a run cannot begin in `path`: it holds files that are not of a run, or, a RunExistsError, a run with
   * checkpoints or models.
   * There may be nothing, an empty folder, or a run that was killed before it saved anything.
   */
  static async check(host: Host, path: string): Promise<void> {
    const kind = await host.kind(path);
    if (kind === undefined) return;
    if (kind === "file") throw new Error(`Cannot start a run in ${path}: it is a file`);
    const names = (await host.list(path)).filter((name) => !/^lock\.|\.tmp$/.test(name));
    const run = new RunFolder(host, path);
    const saved = [...(await run.#finished("checkpoints")), ...(await run.#finished("best"))];
    if (saved.length > 0) throw new RunExistsError(path);
    const foreign = (await isRun(host, path)) ? [] : await besides(host, path, names);
    if (foreign.length > 0)
      throw new Error(
        `Cannot start a run in ${path}: it is no run and holds ${listed(foreign, 6)}, expected a new or an empty folder`,
      );
    const published = names.includes("model") && (await host.list(`${path}/model`)).length > 0;
    if (published) throw new RunExistsError(path);
  }

  /** Makes a run folder with its config. Throws as check() does. */
  static async create(host: Host, path: string, config: unknown): Promise<RunFolder> {
    await RunFolder.check(host, path);
    await host.makeDirectory(path);
    await writeWhole(host, `${path}/config.json`, toJson(config));
    return await RunFolder.open(host, path);
  }

  /** Opens a run folder to go on, and clears away what was never finished. Throws where there is no run. */
  static async open(host: Host, path: string): Promise<RunFolder> {
    if ((await host.kind(`${path}/config.json`)) !== "file") {
      throw new Error(
        `Cannot resume ${path}: it holds no config.json of a run; one that was stopped before it wrote that starts anew`,
      );
    }
    const run = new RunFolder(host, path);
    for (const part of ["checkpoints", "best"] as const) {
      await host.makeDirectory(`${path}/${part}`);
      await run.#clear(part);
    }
    await sweep(
      host,
      path,
      /^(config\.json|launch\.json|metrics\.jsonl|events\.out\.tfevents\.wavegate)\.[0-9a-f]{12}\.tmp$/,
    );
    // Of one that goes on without rewind(), the next checkpoint would count too few bytes and a later rewind() cut them off.
    for (const file of [run.#metrics, run.#events]) await file.measure();
    return run;
  }

  /** The run that another process of the same job has made or opened: read from, never written to. */
  static follow(host: Host, path: string): RunFolder {
    return new RunFolder(host, path, false);
  }

  /** Renames what is complete and was not renamed yet; removes what is incomplete. */
  async #clear(part: Part): Promise<void> {
    const { host } = this;
    const names = await host.list(`${this.path}/${part}`);
    for (const name of names.filter((each) => each.endsWith(PARTIAL))) {
      const target = name.slice(0, -PARTIAL.length);
      if (!OWN[part].test(target)) continue;
      const folder = `${this.path}/${part}/${name}`;
      if (await isFinished(host, folder)) await this.#replace(`${this.path}/${part}/${target}`);
      else await host.remove(folder);
    }
    for (const name of await this.own(part)) {
      const folder = `${this.path}/${part}/${name}`;
      if (await isFinished(host, folder)) await sweep(host, folder, /\.[0-9a-f]{12}\.tmp$/);
      else await host.remove(folder);
    }
  }

  /** Gives FOLDER.partial its name. */
  async #replace(folder: string): Promise<void> {
    await this.#discard(folder);
    await this.host.rename(`${folder}${PARTIAL}`, folder);
  }

  /** Removes a folder in such an order that half of it is not taken for whole. */
  async #discard(folder: string): Promise<void> {
    await this.host.remove(`${folder}/state.json`);
    await this.host.remove(folder);
  }

  /** Folders of the finished checkpoints, the newest first. */
  async finished(): Promise<string[]> {
    return (await this.#finished("checkpoints")).reverse();
  }

  async #finished(part: Part): Promise<string[]> {
    if ((await this.host.kind(`${this.path}/${part}`)) !== "directory") return [];
    const folders = (await this.own(part)).map((name) => `${this.path}/${part}/${name}`);
    const there = await Promise.all(folders.map((folder) => isFinished(this.host, folder)));
    return folders.filter((_, i) => there[i]);
  }

  /** Names of this run's folders in a part, the oldest first. */
  async own(part: Part): Promise<string[]> {
    return (await this.host.list(`${this.path}/${part}`)).filter((name) => OWN[part].test(name));
  }

  /**
   * Goes back to the state of a checkpoint, or to the beginning. Returns a line for each file that lacks something of
   * what the checkpoint knows: training does not need it.
   */
  async rewind({ metrics, events }: Lengths = { metrics: 0, events: 0 }): Promise<string[]> {
    if (!this.writes) return [];
    const lost: string[] = [];
    for (const [file, length] of [
      [this.#metrics, metrics],
      [this.#events, events],
    ] as const) {
      const missing = await file.cut(length);
      if (missing > 0)
        lost.push(
          `${file.path} lacks ${missing} of the ${length} bytes from before the checkpoint: these figures are lost, training is not`,
        );
    }
    await this.#log.flush();
    return lost;
  }

  /** Adds a line to metrics.jsonl and its numbers to TensorBoard's events, as stageN/NAME. On the disk after flush(). */
  metrics(record: Metrics): void {
    if (!this.writes) return;
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

  /** Adds a line to log.txt, with the time. On the disk after flush(). */
  log(line: string): void {
    if (!this.writes) return;
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
  async checkpoint(part: Part, name: string, fill: (folder: string) => Promise<unknown>): Promise<string> {
    const folder = `${this.path}/${part}/${name}`;
    const partial = `${folder}${PARTIAL}`;
    if (!this.writes) return folder;
    await this.refuseGone();
    await this.#discard(partial);
    try {
      await this.host.makeDirectory(partial);
      const state = await fill(partial);
      const text = toJson(state);
      const digest = this.host.sha256();
      digest.update(encoder.encode(text));
      await writeChecksum(this.host, `${partial}/state.json`, digest.hex());
      await writeWhole(this.host, `${partial}/state.json`, text);
    } catch (error) {
      await this.host.remove(partial).catch(() => {});
      throw error;
    }
    await this.#replace(folder);
    return folder;
  }

  /** Throws where the folder was removed or moved meanwhile; `cause` is the error that led here. Empty remains are removed. */
  async refuseGone(cause?: unknown): Promise<void> {
    const { host, path } = this;
    if (!this.writes || (await host.kind(`${path}/config.json`)) === "file") return;
    for (const folder of [`${path}/checkpoints`, `${path}/best`, path])
      if ((await host.kind(folder)) === "directory" && (await host.list(folder)).length === 0)
        await host.remove(folder).catch(() => {});
    throw new Error(
      `Cannot go on with ${path}: its config.json is gone, the folder was removed or moved while the run wrote to it`,
      { cause },
    );
  }

  /** Removes all but the newest `keep` checkpoints, and the best models that none of them names. */
  async prune(keep: number): Promise<void> {
    if (!this.writes) return;
    const { host, path } = this;
    const names = await this.own("checkpoints");
    for (const name of names.slice(0, Math.max(0, names.length - keep))) {
      await this.#discard(`${path}/checkpoints/${name}`);
    }
    const named = new Set<string>();
    for (const name of names.slice(-keep)) {
      const file = `${path}/checkpoints/${name}/state.json`;
      const state = await readJsonAs(host, file, naming).catch(() => undefined);
      if (!state) return; // somebody damaged it: which models it names is unknown
      for (const best of Object.values(state.bests)) named.add(best.folder);
    }
    for (const name of await this.own("best")) {
      if (!named.has(name)) await this.#discard(`${path}/best/${name}`);
    }
  }

  /** Copies a folder of best/ to model/, which is there whole or as it was before. */
  async publish(name: string): Promise<void> {
    if (!this.writes) return;
    const { host, path } = this;
    await this.refuseGone();
    const [partial, model, previous] = ["model.partial", "model", "model.previous"].map(
      (x) => `${path}/${x}`,
    );
    await host.remove(partial);
    try {
      await copyFolder(host, `${path}/best/${name}`, partial);
    } catch (error) {
      await host.remove(partial).catch(() => {});
      throw error;
    }
    await host.remove(previous);
    if ((await host.kind(model)) !== undefined) await host.rename(model, previous);
    await host.rename(partial, model);
    await host.remove(previous);
  }
}

const isFinished = async (host: Host, folder: string): Promise<boolean> =>
  (await host.kind(`${folder}/state.json`)) === "file";

/** Removes what a process that was killed had half written. */
async function sweep(host: Host, folder: string, pattern: RegExp): Promise<void> {
  for (const name of await host.list(folder)) if (pattern.test(name)) await host.remove(`${folder}/${name}`);
}

/** Whether config.json is that of a run. */
async function isRun(host: Host, path: string): Promise<boolean> {
  if ((await host.kind(`${path}/config.json`)) !== "file") return false;
  const config = await readJson(host, `${path}/config.json`).catch(() => ({}) as Record<string, unknown>);
  return "stages" in config && "preset" in config && "system" in config;
}

/** Names beside the lock of a run and the folders that it makes before its first file, as long as these are empty. */
async function besides(host: Host, path: string, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    const ours = name === "checkpoints" || name === "best";
    const empty =
      ours &&
      (await host.kind(`${path}/${name}`)) === "directory" &&
      (await host.list(`${path}/${name}`)).length === 0;
    if (!empty && !(name === "lock" && (await isLock(host, `${path}/lock`)))) found.push(name);
  }
  return found;
}

/** Whether the file is a lock of host/lock.ts, whole or half written by a process that died. */
async function isLock(host: Host, path: string): Promise<boolean> {
  if ((await host.kind(path)) !== "file") return false;
  return /^(\0*|\{|\{"pid":[\s\S]*)$/.test(await host.readText(path).catch(() => "?"));
}

/**
 * Copies what a model folder holds, but not the state of training. Throws where a file is not as its checksum says.
 */
async function copyFolder(host: Host, from: string, to: string): Promise<void> {
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
