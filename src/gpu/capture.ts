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
import type { Scalar } from "./wgsl.ts";

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
interface Varying {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly at: number;
  readonly type: Scalar;
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
  readonly #varying: Varying[] = [];
  readonly #hooks: (() => void)[] = [];
  readonly #assumptions: (() => string | undefined)[] = [];
  /** Whether values from the CPU are taken as they are. */
  readonly constants: boolean;
  #state: "capturing" | "ready" | "disposed" = "capturing";

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
  }

  /** Has the last dispatch's Dims filled from `dims`; its field `at` is called `name`. */
  field(dims: object, name: string, at: number, type: Scalar): void {
    const ask = this.#asked.get(dims)?.[name];
    const last = this.#commands.at(-1);
    if (ask && last && "words" in last) this.#varying.push({ words: last.words, at, type, ask });
  }

  /** Has `hook` called before each replay, in the order of these calls. */
  beforeReplay(hook: () => void): void {
    this.#hooks.push(hook);
  }

  /** Has each replay ask whether what the body took for granted still holds: `check` says why it does not. */
  assume(check: () => string | undefined): void {
    this.#assumptions.push(check);
  }

  /** Ends the capture. Where `worked` is false, nothing of it is kept. */
  end(worked: boolean): void {
    const { recorder, pool } = this.#device;
    recorder.capturing = undefined;
    pool.reserve = undefined;
    this.#state = "ready";
    if (!worked) this.dispose();
  }

  /** Records all of it again. Throws, having recorded nothing, where that would not do what the body did. */
  replay(): void {
    const { recorder, watcher } = this.#device;
    const refuse = (why: string): never => {
      throw new Error(`Cannot replay: ${why}`);
    };
    this.#device.check();
    if (this.#state === "disposed") refuse("the capture was disposed");
    if (recorder.capturing) refuse("a capture is under way; replay after it");
    if (watcher) refuse("gradients are recorded, and none would pass what is replayed");
    for (const [buffer, released] of this.#found)
      if (buffer.released !== released) refuse("a tensor that the captured body used was released since");
    for (const check of this.#assumptions) {
      const why = check();
      if (why) refuse(why);
    }
    for (const hook of this.#hooks) hook();
    for (const { words, at, type, ask } of this.#varying) {
      const value = ask();
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
    if (this.#state === "disposed") return;
    this.#state = "disposed";
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
