import assert from "node:assert/strict";
import { test } from "node:test";
import { bf16ToF32, f16ToF32, f32ToF16 } from "../src/io/dtype.ts";
import { convert, type GpuStoredDType } from "../src/ops/convert.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { normal } from "./reference.ts";

const device = await testDevice();

/** Bytes of the result of convert(), and the bytes that it was given padded to whole words. */
async function converted(
  bytes: ArrayBuffer,
  from: GpuStoredDType,
  size: number,
  to: "f32" | "f16",
): Promise<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(bytes.byteLength / 4));
  new Uint8Array(words.buffer).set(new Uint8Array(bytes));
  const y = scope(device, () => convert(Tensor.from(device, words, [words.length]), from, [size], to));
  const result = await device.read(y.buffer, y.bytes);
  y.release();
  return result;
}

const everyHalf = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNaN32 = (bits: number) => (bits & 0x7fffffff) > 0x7f800000;

for (const [from, toF32] of [
  ["BF16", bf16ToF32],
  ["F16", f16ToF32],
] as const) {
  test(`convert() ${from} to f32 gives every one of the 65,536 values its bits`, async () => {
    const got = new Uint32Array(await converted(everyHalf.buffer, from, 65536, "f32"));
    const want = new Uint32Array(toF32(everyHalf).buffer);
    const wrong = got.findIndex((bits, i) => (isNaN32(want[i]) ? !isNaN32(bits) : bits !== want[i]));
    assert.equal(
      wrong,
      -1,
      `half ${wrong}: ${got[wrong]?.toString(16)}, reference ${want[wrong]?.toString(16)}`,
    );
  });

  test(`convert() ${from} to f32 takes an odd number of values`, async () => {
    for (const size of [1, 7, 1023]) {
      const halves = everyHalf.slice(0x3f00, 0x3f00 + size);
      assert.deepEqual(new Float32Array(await converted(halves.buffer, from, size, "f32")), toF32(halves));
    }
  });
}

test("convert() F32 to f16 rounds to the nearest half, ties to even", async () => {
  const edges = [
    0,
    -0,
    1,
    -1,
    65504,
    65519.99,
    65520,
    1e6,
    -Infinity,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    2 ** -14,
    2 ** -24,
  ];
  const small = [
    2 ** -25,
    2 ** -25 * 1.0001,
    1.5 * 2 ** -24,
    2.5 * 2 ** -24,
    2 ** -14 - 2 ** -26,
    1e-10,
    6.1e-5,
  ];
  const values = Float32Array.of(
    ...edges,
    ...small,
    Number.NaN,
    ...normal(1003, 1),
    ...normal(1001, 2, 1e-5),
  );
  const got = new Uint16Array(await converted(values.slice().buffer, "F32", values.length, "f16"));
  const want = f32ToF16(values);
  const isNaN16 = (bits: number) => (bits & 0x7fff) > 0x7c00;
  const wrong = got.findIndex((bits, i) => (isNaN16(want[i]) ? !isNaN16(bits) : bits !== want[i]));
  assert.equal(
    wrong,
    -1,
    `${values[wrong]}: ${got[wrong]?.toString(16)}, reference ${want[wrong]?.toString(16)}`,
  );
});

test("convert() moves F16 to f16 and F32 to f32 unchanged", async () => {
  const finite = everyHalf.filter((h) => (h & 0x7c00) !== 0x7c00);
  assert.deepEqual(
    new Uint16Array(await converted(finite.slice().buffer, "F16", finite.length, "f16")),
    finite,
  );
  const values = normal(7, 1);
  assert.deepEqual(new Float32Array(await converted(values.slice().buffer, "F32", 7, "f32")), values);
});

test("convert() BF16 to f16 goes beyond 65504 to infinity", async () => {
  const halves = Uint16Array.of(0x3f80, 0x4780, 0xc780);
  const got = new Uint16Array(await converted(halves.buffer, "BF16", 3, "f16"));
  assert.deepEqual(got, f32ToF16(bf16ToF32(halves)));
});
