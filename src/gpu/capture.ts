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
import { SLOT_WORDS } from "./recorder.ts";
import { type DimsField, fits } from "./wgsl.ts";

/** A dispatch with all that it needs besides Dims. */
interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bound: BoundGroup;
  /** Whether the entry point reads Dims. */
  readonly takesDims: boolean;
  readonly x: number;
  readonly y: number;
  readonly z: number;
  readonly label: string;
}

/** A copy as Recorder.copy() takes it. */
type Copy = readonly [from: PoolBuffer, fromByte: number, to: PoolBuffer, toByte: number, bytes: number];

/** What a replay records. */
export type Command =
  | { readonly dispatch: Dispatch; readonly copy: undefined }
  | { readonly dispatch: undefined; readonly copy: Copy };

/** What is asked for a value of Dims at each replay. */
type Asked = Readonly<Record<string, () => number>>;

/** A word of a captured Dims that each replay asks for. */
interface Varying extends DimsField {
  readonly label: string;
  /** Its word in the slots of the whole capture. */
  readonly at: number;
  readonly ask: () => number;
}

/** The commands of one captured body. */
export class Capture {
  readonly #device: Device;
  readonly #reserve = new Reserve();
  readonly #commands: Command[] = [];
  /** The slot of each dispatch, while capturing; then side by side in #words, all that is named in #buffers. */
  readonly #slots: Uint32Array[] = [];
  #words = new Uint32Array();
  #buffers: readonly PoolBuffer[] = [];
  readonly #named = new Set<PoolBuffer>();
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
    if (device.dry)
      throw new Error("Cannot capture inside precompile() or plan(): nothing is dispatched there");
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
    for (const buffer of dispatch.bound.buffers) this.#name(buffer);
    this.#commands.push({ dispatch, copy: undefined });
    this.#slots.push(words.slice());
  }

  /** Notes a copy. */
  copied(copy: Copy): void {
    const [from, , to] = copy;
    this.checkWrite("a copy", "a tensor", to);
    this.#name(from);
    this.#name(to);
    this.#commands.push({ dispatch: undefined, copy });
  }

  #name(buffer: PoolBuffer): void {
    if (this.#named.has(buffer)) return;
    this.#named.add(buffer);
    if (buffer.reserve !== this.#reserve) this.#found.set(buffer, buffer.released);
  }

  /** Says which values of a `dims` object, which is about to be dispatched, a replay asks for. */
  vary(dims: object, asked: Asked): void {
    this.#asked.set(dims, asked);
    this.#unused.add(dims);
  }

  /** Has each replay fill the Dims of the last dispatch, from `dims`, with what vary() was told to ask. */
  fill(label: string, dims: object, fields: readonly DimsField[]): void {
    const asked = this.#asked.get(dims);
    if (!asked) return;
    this.skip(dims);
    const last = (this.#slots.length - 1) * SLOT_WORDS;
    for (const [name, ask] of Object.entries(asked)) {
      const at = fields.findIndex((field) => field.name === name);
      if (at < 0) throw new Error(`Cannot capture ${label}: Dims has no ${name}, by which it varies`);
      this.#varying.push({ label, name, type: fields[at].type, at: last + at, ask });
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
    this.#words = new Uint32Array(this.#slots.length * SLOT_WORDS);
    for (const [i, slot] of this.#slots.entries()) this.#words.set(slot, i * SLOT_WORDS);
    this.#buffers = [...this.#named];
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
    const floats = new Float32Array(this.#words.buffer);
    for (const { label, name, at, type, ask } of this.#varying) {
      const value = ask();
      // f32 takes infinities, as in a dispatch.
      if (type === "f32" ? typeof value !== "number" : !fits(value, type))
        throw new RangeError(`Cannot replay ${label}: Dims.${name} is ${value}, a value of ${type} expected`);
      if (type === "f32") floats[at] = value;
      else this.#words[at] = value;
    }
    recorder.replay(this.#commands, this.#words, this.#buffers);
  }

  /** Gives the buffers back, those of tensors that are still kept once these are released. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#device.pool.disband(this.#reserve);
    this.#slots.length = 0;
    this.#named.clear();
    this.#buffers = [];
    this.#words = new Uint32Array();
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
