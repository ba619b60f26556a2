/** Tensors that are views of a storage, read in row-major order. */

/** A view: byte b of its contiguous form lies where its strides say. All in bytes, the bytes of an element being the last axis. */
export interface ByteView {
  /** Byte of the file at which the view begins. */
  readonly position: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** The view of a tensor with strides in elements of `width` bytes; axes that lie one behind the other become one. */
export function byteView(
  position: number,
  shape: readonly number[],
  strides: readonly number[],
  width: number,
): ByteView {
  const axes: [extent: number, stride: number][] = [];
  for (const [i, extent] of shape.entries()) if (extent !== 1) axes.push([extent, strides[i] * width]);
  axes.push([width, 1]);
  for (let i = axes.length - 2; i >= 0; i--) {
    const [[outer, stride], [inner, innerStride]] = [axes[i], axes[i + 1]];
    if (stride === inner * innerStride) axes.splice(i, 2, [outer * inner, innerStride]);
  }
  return { position, shape: axes.map(([extent]) => extent), strides: axes.map(([, stride]) => stride) };
}

/** Reads `into.length` bytes of a file from `position` on. */
export type ReadAt = (into: Uint8Array, position: number) => Promise<void>;

/** Bytes of a file that are held while a view is gathered. */
const WINDOW = 2 ** 20;
/** Bytes in a row from which on they are read to where they go. */
const DIRECT = 2 ** 16;

/** Fills `into` with the bytes of the view's contiguous form from `from` on. */
export async function readView(read: ReadAt, view: ByteView, into: Uint8Array, from: number): Promise<void> {
  if (view.shape.length === 1) return await read(into, view.position + from);
  let done = 0;
  while (done < into.length) {
    const { axis, index, count } = boxAt(view.shape, from + done, into.length - done);
    const inner = product(view.shape.slice(axis + 1));
    const bytes = count * inner;
    const start = index.reduce((sum, at, i) => sum + at * view.strides[i], view.position);
    const box = {
      position: start,
      shape: [count, ...view.shape.slice(axis + 1)],
      strides: view.strides.slice(axis),
    };
    await gather(read, box, into.subarray(done, done + bytes));
    done += bytes;
  }
}

const product = (values: readonly number[]) => values.reduce((a, b) => a * b, 1);

/** The largest box that begins at byte `at` and has at most `limit` bytes: `count` steps along `axis`, all of the axes behind. */
function boxAt(shape: readonly number[], at: number, limit: number) {
  const index: number[] = [];
  let rest = at;
  const sizes = shape.map((_, i) => product(shape.slice(i + 1)));
  for (const [axis, size] of sizes.entries()) {
    index.push(Math.floor(rest / size));
    rest %= size;
    if (rest === 0 && size <= limit) {
      const count = Math.min(shape[axis] - index[axis], Math.floor(limit / size));
      return { axis, index, count };
    }
  }
  throw new RangeError(`Cannot read byte ${at}: the view has no such byte`);
}

/** Copies a box, in the order in which it lies in the file: each part of that is read once, however small the memory. */
async function gather(read: ReadAt, box: ByteView, into: Uint8Array): Promise<void> {
  const sizes = box.shape.map((_, i) => product(box.shape.slice(i + 1)));
  const axes = box.shape
    .map((extent, i) => ({ extent, stride: box.strides[i], size: sizes[i] }))
    .filter(({ extent }) => extent > 1)
    .sort((a, b) => b.stride - a.stride);
  // Bytes that follow each other in both are copied together.
  const last = axes.findIndex(({ stride, size }) => stride === 1 && size === 1);
  const run = last < 0 ? 1 : axes.splice(last, 1)[0].extent;
  const span = axes.reduce((sum, { extent, stride }) => sum + (extent - 1) * stride, run);
  const direct = run >= DIRECT;
  const window = new Uint8Array(direct ? 0 : Math.min(span, WINDOW));
  let [begin, end] = [0, 0]; // of the window, from the position of the box
  const counters = axes.map(() => 0);
  let [source, target] = [0, 0];
  for (;;) {
    if (direct) await read(into.subarray(target, target + run), box.position + source);
    else {
      if (source < begin || source + run > end) {
        begin = source;
        end = Math.min(span, source + window.length);
        await read(window.subarray(0, end - begin), box.position + begin);
      }
      const at = source - begin;
      for (let i = 0; i < run; i++) into[target + i] = window[at + i];
    }
    let axis = axes.length - 1;
    for (; axis >= 0; axis--) {
      const { extent, stride, size } = axes[axis];
      source += stride;
      target += size;
      if (++counters[axis] < extent) break;
      source -= extent * stride;
      target -= extent * size;
      counters[axis] = 0;
    }
    if (axis < 0) return;
  }
}
