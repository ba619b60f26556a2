import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../src/io/safetensors_writer.ts";
import { width } from "./safetensors_fixture.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "safetensors-test-"));
after(() => rmSync(folder, { recursive: true }));

test("writeSafetensors() writes what openSafetensors() reads, sorted and aligned, streams included", async () => {
  const path = join(folder, "round.safetensors");
  const floats = Float32Array.of(1, -2, 3.5, 0, 5, 6);
  await writeSafetensors(
    host,
    path,
    [
      { key: "a", dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) },
      { key: "z", dtype: "F32", shape: [2, 3], data: async () => new Uint8Array(floats.buffer) },
      {
        key: "b",
        dtype: "F32",
        shape: [2],
        data: async function* () {
          yield new Uint8Array(Float32Array.of(8).buffer);
          yield new Uint8Array(Float32Array.of(9).buffer);
        },
      },
      { key: "ü", dtype: "I64", shape: [], data: new Uint8Array(BigInt64Array.of(-3n).buffer) },
    ],
    { format: "pt", note: "naïve" },
  );
  const file = await openSafetensors(host, path);
  assert.deepEqual([...file.tensors.keys()], ["ü", "b", "z", "a"]);
  assert.deepEqual(file.metadata, { format: "pt", note: "naïve" });
  assert.deepEqual(await readF32(file, "z"), floats);
  assert.deepEqual([...(await readF32(file, "b"))], [8, 9]);
  assert.deepEqual([...(await readF32(file, "ü"))], [-3]);
  assert.deepEqual([...(await readF32(file, "a"))], [1, 2, 3]);
  assert.deepEqual(file.tensors.get("z")!.shape, [2, 3]);
  for (const [key, { position, dtype }] of file.tensors) assert.equal(position % width(dtype), 0, key);
  await file.close();
});

test("writeSafetensors() leaves no file behind when a tensor is wrong", async () => {
  const home = join(folder, "wrong");
  mkdirSync(home);
  const path = join(home, "x.safetensors");
  const tensor = (key: string, size: number): TensorSource => ({
    key,
    dtype: "F32",
    shape: [2],
    data: new Uint8Array(size),
  });
  const wrong: [TensorSource[], string][] = [
    [[tensor("w", 7)], 'tensor "w" delivered 7 bytes, but F32 (2) takes 8'],
    [[tensor("w", 8), tensor("w", 8)], 'two tensors are named "w"'],
    [[tensor("__metadata__", 8)], "a tensor cannot be named __metadata__"],
    [[{ ...tensor("w", 1), dtype: "F4", shape: [1] }], 'tensor "w" is F4 (1), not a whole number of bytes'],
  ];
  for (const [tensors, message] of wrong) {
    await assert.rejects(writeSafetensors(host, path, tensors), {
      message: `Cannot write ${path}: ${message}`,
    });
  }
  assert.deepEqual(readdirSync(home), []);
});

test("writeSafetensors() writes files that another reader understands", async () => {
  const { SafeTensor } = createRequire(import.meta.url)("safetensors");
  const path = join(folder, "foreign.safetensors");
  const data = Float32Array.of(1.5, -2.25);
  await writeSafetensors(host, path, [
    { key: "w", dtype: "F32", shape: [2], data: new Uint8Array(data.buffer) },
    { key: "n", dtype: "U8", shape: [1], data: Uint8Array.of(9) },
  ]);
  const other = new SafeTensor(new Uint8Array(readFileSync(path)));
  assert.deepEqual(other.metadata.get("w").shape, [2]);
  assert.deepEqual(new Float32Array(other.getTensor("w").slice().buffer), data);
  assert.deepEqual([...other.getTensor("n")], [9]);
});
