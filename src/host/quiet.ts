/**
 * Waiting for Dawn without burning a core.
 *
 * While any of its promises is pending, npm `webgpu` polls the GPU without pause: its native code looks up
 * `globalThis.setImmediate` whenever it wants to poll again, and queues a callback there. It takes no option that changes
 * this. So that name is replaced during each synchronous call into Dawn, by a function of ours that keeps Dawn's callbacks;
 * we call them ourselves, ever more rarely the longer a wait takes. Before the call returns the name is put back.
 *
 * Other code can run within such a call only as an event listener that Dawn calls, of `uncapturederror` for one. It sees
 * our function, which hands all callbacks but Dawn's to the real setImmediate. Where the global object is frozen nothing
 * is swapped, and Dawn polls without pause.
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

/** Dawn's callback is the one native function with a prototype: bound functions and those that settle promises have none. */
const isDawns = (callback: object): boolean =>
  Object.hasOwn(callback, "prototype") &&
  /\{\s*\[native code\]\s*\}\s*$/.test(Function.prototype.toString.call(callback));

/** Runs `call` while every callback that Dawn queues through setImmediate is captured. */
function capture<T>(call: () => T): T {
  const original = Object.getOwnPropertyDescriptor(globalThis, "setImmediate");
  const real = globalThis.setImmediate;
  const keep = (callback: (...values: unknown[]) => void, ...values: unknown[]) => {
    if (!isDawns(callback)) return real(callback, ...values);
    captured.push(callback);
  };
  const ours = { value: keep, configurable: true, writable: true };
  if (!original || !Reflect.defineProperty(globalThis, "setImmediate", ours)) return call();
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
