/** The number formats of safetensors, and their conversion to float32 and back. */

/** Bits of one element, in the order in which the format sorts tensors by dtype. */
export const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** A number format by its name in safetensors. */
export type StoredDType = keyof typeof BITS;

/** Whether a value is the name of a format. */
export function isStoredDType(name: unknown): name is StoredDType {
  return typeof name === "string" && Object.hasOwn(BITS, name);
}

/** A float32 for each element; integers and F64 are rounded. Throws a TypeError for formats below 8 bits, FNUZ and C64. */
export function toF32(dtype: StoredDType, bytes: Uint8Array): Float32Array {
  const view = <A>(
    array: new (buffer: ArrayBuffer, offset: number, length: number) => A,
    size: number,
  ): A => {
    const aligned =
      bytes.byteOffset % size === 0 && bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice();
    return new array(aligned.buffer as ArrayBuffer, aligned.byteOffset, bytes.length / size);
  };
  const big = (values: BigInt64Array | BigUint64Array) =>
    Float32Array.from(values as Iterable<bigint>, Number);
  switch (dtype) {
    case "F32":
      return view(Float32Array, 4);
    case "F16":
      return f16ToF32(view(Uint16Array, 2));
    case "BF16":
      return bf16ToF32(view(Uint16Array, 2));
    case "F64":
      return new Float32Array(view(Float64Array, 8));
    case "I64":
      return big(view(BigInt64Array, 8));
    case "U64":
      return big(view(BigUint64Array, 8));
    case "I32":
      return new Float32Array(view(Int32Array, 4));
    case "U32":
      return new Float32Array(view(Uint32Array, 4));
    case "I16":
      return new Float32Array(view(Int16Array, 2));
    case "U16":
      return new Float32Array(view(Uint16Array, 2));
    case "I8":
      return new Float32Array(view(Int8Array, 1));
    case "U8":
    case "BOOL":
      return new Float32Array(bytes);
    case "F8_E4M3":
    case "F8_E5M2":
    case "F8_E8M0": {
      const table = Float32Array.from({ length: 256 }, (_, bits) => FLOAT8[dtype](bits));
      return Float32Array.from(bytes, (bits) => table[bits]);
    }
    default:
      throw new TypeError(`Cannot convert ${dtype} to F32: not a format the engine computes with`);
  }
}

/** Open Compute Project's 8-bit formats: E4M3 has no infinity and one NaN, E5M2 is F16 with fewer bits, E8M0 a power of two. */
const FLOAT8 = {
  F8_E4M3(bits: number) {
    const sign = bits & 128 ? -1 : 1;
    const exponent = (bits >> 3) & 15;
    const mantissa = bits & 7;
    if (exponent === 15 && mantissa === 7) return Number.NaN;
    return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
  },
  F8_E5M2: (bits: number) => f16ToF32(Uint16Array.of(bits << 8))[0],
  F8_E8M0: (bits: number) => (bits === 255 ? Number.NaN : 2 ** (bits - 127)),
};

/** bfloat16, as bits, to float32. */
export function bf16ToF32(halves: Uint16Array): Float32Array {
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i] << 16;
  return new Float32Array(words.buffer);
}

/** float16, as bits, to float32. */
export function f16ToF32(halves: Uint16Array): Float32Array {
  const words = new Uint32Array(halves.length);
  const floats = new Float32Array(words.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i];
    const sign = (half & 0x8000) << 16;
    const rest = half & 0x7fff;
    if (rest >= 0x7c00)
      words[i] = sign | 0x7f800000 | ((rest & 0x3ff) << 13); // infinity, NaN
    else if (rest >= 0x400)
      words[i] = sign | ((rest << 13) + 0x38000000); // exponent bias 15 to 127
    else floats[i] = (sign ? -1 : 1) * rest * 2 ** -24; // subnormal, zero
  }
  return floats;
}

/** The nearest float16, ties to even, as bits. Beyond 65,519 it is infinity, below 2^-25 zero. */
export function f32ToF16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const sign = (words[i] >>> 16) & 0x8000;
    const rest = words[i] & 0x7fffffff;
    if (rest > 0x7f800000)
      halves[i] = sign | 0x7e00; // NaN
    else if (rest >= 0x477ff000)
      halves[i] = sign | 0x7c00; // rounds to 2^16 or more
    else if (rest >= 0x38800000)
      halves[i] = sign | ((rest - 0x38000000 + 0xfff + ((rest >>> 13) & 1)) >>> 13);
    else halves[i] = sign | roundEven(Math.abs(values[i]) * 2 ** 24); // subnormal, zero
  }
  return halves;
}

function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
