/**
 * Voice activity by energy: the stretches of speech in a recording that comes in pieces, in windows that a model bears.
 *
 * A frame's level is compared with a noise floor, the least level of the last seconds (minimum statistics after Martin, 2001).
 * Speech begins above floor + onset and ends below floor + offset, which lies lower: hysteresis. Linear in the samples; what is held
 * is no longer than a window.
 */
import { SAMPLE_RATE } from "./samples.ts";
import { joined } from "./audio_stream.ts";

/** How speech is found and divided; times in seconds, levels in dB. */
export interface SegmentOptions {
  /** Level above the noise floor at which speech begins. Default 9. */
  readonly onset?: number;
  /** Level above the noise floor below which it ends. Default 5. */
  readonly offset?: number;
  /** Shorter speech is left out, as a click. Default 0.1. */
  readonly minSpeech?: number;
  /** Silence that ends a segment. Default 0.5. */
  readonly minSilence?: number;
  /** What is added on both sides of a segment. Default 0.2. */
  readonly speechPad?: number;
  /** Longest segment, the window in which longer speech is divided. Default 30. */
  readonly maxSpeech?: number;
  /** How far such windows overlap. Default 2. */
  readonly overlap?: number;
}

/** A stretch of speech. */
export interface Segment {
  /** Index of its first sample in the recording. */
  readonly start: number;
  /** (N): mono at 16 kHz. */
  readonly samples: Float32Array;
  /** It begins within the segment before, whose speech went on. */
  readonly continues: boolean;
}

const DEFAULTS: Required<SegmentOptions> = {
  onset: 9,
  offset: 5,
  minSpeech: 0.1,
  minSilence: 0.5,
  speechPad: 0.2,
  maxSpeech: 30,
  overlap: 2,
};

/** Samples of a frame: 20 ms. */
const FRAME = 320;
/** Frames over which the level is smoothed for the noise floor. */
const SMOOTH = 3;
/** Frames of a block of minima, and blocks that are remembered: 10 s. */
const [BLOCK, BLOCKS] = [25, 20];
/** The noise floor is no lower: what is below −72 dB is silence. */
const LEAST_FLOOR = -72;
/** Before a second was heard, which may be speech throughout, the noise floor is no higher than this. */
const FIRST_FLOOR = -60;

/** The options with their defaults. Throws a RangeError where they contradict each other. */
export function segmentOptions(given: SegmentOptions = {}): Required<SegmentOptions> {
  const options = Object.fromEntries(
    Object.entries(DEFAULTS).map(([name, value]) => [name, given[name as keyof SegmentOptions] ?? value]),
  ) as unknown as Required<SegmentOptions>;
  const refuse = (what: string): never => {
    throw new RangeError(`Cannot divide recordings: ${what}`);
  };
  for (const [name, value] of Object.entries(options))
    if (!(value >= 0 && Number.isFinite(value)))
      refuse(`${name} is ${value}, expected a number of at least 0`);
  const { onset, offset, maxSpeech, overlap, minSpeech } = options;
  if (offset > onset) refuse(`offset ${offset} is above onset ${onset}`);
  if (maxSpeech < 1) refuse(`maxSpeech is ${maxSpeech} s, expected at least 1`);
  if (overlap > maxSpeech / 2) refuse(`overlap ${overlap} s is more than half of maxSpeech ${maxSpeech} s`);
  if (minSpeech > maxSpeech) refuse(`minSpeech ${minSpeech} s is more than maxSpeech ${maxSpeech} s`);
  return options;
}

/** Divides a recording, mono at 16 kHz, into segments. */
export class Segmenter {
  readonly #options: Required<SegmentOptions>;
  readonly #noise = new NoiseFloor();
  /** Samples that segments to come may hold, and the index of the first. */
  #held: Float32Array = new Float32Array(0);
  #first = 0;
  /** Samples whose frames were looked at. */
  #done = 0;
  /** Where the segment begins that is open, and whether it goes on from another. */
  #start: number | undefined;
  #continues = false;
  /** Behind the last frame of speech, and frames of speech since the segment was opened. */
  #spoken = 0;
  #active = 0;
  /** The greatest level in the open segment, and the noise floor now. */
  #loudest = 0;
  #floor = 0;
  /** Behind the last segment. */
  #end = 0;

  /** Throws a RangeError for options that contradict each other. */
  constructor(options: SegmentOptions = {}) {
    this.#options = segmentOptions(options);
  }

  /** Samples so far. */
  get samples(): number {
    return this.#first + this.#held.length;
  }

  /** Whether the last segment's speech goes on in the next. */
  get goesOn(): boolean {
    return this.#start !== undefined && this.#continues;
  }

  /** What is heard so far of a segment that may go on. */
  get open(): Segment | undefined {
    if (this.#start === undefined || this.#active * FRAME < this.#length("minSpeech")) return undefined;
    return this.#trimmed(this.#start, Math.min(this.#spoken + this.#length("speechPad"), this.samples));
  }

  /** Takes the next samples; gives the segments that they complete. */
  push(samples: Float32Array): Segment[] {
    const keep = Math.max(0, Math.min(this.#needed() - this.#first, this.#held.length));
    this.#held = joined([this.#held.subarray(keep), samples]);
    this.#first += keep;
    const found: Segment[] = [];
    for (; this.#done + FRAME <= this.samples; this.#done += FRAME) {
      const at = this.#done - this.#first;
      const segment = this.#frame(this.#held.subarray(at, at + FRAME));
      if (segment) found.push(segment);
    }
    return found;
  }

  /** The segment that is open at the end of the recording. */
  end(): Segment[] {
    if (this.#start !== undefined && this.samples > this.#done && this.#spoken === this.#done)
      this.#spoken = this.samples; // what is left of the last frame
    const segment = this.#start === undefined ? undefined : this.#close(this.#start);
    return segment ? [segment] : [];
  }

  #length = (name: "minSpeech" | "minSilence" | "speechPad" | "maxSpeech" | "overlap"): number =>
    Math.round(this.#options[name] * SAMPLE_RATE);

  /** The first sample that a segment to come may hold. */
  #needed(): number {
    return this.#start ?? Math.max(this.#end, this.#done - this.#length("speechPad"));
  }

  #frame(frame: Float32Array): Segment | undefined {
    const { onset, offset } = this.#options;
    const level = levelOf(frame);
    const floor = this.#noise.next(level);
    this.#floor = floor;
    const next = this.#done + FRAME;
    if (this.#start === undefined) {
      if (level <= floor + onset) return undefined;
      this.#start = Math.max(this.#end, this.#done - this.#length("speechPad"), this.#first);
      [this.#spoken, this.#active, this.#continues, this.#loudest] = [next, 1, false, level];
      return undefined;
    }
    this.#loudest = Math.max(this.#loudest, level);
    if (level > floor + offset) {
      this.#spoken = next;
      this.#active++;
    }
    if (next - this.#spoken >= this.#length("minSilence")) return this.#close(this.#start);
    const limit = this.#start + this.#length("maxSpeech");
    if (next < limit) return undefined;
    // A pause at the end of a window divides better than the window does.
    if (this.#spoken + this.#length("speechPad") <= limit) return this.#close(this.#start);
    const segment = this.#cut(this.#start, limit);
    [this.#start, this.#end, this.#continues] = [limit - this.#length("overlap"), limit, true];
    return segment;
  }

  /**
   * Ends the open segment; undefined where it is too short, wholly in the window before, or by the noise floor that is known by now no
   * speech, but noise that began with it.
   */
  #close(start: number): Segment | undefined {
    const end = Math.min(this.#spoken + this.#length("speechPad"), this.samples);
    const tooShort = this.#active * FRAME < this.#length("minSpeech");
    const noise = this.#loudest <= this.#floor + this.#options.onset;
    const segment =
      (!this.#continues && (tooShort || noise)) || end <= this.#end ? undefined : this.#trimmed(start, end);
    if (segment) this.#end = segment.start + segment.samples.length;
    this.#start = undefined;
    return segment;
  }

  /** Without exact zeros at the ends: they are no sound of the place, and models have heard none around speech. */
  #trimmed(start: number, end: number): Segment {
    let [from, to] = [start - this.#first, end - this.#first];
    while (!this.#continues && from < to && this.#held[from] === 0) from++;
    while (to > from && this.#held[to - 1] === 0) to--;
    return this.#cut(from + this.#first, to + this.#first);
  }

  #cut(start: number, end: number): Segment {
    const samples = this.#held.slice(start - this.#first, end - this.#first);
    return { start, samples, continues: this.#continues };
  }
}

/** The noise floor in dB: the least of the smoothed levels of the last 10 s. */
class NoiseFloor {
  readonly #recent: number[] = [];
  readonly #minima: number[] = [];
  #block = Number.POSITIVE_INFINITY;
  #frames = 0;

  /** The floor with the level of the next frame. */
  next(level: number): number {
    this.#recent.push(10 ** (level / 10));
    if (this.#recent.length > SMOOTH) this.#recent.shift();
    const power = this.#recent.reduce((a, b) => a + b, 0) / this.#recent.length;
    this.#block = Math.min(this.#block, 10 * Math.log10(power));
    this.#frames++;
    const least = Math.min(this.#block, ...this.#minima);
    if (this.#frames % BLOCK === 0) {
      this.#minima.push(this.#block);
      if (this.#minima.length > BLOCKS) this.#minima.shift();
      this.#block = Number.POSITIVE_INFINITY;
    }
    const first = this.#frames * FRAME < SAMPLE_RATE ? Math.min(least, FIRST_FLOOR) : least;
    return Math.max(LEAST_FLOOR, first);
  }
}

/** RMS of a frame without its mean, in dB of full scale. */
function levelOf(frame: Float32Array): number {
  let [sum, squares] = [0, 0];
  for (const value of frame) {
    sum += value;
    squares += value * value;
  }
  const variance = squares / frame.length - (sum / frame.length) ** 2;
  return 10 * Math.log10(Math.max(variance, 1e-12));
}
