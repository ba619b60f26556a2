/** What a page keeps of a recording of any length: its outline, and where it is short enough, its sound. */
import { joined } from "../../io/audio_stream.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { base64 } from "../../io/encoding.ts";
import { wav16Bytes } from "../../io/wav.ts";

/** The least and the greatest sample of every `step` seconds, in percent of full scale. */
export interface Outline {
  readonly step: number;
  readonly least: readonly number[];
  readonly most: readonly number[];
}

/** Most steps of an outline; a longer recording has longer ones. */
const MOST_STEPS = 8192;
/** Longer recordings are not put into the page: a minute takes 2.5 MB. */
const SOUND_SECONDS = 600;

/** Collects the samples of a recording, mono at 16 kHz. */
export class Waveform {
  #samples = 0;
  #perStep = SAMPLE_RATE / 100;
  #least: number[] = [];
  #most: number[] = [];
  #inStep = 0;
  #sound: Float32Array[] | undefined = [];

  push(piece: Float32Array): void {
    for (const value of piece) {
      const last = this.#least.length - 1;
      if (this.#inStep === 0) {
        this.#least.push(value);
        this.#most.push(value);
      } else {
        if (value < this.#least[last]) this.#least[last] = value;
        if (value > this.#most[last]) this.#most[last] = value;
      }
      this.#inStep = (this.#inStep + 1) % this.#perStep;
      if (this.#inStep === 0 && this.#least.length === MOST_STEPS) this.#halve();
    }
    this.#samples += piece.length;
    if (this.#samples > SOUND_SECONDS * SAMPLE_RATE) this.#sound = undefined;
    this.#sound?.push(piece.slice());
  }

  get outline(): Outline {
    const percent = (values: readonly number[]) => values.map((value) => Math.round(1000 * value) / 10);
    return {
      step: this.#perStep / SAMPLE_RATE,
      least: percent(this.#least),
      most: percent(this.#most),
    };
  }

  /** The sound as a data URI; undefined where that is too long. */
  get uri(): string | undefined {
    return this.#sound && `data:audio/wav;base64,${base64(wav16Bytes(joined(this.#sound)))}`;
  }

  #halve(): void {
    const pairs = (values: readonly number[], of: (a: number, b: number) => number) =>
      Array.from({ length: values.length / 2 }, (_, i) => of(values[2 * i], values[2 * i + 1]));
    this.#least = pairs(this.#least, Math.min);
    this.#most = pairs(this.#most, Math.max);
    this.#perStep *= 2;
  }
}
