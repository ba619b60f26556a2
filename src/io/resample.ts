/**
 * Resampling by a polyphase filter bank with a Kaiser-windowed sinc.
 *
 * Output n is at input n·M/L, where M/L is the ratio of the rates in lowest terms, so that there are L filters, used in turn.
 * With `low` the lower of the rates the pass band ends at 0.45·low and the stop band begins at 0.5·low, 100 dB down; by Kaiser's
 * formula that takes a filter of 64/low seconds to each side.
 */

/** Of the stop band, in dB. */
const ATTENUATION = 100;
/** Of the Kaiser window. */
const BETA = 0.1102 * (ATTENUATION - 8.7);
/** Half width of the filter, in samples of the lower rate. */
const HALF_WIDTH = 64;
/** Cutoff frequency of the sinc, as a share of the lower rate. */
const CUTOFF = 0.475;
/** Table entries of the prototype filter per sample of the lower rate: linear interpolation then errs by less than 1e-7. */
const TABLE_DENSITY = 2048;
/** Filters are cached if all together have at most so many taps. */
const MAX_CACHED_TAPS = 1 << 22;

/** Resamples (N) to (round(N·to/from)); the signal is taken to be zero beyond its ends. Rates in Hz, integers. */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples.slice();
  const bank = new FilterBank(from, to);
  const out = new Float32Array(Math.round((samples.length * to) / from));
  for (let n = 0; n < out.length; n++) out[n] = bank.output(n, samples, 0);
  return out;
}

/** Resamples a signal that comes in pieces: all that push() and end() give is, bit for bit, what resample() makes of the whole. */
export class Resampler {
  readonly #from: number;
  readonly #to: number;
  readonly #bank: FilterBank | undefined;
  /** The inputs that outputs to come are made of, and the index of the first. */
  #held = new Float32Array(0);
  #first = 0;
  /** Inputs so far, and outputs. */
  #received = 0;
  #given = 0;

  /** Rates in Hz, integers. */
  constructor(from: number, to: number) {
    [this.#from, this.#to] = [from, to];
    this.#bank = from === to ? undefined : new FilterBank(from, to);
  }

  /** Takes the next inputs; gives the outputs that no later input changes. */
  push(samples: Float32Array): Float32Array {
    this.#received += samples.length;
    const bank = this.#bank;
    if (!bank) return samples.slice();
    const needed = Math.max(0, bank.span(this.#given).first - this.#first);
    const kept = this.#held.subarray(Math.min(needed, this.#held.length));
    const held = new Float32Array(kept.length + samples.length);
    held.set(kept);
    held.set(samples, kept.length);
    [this.#first, this.#held] = [this.#first + this.#held.length - kept.length, held];
    let end = this.#given;
    while (bank.span(end).end <= this.#received) end++;
    return this.#outputs(bank, end);
  }

  /** The outputs that are left, after the last input. */
  end(): Float32Array {
    const total = Math.round((this.#received * this.#to) / this.#from);
    return this.#bank ? this.#outputs(this.#bank, total) : new Float32Array(0);
  }

  #outputs(bank: FilterBank, end: number): Float32Array {
    const begin = this.#given;
    const out = new Float32Array(Math.max(0, end - begin));
    for (let i = 0; i < out.length; i++) out[i] = bank.output(begin + i, this.#held, this.#first);
    this.#given += out.length;
    return out;
  }
}

/** The L filters of two rates. */
class FilterBank {
  readonly #up: number;
  readonly #down: number;
  readonly #side: number;
  readonly #scale: number;
  readonly #keep: boolean;
  readonly #filters: (Float64Array | undefined)[] = [];

  constructor(from: number, to: number) {
    const divisor = gcd(from, to);
    this.#up = to / divisor;
    this.#down = from / divisor;
    this.#scale = Math.min(from, to) / from;
    this.#side = Math.ceil(HALF_WIDTH / this.#scale);
    this.#keep = this.#up * 2 * this.#side <= MAX_CACHED_TAPS;
  }

  /** The inputs of output n, from `first` to before `end`. */
  span(n: number): { first: number; end: number } {
    const centre = Math.floor((n * this.#down) / this.#up);
    return { first: centre - this.#side + 1, end: centre + this.#side + 1 };
  }

  /** Output n of inputs of which samples[0] is that of index `offset`; all others are zero. */
  output(n: number, samples: Float32Array, offset: number): number {
    const phase = (n * this.#down) % this.#up;
    const centre = (n * this.#down - phase) / this.#up;
    const filter = this.#filters[phase] ?? makeFilter(phase / this.#up, this.#side, this.#scale);
    if (this.#keep) this.#filters[phase] = filter;
    const first = centre - this.#side + 1 - offset;
    const end = Math.min(filter.length, samples.length - first);
    let sum = 0;
    for (let i = Math.max(0, -first); i < end; i++) sum += filter[i] * samples[first + i];
    return sum;
  }
}

/** Taps for the inputs from side − 1 before the centre to side after it, for an output `fraction` after it. */
function makeFilter(fraction: number, side: number, scale: number): Float64Array {
  const taps = new Float64Array(2 * side);
  let sum = 0;
  for (let i = 0; i < taps.length; i++) {
    taps[i] = prototype(Math.abs(i - side + 1 - fraction) * scale);
    sum += taps[i];
  }
  return taps.map((tap) => tap / sum); // unit gain at 0 Hz
}

let table: Float64Array | undefined;

/** The windowed sinc at a distance in samples of the lower rate. */
function prototype(distance: number): number {
  table ??= Float64Array.from({ length: HALF_WIDTH * TABLE_DENSITY + 2 }, (_, i) => {
    const t = i / TABLE_DENSITY;
    if (t >= HALF_WIDTH) return 0;
    const x = 2 * Math.PI * CUTOFF * t;
    return (x === 0 ? 1 : Math.sin(x) / x) * bessel(BETA * Math.sqrt(1 - (t / HALF_WIDTH) ** 2));
  });
  const place = Math.min(distance, HALF_WIDTH) * TABLE_DENSITY;
  const index = Math.floor(place);
  return table[index] + (place - index) * (table[index + 1] - table[index]);
}

/** Modified Bessel function of the first kind, order 0, by its power series. */
function bessel(x: number): number {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-17 * sum; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
