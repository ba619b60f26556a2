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
  const divisor = gcd(from, to);
  const L = to / divisor;
  const M = from / divisor;
  const scale = Math.min(from, to) / from;
  const side = Math.ceil(HALF_WIDTH / scale);
  const keep = L * 2 * side <= MAX_CACHED_TAPS;
  const filters: (Float64Array | undefined)[] = [];
  const out = new Float32Array(Math.round((samples.length * to) / from));
  for (let n = 0; n < out.length; n++) {
    const phase = (n * M) % L;
    const centre = (n * M - phase) / L;
    const filter = filters[phase] ?? makeFilter(phase / L, side, scale);
    if (keep) filters[phase] = filter;
    const first = centre - side + 1;
    const end = Math.min(filter.length, samples.length - first);
    let sum = 0;
    for (let i = Math.max(0, -first); i < end; i++) sum += filter[i] * samples[first + i];
    out[n] = sum;
  }
  return out;
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
