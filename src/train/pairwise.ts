/**
 * Sums in the order of a binary tree over positions: ((0 + 1) + (2 + 3)) + ((4 + 5) + …). Who holds an aligned block of 2^k
 * positions can sum it alone: the sum of all such blocks, in the same order, has the same bits.
 */
export class PairwiseSum<T> {
  readonly #add: (left: T, right: T) => T;
  /** Sums of blocks that are not whole yet, each with the first of its positions. */
  readonly #parts: { readonly position: number; readonly value: T }[] = [];

  /** `add` takes both of its arguments over. */
  constructor(add: (left: T, right: T) => T) {
    this.#add = add;
  }

  /** Adds a value. Positions ascend; those that are left out count for nothing. */
  add(position: number, value: T): void {
    this.#fold(position);
    this.#parts.push({ position, value });
    this.#fold(position + 1);
  }

  /** Adds up blocks of which no further position comes, where the next is `next`. */
  #fold(next: number): void {
    for (;;) {
      const [left, right] = this.#parts.slice(-2);
      if (!right) return;
      // The least aligned block that holds both is 2^bits long.
      const bits = 32 - Math.clz32(left.position ^ right.position);
      if (next < 2 ** 31 && left.position >>> bits === next >>> bits) return;
      this.#parts.splice(-2, 2, { position: left.position, value: this.#add(left.value, right.value) });
    }
  }

  /** Whether nothing was added. */
  get empty(): boolean {
    return this.#parts.length === 0;
  }

  /** The sum of all that was added, which is then gone; undefined where that is nothing. */
  take(): T | undefined {
    this.#fold(Number.POSITIVE_INFINITY);
    return this.#parts.pop()?.value;
  }

  /** Gives up what was added. */
  clear(drop: (value: T) => void): void {
    for (const { value } of this.#parts.splice(0)) drop(value);
  }
}
