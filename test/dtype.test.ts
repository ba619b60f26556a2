import assert from "node:assert/strict";
import { test } from "node:test";
import { bf16ToF32, f16ToF32, f32ToF16, toF32 } from "../src/io/dtype.ts";

/** The value of a half by its definition. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
}

test("f16ToF32() is right for all 65,536 halves and f32ToF16() brings each back", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const floats = f16ToF32(all);
  const back = f32ToF16(floats);
  for (const bits of all) {
    assert.ok(Object.is(floats[bits], half(bits)), `bits ${bits}: ${floats[bits]}, expected ${half(bits)}`);
    if (!Number.isNaN(floats[bits])) assert.equal(back[bits], bits);
  }
});

test("f32ToF16() rounds to the nearest half, ties to even", () => {
  for (let bits = 0; bits < 0x7c00; bits += 7) {
    const low = half(bits);
    const high = bits === 0x7bff ? 65536 : half(bits + 1);
    const middle = (low + high) / 2;
    const even = bits % 2 === 0 ? bits : bits + 1;
    const values = Float32Array.of(middle, middle * (1 - 2 ** -20), middle * (1 + 2 ** -20), -middle);
    assert.deepEqual(
      [...f32ToF16(values)],
      [even, bits, bits + 1, even | 0x8000],
      `between ${low} and ${high}`,
    );
  }
  assert.deepEqual(
    [...f32ToF16(Float32Array.of(65519.996, 65520, 1e30, 2 ** -25, Number.NaN, -0))],
    [0x7bff, 0x7c00, 0x7c00, 0, 0x7e00, 0x8000],
  );
});

test("bf16ToF32() is the upper half of a float", () => {
  assert.deepEqual([...bf16ToF32(Uint16Array.of(0x3f80, 0xc049, 0x0001))], [1, -3.140625, 2 ** -133]);
});

test("toF32() reads every number format, aligned or not", () => {
  const bytes = (array: { buffer: ArrayBufferLike }) => new Uint8Array(array.buffer);
  const cases: [Parameters<typeof toF32>[0], Uint8Array, number[]][] = [
    ["F32", bytes(Float32Array.of(1.5, -2)), [1.5, -2]],
    ["F64", bytes(Float64Array.of(1.5, -2)), [1.5, -2]],
    ["F16", bytes(Uint16Array.of(0x3c00, 0xc000)), [1, -2]],
    ["BF16", bytes(Uint16Array.of(0x3f80, 0xc000)), [1, -2]],
    ["I64", bytes(BigInt64Array.of(-5n, 7n)), [-5, 7]],
    ["U64", bytes(BigUint64Array.of(5n, 2n ** 63n)), [5, 2 ** 63]],
    ["I32", bytes(Int32Array.of(-5, 7)), [-5, 7]],
    ["U32", bytes(Uint32Array.of(5, 2 ** 31)), [5, 2 ** 31]],
    ["I16", bytes(Int16Array.of(-5, 7)), [-5, 7]],
    ["U16", bytes(Uint16Array.of(5, 65535)), [5, 65535]],
    ["I8", bytes(Int8Array.of(-5, 7)), [-5, 7]],
    ["U8", Uint8Array.of(5, 255), [5, 255]],
    ["BOOL", Uint8Array.of(0, 1), [0, 1]],
    ["F8_E4M3", Uint8Array.of(0x38, 0xb8, 0x7e, 0x01, 0x7f), [1, -1, 448, 2 ** -9, Number.NaN]],
    ["F8_E5M2", Uint8Array.of(0x3c, 0xbc, 0x7b, 0x01), [1, -1, 57344, 2 ** -16]],
    ["F8_E8M0", Uint8Array.of(127, 128, 126), [1, 2, 0.5]],
  ];
  for (const [dtype, data, expected] of cases) {
    assert.deepEqual([...toF32(dtype, data)], expected, dtype);
    const shifted = new Uint8Array(data.length + 1);
    shifted.set(data, 1);
    assert.deepEqual([...toF32(dtype, shifted.subarray(1))], expected, `${dtype}, misaligned`);
  }
  assert.throws(() => toF32("C64", new Uint8Array(8)), {
    message: "Cannot convert C64 to F32: not a format the engine computes with",
  });
});
