import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../src/io/safetensors_writer.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "safetensors-test-"));
after(() => rmSync(folder, { recursive: true }));
const utf8 = (text: string) => new TextEncoder().encode(text);

/** A file with the given header and `size` bytes 0, 1, 2… behind it. `length` lies about the header. */
function raw(header: string | Uint8Array, size = 0, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? utf8(header) : header;
  const bytes = new Uint8Array(8 + text.length + size);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  for (let i = 0; i < size; i++) bytes[8 + text.length + i] = i;
  return bytes;
}

const entry = (dtype: string, shape: unknown, offsets: unknown) =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });
const one = (text: string, size = 8) => raw(`{"w":${text}}`, size);
/** `count` members "0":value, "1":value, … */
const many = (count: number, value: string) =>
  Array.from({ length: count }, (_, i) => `"${i}":${value}`).join();
const deep = `{"w":${"[".repeat(200)}${"]".repeat(200)}}`;

const HOSTILE: Record<string, [Uint8Array, string]> = {
  "an empty file": [new Uint8Array(0), "the file is 0 bytes, at least 8 for the header length expected"],
  "a cut header length": [
    new Uint8Array(7),
    "the file is 7 bytes, at least 8 for the header length expected",
  ],
  "a header of no bytes": [raw(""), "the header is empty, expected '{'"],
  "a header beyond 100 MB": [
    raw("{}", 0, 100_000_001n),
    "the header is 100000001 bytes, at most 100000000 are allowed",
  ],
  "a header length of 2^64 - 1": [
    raw("{}", 0, 2n ** 64n - 1n),
    "the header is 18446744073709551615 bytes, at most 100000000 are allowed",
  ],
  "a header longer than the file": [raw("{}", 0, 3n), "the header is 3 bytes, but only 2 follow its length"],
  "a header that does not begin with a brace": [raw(" {}"), "the header begins with byte 0x20, expected '{'"],
  "a zip file": [raw("PK"), "the header begins with byte 0x50, expected '{'"],
  "a header that is not UTF-8": [raw(Uint8Array.of(0x7b, 0xff, 0x7d)), "the header is not valid UTF-8"],
  "an unfinished header": [
    raw('{"w":'),
    "the header is not valid JSON, line 1, column 6: expected a value but found the end",
  ],
  "a header with a trailing comma": [
    raw('{"w":1,}'),
    "the header is not valid JSON, line 1, column 8: expected a key in quotes but found '}'",
  ],
  "something behind the header's object": [
    raw("{} x"),
    "the header is not valid JSON, line 1, column 4: expected the end but found 'x'",
  ],
  "zero bytes as padding": [
    raw("{}\0"),
    "the header is not valid JSON, line 1, column 3: expected the end but found '\\u0000'",
  ],
  "a header of 200 levels": [
    raw(deep),
    "the header is not valid JSON, line 1, column 106: more than 100 levels",
  ],
  "a tensor named twice": [
    raw(`{"w":${entry("U8", [8], [0, 8])},"w":${entry("U8", [8], [0, 8])}}`, 8),
    'the header is not valid JSON, line 1, column 54: key "w" stands twice in one object',
  ],
  "a tensor named twice through an escape": [
    raw(`{"w":1,"\\u0077":2}`),
    'the header is not valid JSON, line 1, column 8: key "w" stands twice in one object',
  ],
  "a field given twice": [
    one('{"dtype":"U8","dtype":"F32","shape":[8],"data_offsets":[0,8]}'),
    'the header is not valid JSON, line 1, column 20: key "dtype" stands twice in one object',
  ],
  "a metadata key given twice": [
    raw('{"__metadata__":{"a":"1","a":"2"}}'),
    'the header is not valid JSON, line 1, column 26: key "a" stands twice in one object',
  ],
  "a tensor that is a million empty lists": [
    one(`[${"[],".repeat(1e6)}[]]`),
    'tensor "w" holds more than 999 values',
  ],
  "a shape of a million extents": [
    one(`{"dtype":"F32","shape":[${"1,".repeat(1e6)}2],"data_offsets":[0,8]}`),
    'tensor "w" holds more than 999 values',
  ],
  "metadata of 100,000 keys": [
    raw(`{"__metadata__":{${many(100_000, '""')}}}`),
    "__metadata__ holds more than 99999 values",
  ],
  "a long list with a comma too many behind a wrong tensor": [
    raw(`{"v":1,"w":[${"[],".repeat(2000)}]}`),
    "the header is not valid JSON, line 1, column 6013: expected a value but found ']'",
  ],
  "two thousand tensors that are numbers": [
    raw(`{${many(2000, "1")},`),
    'tensor "0" is 1, expected an object',
  ],
  "metadata that is not an object": [raw('{"__metadata__":[]}'), "__metadata__ is not an object"],
  "a metadata value that is a number": [
    raw('{"__metadata__":{"step":3}}'),
    '__metadata__ "step" is 3, expected a string',
  ],
  "a tensor that is a list": [one("[]"), 'tensor "w" is [], expected an object'],
  "a tensor without dtype": [
    one('{"shape":[8],"data_offsets":[0,8]}'),
    'tensor "w" has dtype absent, expected one of BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64',
  ],
  "an unknown dtype": [
    one(entry("F31", [2], [0, 8])),
    'tensor "w" has dtype "F31", expected one of BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64',
  ],
  "a shape that is a number": [
    one(entry("F32", 2, [0, 8])),
    'tensor "w" has shape 2, expected a list of integers from 0 on',
  ],
  "a negative extent": [
    one(entry("F32", [-2, -1], [0, 8])),
    'tensor "w" has shape [-2,-1], expected a list of integers from 0 on',
  ],
  "a broken extent": [
    one(entry("F32", [1.5], [0, 8])),
    'tensor "w" has shape [1.5], expected a list of integers from 0 on',
  ],
  "an extent that is a string": [
    one(entry("F32", ["2"], [0, 8])),
    'tensor "w" has shape ["2"], expected a list of integers from 0 on',
  ],
  "an extent beyond 2^53": [
    one('{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}'),
    'tensor "w" has shape [9007199254740992], expected a list of integers from 0 on',
  ],
  "a shape whose product overflows": [
    one(entry("F32", [2 ** 32, 2 ** 32], [0, 8])),
    'tensor "w" has shape [4294967296,4294967296], too large to count',
  ],
  "offsets that are absent": [
    one('{"dtype":"F32","shape":[2]}'),
    'tensor "w" has data_offsets absent, expected two integers from 0 on',
  ],
  "three offsets": [
    one(entry("F32", [2], [0, 4, 8])),
    'tensor "w" has data_offsets [0,4,8], expected two integers from 0 on',
  ],
  "a negative offset": [
    one(entry("F32", [2], [-8, 0])),
    'tensor "w" has data_offsets [-8,0], expected two integers from 0 on',
  ],
  "offsets the wrong way round": [
    one(entry("F32", [2], [8, 0])),
    'tensor "w" begins at byte 8, after its end 0',
  ],
  "a truncated buffer": [one(entry("F32", [4], [0, 16])), 'tensor "w" ends at byte 16, but the buffer has 8'],
  "too few bytes for the shape": [
    one(entry("F32", [3], [0, 8])),
    'tensor "w" has 8 bytes, but F32 [3] takes 12',
  ],
  "too many bytes for a scalar": [
    one(entry("F32", [], [0, 8])),
    'tensor "w" has 8 bytes, but F32 [] takes 4',
  ],
  "half a byte": [one(entry("F4", [15], [0, 8])), 'tensor "w" has 8 bytes, but F4 [15] takes 7.5'],
  "tensors that overlap": [
    raw(`{"a":${entry("U8", [6], [0, 6])},"b":${entry("U8", [4], [4, 8])}}`, 8),
    'tensor "b" begins at byte 4, inside "a", which ends at 6',
  ],
  "two tensors on the same bytes": [
    raw(`{"a":${entry("U8", [8], [0, 8])},"b":${entry("U8", [8], [0, 8])}}`, 8),
    'tensor "b" begins at byte 0, inside "a", which ends at 8',
  ],
  "a hole between tensors": [
    raw(`{"a":${entry("U8", [2], [0, 2])},"b":${entry("U8", [4], [4, 8])}}`, 8),
    'bytes 2 to 4 before tensor "b" belong to no tensor',
  ],
  "a hole at the start": [
    one(entry("U8", [4], [4, 8])),
    'bytes 0 to 4 before tensor "w" belong to no tensor',
  ],
  "bytes behind the last tensor": [
    one(entry("U8", [4], [0, 4])),
    "the last 4 of 8 bytes of the buffer belong to no tensor",
  ],
};

for (const [kind, [bytes, message]] of Object.entries(HOSTILE)) {
  test(`openSafetensors() refuses ${kind}`, async () => {
    const path = join(folder, "hostile.safetensors");
    writeFileSync(path, bytes);
    await assert.rejects(openSafetensors(host, path), {
      name: "SyntaxError",
      message: `Cannot read ${path}: ${message}`,
    });
  });
}

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
const width = (dtype: string) => ({ F32: 4, F16: 2, I64: 8 })[dtype] ?? 1;

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

/** A folder with two shards and an index over them. */
async function shards(name: string, weightMap: unknown): Promise<string> {
  const home = join(folder, name);
  mkdirSync(home);
  for (const [file, key, byte] of [
    ["one.safetensors", "a", 1],
    ["two.safetensors", "b", 2],
  ] as const) {
    const source: TensorSource = { key, dtype: "U8", shape: [1], data: Uint8Array.of(byte) };
    await writeSafetensors(host, join(home, file), [source]);
  }
  writeFileSync(join(home, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
  return home;
}

test("openSafetensors() reads shards through their index, by folder or by file", async () => {
  const home = await shards("shards", { b: "two.safetensors", a: "one.safetensors" });
  for (const path of [home, join(home, "model.safetensors.index.json")]) {
    const file = await openSafetensors(host, path);
    assert.deepEqual([...(await readF32(file, "a"))], [1]);
    assert.deepEqual([...(await readF32(file, "b"))], [2]);
    assert.match(file.tensors.get("b")!.file, /two\.safetensors$/);
    await file.close();
  }
});

test("openSafetensors() takes the name of a shard as it is, also where it looks like a pattern", async () => {
  const home = join(folder, "dollars");
  mkdirSync(home);
  const weightMap: Record<string, string> = {};
  for (const [i, sign] of ["$&", "$$", "$`", "$'", "$1", "$<a>"].entries()) {
    weightMap[`t${i}`] = `${sign}${sign}.safetensors`;
    const source: TensorSource = { key: `t${i}`, dtype: "U8", shape: [1], data: Uint8Array.of(i) };
    await writeSafetensors(host, join(home, weightMap[`t${i}`]), [source]);
  }
  writeFileSync(join(home, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
  const file = await openSafetensors(host, home);
  for (const [key, name] of Object.entries(weightMap))
    assert.equal(file.tensors.get(key)!.file, `${home}/${name}`);
  await file.close();
});

test("openSafetensors() refuses an index that does not agree with its shards", async () => {
  const cases: [string, unknown, RegExp][] = [
    [
      "lost",
      { a: "one.safetensors", c: "two.safetensors" },
      /weight_map says that "c" is in two\.safetensors, but no shard holds it$/,
    ],
    [
      "swapped",
      { a: "two.safetensors", b: "one.safetensors" },
      /weight_map says that "a" is in two\.safetensors, but it is in .*one\.safetensors$/,
    ],
    [
      "absent",
      { a: "one.safetensors", b: "six.safetensors" },
      /Cannot read .*six\.safetensors: no such file or folder$/,
    ],
    [
      "outside",
      { a: "../one.safetensors" },
      /weight_map\.a is "\.\.\/one\.safetensors" but should be the name of a \*\.safetensors beside it$/,
    ],
    ["list", ["one.safetensors"], /weight_map is \["one\.safetensors"\] but should be an object$/],
  ];
  for (const [name, weightMap, message] of cases) {
    await assert.rejects(openSafetensors(host, await shards(name, weightMap)), message);
  }
  const home = await shards("forgotten", { a: "one.safetensors", b: "two.safetensors" });
  const extra = { key: "c", dtype: "U8", shape: [0], data: new Uint8Array(0) } as const;
  const source = { key: "a", dtype: "U8", shape: [0], data: new Uint8Array(0) } as const;
  await writeSafetensors(host, join(home, "one.safetensors"), [source, extra]);
  await assert.rejects(openSafetensors(host, home), /weight_map lacks "c", which .*one\.safetensors holds$/);
  const twice = { key: "b", dtype: "U8", shape: [0], data: new Uint8Array(0) } as const;
  await writeSafetensors(host, join(home, "one.safetensors"), [source, twice]);
  await assert.rejects(openSafetensors(host, home), /tensor "b" is also in .*one\.safetensors$/);
});

test("openSafetensors() names a Git LFS pointer in place of the weights, of a shard or of the index", async () => {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 9\n`;
  const home = await shards("pointers", { a: "one.safetensors", b: "two.safetensors" });
  for (const name of ["two.safetensors", "model.safetensors.index.json", "model.safetensors"]) {
    writeFileSync(join(home, name), pointer);
    await assert.rejects(openSafetensors(host, home), {
      message: `Cannot read ${home}/${name}: it is a Git LFS pointer: run git lfs pull`,
    });
  }
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

test("openSafetensors() finds the weights of a folder or says what it found", async () => {
  const home = join(folder, "found");
  mkdirSync(home);
  await assert.rejects(openSafetensors(host, home), {
    message: `Cannot open ${home}: it holds no *.safetensors, expected model.safetensors or model.safetensors.index.json`,
  });
  writeFileSync(join(home, "pytorch_model.bin"), "");
  await assert.rejects(openSafetensors(host, home), /; save pytorch_model\.bin as safetensors first$/);
  await writeSafetensors(host, join(home, "x.safetensors"), []);
  await (await openSafetensors(host, home)).close();
  await writeSafetensors(host, join(home, "y.safetensors"), []);
  await assert.rejects(openSafetensors(host, home), /: it holds x\.safetensors, y\.safetensors, expected/);
  await writeSafetensors(host, join(home, "model.safetensors"), []);
  await (await openSafetensors(host, home)).close();
});
