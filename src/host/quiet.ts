/**
 * Waiting for Dawn without burning a core.
 *
 * While any of its promises is pending, npm `webgpu` polls the GPU from a callback that it queues, again and
 * again, through the `globalThis.setImmediate` it finds at that moment. Here that name is swapped for the
 * length of one synchronous call, so that Dawn's callback lands in our hands; then we call it ourselves,
 * rarely. No other code can run while the name is swapped, so nobody sees the change.
 */

type Callback = () => void;

/** A short GPU job ends within this time, in milliseconds: until then poll as Dawn would. */
const EAGER = 0.3;
/** Then wait this share of the time already waited before the next poll, in milliseconds at least and at most. */
const SHARE = 0.02;
const SHORTEST = 1;
const LONGEST = 20;

/** Dawn's callbacks, at most one for each of its instances. Not empty = a poll is scheduled. */
let captured: Callback[] = [];
let since = 0;
let cancel: Callback | undefined;

/** Runs `call` while every callback that native code queues through setImmediate is captured. */
function capture<T>(call: () => T): T {
  const original = Object.getOwnPropertyDescriptor(globalThis, "setImmediate")!;
  const real = globalThis.setImmediate;
  const keep = (callback: (...values: unknown[]) => void, ...values: unknown[]) => {
    // An event listener of the user may run in here: its callbacks are none of our business.
    const native = /\{\s*\[native code\]\s*\}\s*$/.test(Function.prototype.toString.call(callback));
    if (!native) return real(callback, ...values);
    captured.push(callback);
  };
  Object.defineProperty(globalThis, "setImmediate", { value: keep, configurable: true, writable: true });
  try {
    return call();
  } finally {
    Object.defineProperty(globalThis, "setImmediate", original);
  }
}

function poll(): void {
  cancel = undefined;
  const callbacks = captured;
  captured = [];
  try {
    // Dawn queues its callback anew if something is still pending.
    capture(() => {
      while (callbacks.length > 0) callbacks.shift()!();
    });
  } finally {
    captured.push(...callbacks); // what a throwing callback left behind
    schedule();
  }
}

function schedule(): void {
  cancel?.();
  cancel = undefined;
  if (captured.length === 0) return;
  const waited = performance.now() - since;
  if (waited < EAGER) {
    const immediate = setImmediate(poll);
    cancel = () => clearImmediate(immediate);
  } else {
    const timer = setTimeout(poll, Math.min(LONGEST, Math.max(SHORTEST, waited * SHARE)));
    cancel = () => clearTimeout(timer);
  }
}

/**
 * Starts one call to the GPU and resolves as its promise does. `start` must make the call before it first
 * awaits. Any number of waits may overlap: one poll serves them all, and each new wait makes it eager again.
 */
export async function quiet<T>(start: () => Promise<T>): Promise<T> {
  try {
    return capture(start);
  } finally {
    since = performance.now();
    schedule();
  }
}
