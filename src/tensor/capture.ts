/** A body that is recorded once and then replayed: JavaScript runs no operator again. */
import { checkOptions, describeValue, synchronous } from "../io/checks.ts";
import { Capture } from "../gpu/capture.ts";
import type { Device } from "../gpu/device.ts";
import { scope } from "./scope.ts";

/** How a body is captured. */
export interface CaptureOptions {
  /**
   * Takes the values that the body itself brings from the CPU, by Tensor.from() or in operators given arrays (token ids,
   * targets), as the same for all replays. False by default: such values are refused.
   */
  readonly constants?: boolean;
}

const OPTIONS: readonly (keyof CaptureOptions)[] = ["constants"];

/** What capture() makes. */
export interface Captured<T> {
  /** What the body returned. A replay writes its tensors anew; they live until dispose(), or longer where they are kept. */
  readonly value: T;
  /** Dispatches and copies of a replay. */
  readonly size: number;
  /** Records all that the body dispatched again. Nothing is waited for. Throws where it would not do what the body did. */
  replay(): void;
  /** Releases the tensors of `value` and all memory of the body. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/**
 * Runs `body` and keeps what it dispatched: replay() records the same again for the values that its inputs have by then, at the
 * cost of WebGPU's own calls, as a CUDA graph does. The first run counts: `value` holds its results.
 *
 * - Inputs are tensors from outside: `write()` them before replay(). They, and all that `body` found, are to stay alive.
 * - Results are the tensors that `body` returns, the same ones each time: read or copy them before the next replay.
 * - Numbers, shapes and branches are what they were: sizes, factors, `if`. Seeds of dropout are drawn anew, and an optimiser
 *   goes on in its counts and learning rates. Kernels of your own say so by varies().
 * - The memory of the body's tensors is the capture's until dispose().
 *
 * The same bits as without it. `body` is synchronous and waits for nothing. Throws for what a replay could not repeat.
 *
 * @example
 * ```ts
 * using x = Tensor.from(device, Float32Array.of(1, 2), [2]);
 * using step = capture(device, () => ops.add(ops.mul(x, x), 1));
 * console.log(await step.value.read()); // [2, 5]
 * x.write(Float32Array.of(3, 4));
 * step.replay();
 * console.log(await step.value.read()); // [10, 17]
 * ```
 */
export function capture<T>(device: Device, body: () => T, options: CaptureOptions = {}): Captured<T> {
  if (typeof body !== "function")
    throw new TypeError(`Cannot capture ${describeValue(body)}: a function without arguments expected`);
  checkOptions("capture", options, OPTIONS);
  const commands = new Capture(device, options.constants === true);
  const { scopes } = device;
  // The results go to no scope around this one: they are the capture's.
  const owned: { release(): void }[] = [];
  scopes.push(owned);
  const dispose = () => {
    for (const tensor of owned.splice(0)) tensor.release();
    commands.dispose();
  };
  let value: T;
  try {
    value = scope(device, () => synchronous("capture", body()));
    commands.end();
  } catch (error) {
    commands.abandon();
    dispose();
    throw error;
  } finally {
    scopes.length = scopes.indexOf(owned);
  }
  const size = commands.size;
  return { value, size, replay: () => commands.replay(), dispose, [Symbol.dispose]: dispose };
}
