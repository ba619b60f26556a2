/**
 * Change of sampling rate by a windowed sinc in polyphase form.
 *
 * Output n lies exactly at input n·M/L, where M/L is the ratio of the rates in lowest terms: L filters serve
 * all outputs in turn. A Kaiser window holds the stop band 100 dB down. With `low` the lower of the rates, the
 * pass band ends at 0.45·low, the stop band begins at 0.5·low, and the filter reaches 64/low seconds to each
 * side (Kaiser's formula for that transition).
 */

const ATTENUATION = 100;
const BETA = 0.1102 * (ATTENUATION - 8.7);
const REACH = 64;
const CENTRE = 0.475;
/** The prototype filter is tabulated this densely; linear interpolation then errs by under 1e-7. */
const DENSITY = 2048;
/** Filters are kept if all of them have no more taps than this together. */
const KEPT_TAPS = 1 << 22;

/** Zeros are assumed around the signal. Length out: round(length · to / from). */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples.slice();
  const divisor = gcd(from, to);
  const L = to / divisor;
  const M = from / divisor;
  const scale = Math.min(from, to) / from;
  const side = Math.ceil(REACH / scale);
  const keep = L * 2 * side <= KEPT_TAPS;
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

/** Taps for the inputs from side - 1 before to side after the centre, for an output `fraction` behind it. */
function makeFilter(fraction: number, side: number, scale: number): Float64Array {
  const taps = new Float64Array(2 * side);
  let sum = 0;
  for (let i = 0; i < taps.length; i++) {
    taps[i] = prototype(Math.abs(i - side + 1 - fraction) * scale);
    sum += taps[i];
  }
  return taps.map((tap) => tap / sum); // a constant stays that constant
}

let table: Float64Array | undefined;

/** sinc·Kaiser at a distance in samples of the lower rate. */
function prototype(distance: number): number {
  table ??= Float64Array.from({ length: REACH * DENSITY + 2 }, (_, i) => {
    const t = i / DENSITY;
    if (t >= REACH) return 0;
    const x = 2 * Math.PI * CENTRE * t;
    return (x === 0 ? 1 : Math.sin(x) / x) * bessel(BETA * Math.sqrt(1 - (t / REACH) ** 2));
  });
  const place = Math.min(distance, REACH) * DENSITY;
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
