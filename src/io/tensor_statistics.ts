/** Statistics of the tensors of a safetensors file. */
import { BITS, type StoredDType, toF32 } from "./dtype.ts";
import type { Safetensors } from "./safetensors.ts";

/** Bytes of a tensor in memory at a time. */
const PIECE = 4 * 2 ** 20;

/** Statistics of the finite values, and numbers of the others; keys are absent where undefined or the format is not read. */
export interface TensorStatistics {
  readonly min?: number;
  readonly max?: number;
  readonly mean?: number;
  readonly std?: number;
  readonly nan?: number;
  readonly inf?: number;
}

/** Formats that toF32() reads. */
const readable = (dtype: StoredDType) => BITS[dtype] >= 8 && dtype !== "C64" && !dtype.endsWith("FNUZ");

/**
 * Statistics of a tensor, computed in float64; `std` is of the population. The moments of pieces are merged (Chan et al. 1979),
 * which is exact also where the mean is far from zero. `onProgress` is told how many bytes are read. Throws a RangeError for an
 * unknown key.
 */
export async function tensorStatistics(
  file: Safetensors,
  key: string,
  onProgress: (bytes: number) => void = () => {},
): Promise<TensorStatistics> {
  const entry = file.tensors.get(key);
  if (!entry) throw new RangeError(`Cannot read ${key}: the file holds no tensor of that name`);
  const { dtype, bytes } = entry;
  if (!readable(dtype)) return {};
  let [min, max, mean, squares, count, nan, inf] = [Infinity, -Infinity, 0, 0, 0, 0, 0];
  const piece = new Uint8Array(Math.min(PIECE, bytes));
  for (let at = 0; at < bytes; at += PIECE) {
    const part = piece.subarray(0, Math.min(PIECE, bytes - at));
    await file.read(key, part, at);
    const values = toF32(dtype, part);
    let [sum, n] = [0, 0];
    for (const v of values) {
      if (Number.isFinite(v)) {
        sum += v;
        n++;
        if (v < min) min = v;
        if (v > max) max = v;
      } else if (Number.isNaN(v)) nan++;
      else inf++;
    }
    if (n > 0) {
      const own = sum / n;
      let deviation = 0;
      for (const v of values) if (Number.isFinite(v)) deviation += (v - own) ** 2;
      const delta = own - mean;
      squares += deviation + (delta * delta * count * n) / (count + n);
      mean += (delta * n) / (count + n);
      count += n;
    }
    onProgress(at + part.length);
  }
  return count > 0 ? { min, max, mean, std: Math.sqrt(squares / count), nan, inf } : { nan, inf };
}
