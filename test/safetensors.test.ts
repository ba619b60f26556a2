/** Safetensors files that are read: legal ones of every sort, and damaged at random. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../src/io/safetensors_writer.ts";
import { entry, raw, utf8, width } from "./safetensors_fixture.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "safetensors-test-"));
after(() => rmSync(folder, { recursive: true }));

test("openSafetensors() takes metadata that is null for none, as transformers does", async () => {
  const path = join(folder, "null.safetensors");
  writeFileSync(path, raw('{"__metadata__":null}'));
  const file = await openSafetensors(host, path);
  assert.deepEqual(file.metadata, {});
  await file.close();
});

test("openSafetensors() accepts scalars, empty tensors, trailing spaces and any order", async () => {
  const path = join(folder, "legal.safetensors");
  const header = `{"late":${entry("U8", [2], [4, 6])},"none":${entry("F32", [0, 5], [4, 4])},"scalar":${entry("F32", [], [0, 4])}}   `;
  writeFileSync(path, raw(header, 6));
  const file = await openSafetensors(host, path);
  assert.deepEqual([...file.tensors.keys()], ["late", "none", "scalar"]);
  const late = new Uint8Array(2);
  await file.read("late", late);
  assert.deepEqual([...late], [4, 5]);
  await file.read("late", late.subarray(1), 1);
  assert.deepEqual([...late], [4, 5]);
  assert.deepEqual([...(await readF32(file, "none"))], []);
  await assert.rejects(file.read("late", late, 1), {
    message: 'Cannot read tensor "late": bytes 1 to 3 wanted, it has 2',
  });
  await assert.rejects(readF32(file, "lost"), {
    message: `Cannot read tensor "lost": ${path} does not hold it`,
  });
  await file.close();
});

test("openSafetensors() opens 200,000 tensors in any order", async () => {
  const path = join(folder, "many.safetensors");
  const ids = Array.from({ length: 200_000 }, (_, i) => (i * 7) % 200_000);
  const header = ids.map((i) => `"layer.${i}":${entry("U8", [1], [i, i + 1])}`).join();
  writeFileSync(path, raw(`{${header}}`, ids.length));
  const file = await openSafetensors(host, path);
  assert.equal(file.tensors.size, ids.length);
  assert.equal(file.tensors.get("layer.14")!.position - file.tensors.get("layer.0")!.position, 14);
  await file.close();
});

/** Small files that are valid, with keys and shapes of every sort. */
const files = fc.uniqueArray(
  fc.record({
    key: fc.string({ unit: "grapheme", maxLength: 6 }).filter((key) => key !== "__metadata__"),
    dtype: fc.constantFrom("F32", "F16", "I64", "U8", "BOOL"),
    shape: fc.array(fc.nat(3), { maxLength: 3 }),
  }),
  { selector: (tensor) => tensor.key, maxLength: 5 },
);

test("openSafetensors() answers any damage with a clean error or with tensors inside the file", async () => {
  const path = join(folder, "fuzz.safetensors");
  const damage = fc.array(
    fc.record({ at: fc.nat(), byte: fc.oneof(fc.nat(255), fc.constantFrom(...utf8('{}[]",:0-9e'))) }),
    { maxLength: 4 },
  );
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(files, damage, fc.nat(), async (tensors, bytes, cut) => {
      const sources = tensors.map(
        ({ key, dtype, shape }): TensorSource => ({
          key,
          dtype: dtype as TensorSource["dtype"],
          shape,
          data: new Uint8Array(shape.reduce((a, b) => a * b, 1) * width(dtype)).fill(7),
        }),
      );
      await writeSafetensors(host, path, sources, { format: "pt" });
      let content = new Uint8Array(readFileSync(path));
      for (const { at, byte } of bytes) content[at % content.length] = byte;
      if (cut % 4 === 0) content = content.slice(0, cut % content.length);
      writeFileSync(path, content);
      try {
        const file = await openSafetensors(host, path);
        for (const [key, tensor] of file.tensors) {
          assert.ok(tensor.position >= 8 && tensor.position + tensor.bytes <= content.length);
          const into = new Uint8Array(tensor.bytes);
          await file.read(key, into);
          assert.deepEqual(into, content.slice(tensor.position, tensor.position + tensor.bytes));
        }
        await file.close();
      } catch (error) {
        assert.ok(error instanceof SyntaxError, String(error));
        assert.match(error.message, /^Cannot read \S+: .+$/);
        refused++;
      }
    }),
    { numRuns: 400, seed: 1 },
  );
  assert.ok(refused > 50, `${refused} refused`);
});

test("openSafetensors() names a file of another kind", async () => {
  for (const [bytes, kind] of [
    ["PK\x03\x04".padEnd(99), "a ZIP archive"],
    ["<!DOCTYPE html><html>", "a web page (HTML)"],
    ['{"error": "not found"}', "JSON"],
  ]) {
    const path = join(folder, "other.safetensors");
    writeFileSync(path, bytes, "latin1");
    await assert.rejects(openSafetensors(host, path), {
      message: `Cannot read ${path}: it is ${kind}, expected safetensors`,
    });
  }
});
