/** Least and greatest samples over time, of a recording of any length in bounded memory. */

/** Most steps; where there are more, two become one. */
const MOST = 8192;

export class Outline {
  readonly #least = new Float32Array(MOST);
  readonly #most = new Float32Array(MOST);
  /** Samples of a step: 1 ms at first. */
  #perStep = 16;
  #samples = 0;

  /** Takes the next samples. */
  push(samples: Float32Array): void {
    for (const value of samples) {
      if (this.#samples === MOST * this.#perStep) this.#halve();
      const [step, within] = [Math.floor(this.#samples / this.#perStep), this.#samples % this.#perStep];
      this.#least[step] = within === 0 ? value : Math.min(this.#least[step], value);
      this.#most[step] = within === 0 ? value : Math.max(this.#most[step], value);
      this.#samples++;
    }
  }

  /** The least and the greatest sample of each of `count` equal parts; of an empty one 0. */
  parts(count: number): readonly (readonly [least: number, most: number])[] {
    const steps = Math.ceil(this.#samples / this.#perStep);
    return Array.from({ length: count }, (_, i) => {
      const from = Math.floor((i * steps) / count);
      const to = Math.max(from + 1, Math.floor(((i + 1) * steps) / count));
      const [least, most] = [this.#least.subarray(from, to), this.#most.subarray(from, to)];
      return [Math.min(0, ...least), Math.max(0, ...most)] as const;
    });
  }

  #halve(): void {
    for (let i = 0; i < MOST / 2; i++) {
      this.#least[i] = Math.min(this.#least[2 * i], this.#least[2 * i + 1]);
      this.#most[i] = Math.max(this.#most[2 * i], this.#most[2 * i + 1]);
    }
    this.#perStep *= 2;
  }
}
