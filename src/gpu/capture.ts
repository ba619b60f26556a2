/**
 * What a body dispatched, kept so that it can be recorded again without running the body: pipelines, bind groups, Dims and
 * grids, as a CUDA graph keeps its kernels. capture() of tensor/ puts a body's tensors to it.
 *
 * The buffers that the body took belong to the capture until it is disposed of; see Reserve. Those from outside are the
 * caller's: a replay finds out whether one was let go in between.
 */
import type { BoundGroup } from "./bind_groups.ts";
import type { Device } from "./device.ts";
import type { PoolBuffer } from "./pool.ts";
import { Reserve } from "./pool.ts";
import { type DimsField, fits } from "./wgsl.ts";

/** A dispatch with all that it needs. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bound: BoundGroup;
  /** Whether the entry point reads Dims. */
  readonly takesDims: boolean;
  readonly grid: readonly [number, number, number];
  readonly label: string;
}

/** A copy from buffer to buffer. */
export interface Copy {
  readonly from: PoolBuffer;
  readonly fromByte: number;
  readonly to: PoolBuffer;
  readonly toByte: number;
  readonly bytes: number;
}

/** What is asked for a value of Dims at each replay. */
type Asked = Readonly<Record<string, () => number>>;

/** A word of a captured Dims that each replay asks for. */
interface Varying extends DimsField {
  readonly label: string;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly at: number;
  readonly ask: () => number;
}

/** Words of a slot: the 64 fields that Dims may have. */
const WORDS = 64;

/** The commands of one captured body. */
export class Capture {
  readonly #device: Device;
  readonly #reserve = new Reserve();
  readonly #commands: ((Dispatch & { readonly words: Uint32Array<ArrayBuffer> }) | Copy)[] = [];
  /** Buffers that the body found, and how often each had been let go by then. */
  readonly #found = new Map<PoolBuffer, number>();
  readonly #asked = new WeakMap<object, Asked>();
  /** Of them, those that nothing was run with yet. */
  readonly #unused = new Set<object>();
  readonly #varying: Varying[] = [];
  readonly #hooks: (() => void)[] = [];
  readonly #assumptions: (() => string | undefined)[] = [];
  /** Whether values from the CPU are taken as they are. */
  readonly constants: boolean;
  #disposed = false;

  /** Begins: what the device records from now on is captured, and done as well. Throws where that cannot be. */
  constructor(device: Device, constants: boolean) {
    this.#device = device;
    this.constants = constants;
    const { recorder, pool } = device;
    device.check();
    if (recorder.capturing) throw new Error("Cannot capture: another capture is under way");
    if (device.kernels.planning)
      throw new Error("Cannot capture inside precompile(): nothing is dispatched there");
    if (device.watcher)
      throw new Error("Cannot capture while gradients are recorded: valueAndGrad() goes into the capture");
    recorder.capturing = this;
    pool.reserve = this.#reserve;
  }

  /** Dispatches and copies of a replay. */
  get size(): number {
    return this.#commands.length;
  }

  /** Throws where a dispatch would write to `buffer`, under `name`, what a replay cannot undo. */
  checkWrite(label: string, name: string, buffer: PoolBuffer): void {
    if (this.#reserve.constants.has(buffer))
      throw new Error(
        `Cannot capture ${label}: it writes to ${name}, whose values came from the CPU inside the body; make that tensor outside`,
      );
  }

  /** Notes a dispatch; its slot of the arena holds `words`. */
  dispatched(dispatch: Dispatch, words: Uint32Array): void {
    for (const buffer of dispatch.bound.buffers) this.#find(buffer);
    this.#commands.push({ ...dispatch, words: words.slice(0, WORDS) });
  }

  /** Notes a copy. */
  copied(copy: Copy): void {
    this.#find(copy.from);
    this.#find(copy.to);
    this.#commands.push(copy);
  }

  #find(buffer: PoolBuffer): void {
    if (buffer.reserve !== this.#reserve && !this.#found.has(buffer)) this.#found.set(buffer, buffer.released);
  }

  /** Says which values of a `dims` object, which is about to be dispatched, a replay asks for. */
  vary(dims: object, asked: Asked): void {
    this.#asked.set(dims, asked);
    this.#unused.add(dims);
  }

  /** Has each replay fill the Dims of the last dispatch, from `dims`, with what vary() was told to ask. */
  fill(label: string, dims: object, fields: readonly DimsField[]): void {
    const asked = this.#asked.get(dims);
    const last = this.#commands.at(-1);
    if (!asked || !last || !("words" in last)) return;
    this.skip(dims);
    for (const [name, ask] of Object.entries(asked)) {
      const at = fields.findIndex((field) => field.name === name);
      if (at < 0) throw new Error(`Cannot capture ${label}: Dims has no ${name}, by which it varies`);
      this.#varying.push({ label, name, type: fields[at].type, words: last.words, at, ask });
    }
  }

  /** `dims` were run with. */
  skip(dims: object): void {
    this.#unused.delete(dims);
  }

  /** Has `hook` called before each replay, in the order of these calls. */
  beforeReplay(hook: () => void): void {
    this.#hooks.push(hook);
  }

  /** Has each replay ask whether what the body took for granted still holds: `check` says why it does not. */
  assume(check: () => string | undefined): void {
    this.#assumptions.push(check);
  }

  /** Ends the capture. Throws where a value would not vary that is to. */
  end(): void {
    this.abandon();
    if (this.#unused.size > 0)
      throw new Error(
        "Cannot capture: varies() was given dims that no kernel was run with; give run() the same object",
      );
  }

  /** Stops capturing; what was captured is not complete. */
  abandon(): void {
    const { recorder, pool } = this.#device;
    if (recorder.capturing !== this) return;
    recorder.capturing = undefined;
    pool.reserve = undefined;
  }

  /** Records all of it again. Throws, having recorded nothing, where that would not do what the body did. */
  replay(): void {
    const { recorder, watcher } = this.#device;
    const refuse = (why: string): never => {
      throw new Error(`Cannot replay: ${why}`);
    };
    this.#device.check();
    if (this.#disposed) refuse("the capture was disposed");
    if (recorder.capturing) refuse("a capture is under way; replay after it");
    if (watcher) refuse("gradients are recorded, and none would pass what is replayed");
    for (const [buffer, released] of this.#found)
      if (buffer.released !== released) refuse("a tensor that the captured body used was released since");
    for (const check of this.#assumptions) {
      const why = check();
      if (why) refuse(why);
    }
    for (const hook of this.#hooks) hook();
    for (const { label, name, words, at, type, ask } of this.#varying) {
      const value = ask();
      // f32 takes infinities, as in a dispatch.
      if (type === "f32" ? typeof value !== "number" : !fits(value, type))
        throw new RangeError(
          `Cannot replay ${label}: Dims.${name} is ${value}, a value of ${type} expected`,
        );
      if (type === "f32") new Float32Array(words.buffer)[at] = value;
      else words[at] = value;
    }
    for (const command of this.#commands) {
      if ("words" in command) recorder.dispatchAgain(command, command.words);
      else recorder.copy(command.from, command.fromByte, command.to, command.toByte, command.bytes);
    }
  }

  /** Gives the buffers back, those of tensors that are still kept once these are released. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#device.pool.disband(this.#reserve);
    this.#commands.length = this.#varying.length = this.#hooks.length = this.#assumptions.length = 0;
    this.#found.clear();
  }
}

/**
 * Says which values of Dims a replay of a captured body asks for anew, as a seed or a learning rate: for kernels of your own.
 * `dims` is the object that run() is then given. Outside of capture() it does nothing.
 */
export function varies(device: Device, dims: Readonly<Record<string, number>>, asked: Asked): void {
  device.recorder.capturing?.vary(dims, asked);
}

/** A number that is drawn now, and anew before each replay of the body that is being captured, if one is. */
export function redrawn(device: Device, draw: () => number): () => number {
  let value = draw();
  device.recorder.capturing?.beforeReplay(() => {
    value = draw();
  });
  return () => value;
}
