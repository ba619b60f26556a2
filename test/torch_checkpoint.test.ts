/** PyTorch's own files: what torch wrote is read exactly, and whatever else is done to one is refused in a line. */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, rmSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { currentHost } from "../src/host/current.ts";
import { openCheckpoint } from "../src/io/checkpoint.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { temporary } from "./temporary.ts";
import {
  archive,
  bytesOf,
  dictOf,
  global,
  hostOf,
  inMemory,
  int,
  six,
  str,
  tensor,
  tuple,
  u64,
  zip,
} from "./torch_fixture.ts";

const host = await currentHost();
const files = fileURLToPath(new URL("./torch_files/", import.meta.url));
const bytesIn = (name: string) => new Uint8Array(readFileSync(files + name));
const expected = new Map<string, { dtype: string; shape: readonly number[]; bytes: Uint8Array }>();
{
  const file = await openSafetensors(host, `${files}expected.safetensors`);
  for (const [key, { dtype, shape, bytes }] of file.tensors) {
    const into = new Uint8Array(bytes);
    await file.read(key, into);
    expected.set(key, { dtype, shape, bytes: into });
  }
  await file.close();
}

/** Opens bytes as x.bin. */
const open = (bytes: Uint8Array) => openCheckpoint(hostOf(inMemory(bytes)), "x.bin");
const refused = async (bytes: Uint8Array): Promise<string> => {
  try {
    await open(bytes);
  } catch (error) {
    assert.ok(error instanceof Error && !error.message.includes("\n"));
    return error.message;
  }
  return "accepted";
};

test("openCheckpoint() reads every tensor that torch.save() wrote, in all its forms", async () => {
  for (const name of ["zip", "legacy", "legacy4", "protocol3", "protocol4", "protocol5", "v3"]) {
    const file = await openCheckpoint(host, `${files}${name}.bin`);
    assert.equal(file.tensors.size, expected.size + (name === "v3" ? 2 : 0), name);
    for (const [key, want] of expected) {
      const found = file.tensors.get(key);
      assert.deepEqual([found?.dtype, found?.shape], [want.dtype, want.shape], `${name}: ${key}`);
      const into = new Uint8Array(found?.bytes ?? 0);
      await file.read(key, into);
      assert.deepEqual(into, want.bytes, `${name}: ${key}`);
    }
    assert.deepEqual(file.dropped, []);
    await file.close();
  }
  const v3 = await openCheckpoint(host, `${files}v3.bin`);
  assert.deepEqual([...(await readF32(v3, "u16"))], [0, 1, 2]);
  assert.equal(v3.tensors.get("f8")?.dtype, "F8_E4M3");
  await v3.close();
});

test("openCheckpoint() reads shards through their index, and says of a folder what it lacks", async () => {
  for (const path of [`${files}sharded`, `${files}sharded/pytorch_model.bin.index.json`]) {
    const file = await openCheckpoint(host, path);
    assert.deepEqual([...file.tensors.keys()].sort(), [...expected.keys()].sort());
    const into = new Uint8Array(expected.get("half")!.bytes.length);
    await file.read("half", into);
    assert.deepEqual(into, expected.get("half")!.bytes);
    await file.close();
  }
  await temporary(async (home) => {
    const missing = `Cannot open ${home}: it holds no *.safetensors, expected model.safetensors, pytorch_model.bin or the index of one of them`;
    await assert.rejects(openCheckpoint(host, home), { message: missing });
    const opens = async () => {
      const file = await openCheckpoint(host, home);
      await file.close();
      return [...file.tensors.values()].at(0)?.file.slice(home.length + 1);
    };
    const copy = (from: string, to: string) => copyFileSync(files + from, `${home}/${to}`);
    // As transformers: its own names before any other, safetensors before PyTorch's.
    copy("expected.safetensors", "odd.safetensors");
    assert.equal(await opens(), "odd.safetensors");
    copy("zip.bin", "pytorch_model.bin");
    assert.equal(await opens(), "pytorch_model.bin");
    copy("expected.safetensors", "model.safetensors");
    assert.equal(await opens(), "model.safetensors");
    for (const name of ["model.safetensors", "pytorch_model.bin"]) rmSync(`${home}/${name}`);
    copy("expected.safetensors", "other.safetensors");
    await assert.rejects(
      opens(),
      /: it holds odd\.safetensors, other\.safetensors, expected model\.safetensors, /,
    );
    // Whatever it is called.
    for (const name of ["zip.bin", "legacy.bin", "protocol4.bin", "expected.safetensors"]) {
      copy(name, "weights");
      const file = await openCheckpoint(host, `${home}/weights`);
      assert.equal(file.tensors.size, expected.size);
      await file.close();
    }
  });
});

test("openCheckpoint() reads any part of a tensor, whatever its strides", async () => {
  const file = await open(bytesIn("zip.bin"));
  const keys = [...expected.keys()];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...keys), fc.nat(), fc.nat(), async (key, a, b) => {
      const { bytes } = expected.get(key)!;
      const [from, to] = [a % (bytes.length + 1), b % (bytes.length + 1)].sort((x, y) => x - y);
      const into = new Uint8Array(to - from);
      await file.read(key, into, from);
      assert.deepEqual(into, bytes.slice(from, to), `${key}, ${from} to ${to}`);
    }),
    { numRuns: 500, seed: 1 },
  );
  await assert.rejects(file.read("row", new Uint8Array(4), 18), /bytes 18 to 22 wanted, it has 20$/);
});

test("openCheckpoint() names what a state dict holds besides tensors, and keeps tied ones under all their keys", async () => {
  const file = await openCheckpoint(host, `${files}extras.bin`);
  assert.deepEqual([...file.tensors.keys()], ["position_ids", "up.weight", "up.bias", "down.weight"]);
  assert.deepEqual(file.dropped, [
    "attributes of up.weight",
    "attributes of down.weight",
    "epoch, 3",
    "names, a list",
    "7, None",
  ]);
  assert.deepEqual(await readF32(file, "up.weight"), await readF32(file, "down.weight"));
  assert.deepEqual([...(await readF32(file, "position_ids"))], [0, 1, 2, 3, 4, 5]);
  await file.close();
});

test("openCheckpoint() refuses what torch.save() wrote of other things, by the name of what it is", async () => {
  for (const [name, message] of [
    [
      "module_object",
      'it asks for "__main__.Net", which is none of a state dict of tensors; nothing of it was run',
    ],
    ["nested", 'it holds a dict of "optimizer" (a dict), "epoch" (3), of tensors expected'],
    ["sparse", 'it asks for "torch._utils._rebuild_sparse_tensor", which .*'],
    ["script", "it is a TorchScript module, a state dict of tensors expected"],
    ["big_endian", "its numbers are big-endian, little-endian expected"],
    ["deflated", 'its entry "archive/byteorder" is compressed (method 8), stored ones expected'],
  ])
    assert.match(
      await refused(bytesIn(`${name}.bin`)),
      new RegExp(`^Cannot read x\\.bin: ${message.replace(/[()]/g, "\\$&")}$`),
    );
});

test("openCheckpoint() runs nothing, and refuses a hostile pickle in one line", async () => {
  const calls = (module: string, name: string, args: Uint8Array) =>
    bytesOf("\x80\x02", global(module, name), tuple(args), "R.");
  const nothing = "which is none of a state dict of tensors; nothing of it was run";
  const f32 = (shape: number[], strides: number[], options = {}) => dictOf(tensor(shape, strides, options));
  const deep = (open: string, close: string, count: number) =>
    bytesOf(`\x80\x02${open.repeat(count)}${close.repeat(count)}.`);
  const cases: [Uint8Array, string][] = [
    [calls("os", "system", str("touch owned")), `it asks for "os.system", ${nothing}`],
    [calls("posix", "system", str("id")), `it asks for "posix.system", ${nothing}`],
    [calls("builtins", "eval", str("1")), `it asks for "builtins.eval", ${nothing}`],
    [calls("torch", "load", str("x")), `it asks for "torch.load", ${nothing}`],
    [bytesOf("\x80\x04\x8c\x02os\x8c\x06system\x93."), `it asks for "os.system", ${nothing}`],
    [bytesOf("\x80\x04", int(1), str("system"), "\x93."), 'a global is named by 1 and "system"'],
    [bytesOf("\x80\x02cos\nsystem\n(X\x02\0\0\0idR."), `it asks for "os.system", ${nothing}`],
    [bytesOf("\x80\x02(S'id'\nios\nsystem\n."), "its opcode STRING at byte 3 is none of a state dict's"],
    [bytesOf("\x80\x02(ios\nsystem\n."), "its opcode INST at byte 3 is none of a state dict's"],
    [
      bytesOf("\x80\x02", global("torch", "FloatStorage"), ")\x81."),
      "its opcode NEWOBJ at byte 23 is none .*",
    ],
    [bytesOf("\x80\x02", global("torch", "FloatStorage"), ")R."), "it calls torch.FloatStorage"],
    [bytesOf("\x80\x02\x82\x01."), "its opcode EXT1 at byte 2 is none of a state dict's"],
    [bytesOf("\x80\x02\x00."), "its opcode 0x00 at byte 2 is none of a state dict's"],
    [bytesOf("\x80\x02N", str("x"), "b."), "it sets attributes of None"],
    [bytesOf("\x80\x02N)R."), "it calls None with a tuple"],
    [bytesOf("\x80\x06N."), "its protocol is 6, 2 to 5 expected"],
    [bytesOf("\x80\x01N."), "its protocol is 1, 2 to 5 expected"],
    [bytesOf("(dp0\n."), "it does not begin with a protocol from 2 on"],
    [bytesOf("\x80\x02."), "it ends with 0 values on its stack, 1 expected"],
    [bytesOf("\x80\x02NN."), "it ends with 2 values on its stack, 1 expected"],
    [bytesOf("\x80\x02(N."), "it ends with 1 values on its stack, 1 expected"],
    [bytesOf("\x80\x02t."), "it lacks a mark at byte 2"],
    [bytesOf("\x80\x02N(\x85."), "its stack is empty at byte 4"],
    [bytesOf("\x80\x02h\x07."), "its memo has no entry 7"],
    [bytesOf("\x80\x02q\x07."), "it memoizes nothing"],
    [bytesOf("\x80\x02Na."), "it adds to None, a list expected"],
    [bytesOf("\x80\x02NNa."), "it adds to None, a list expected"],
    [bytesOf("\x80\x02N(NNu."), "it adds to None, a dict expected"],
    [bytesOf("\x80\x02}(Nu."), "a dict has a key without a value"],
    [bytesOf("\x80\x02}}Ns."), "a dict has a dict for a key, a string or a number expected"],
    [bytesOf("\x80\x02X\xff\xff\xff\xffab."), "it ends at byte 10, in the middle"],
    [bytesOf("\x80\x02\x8d", u64(2n ** 63n), "ab."), "it ends at byte 14, in the middle"],
    [bytesOf("\x80\x02X\x02\0\0\0\xff\xfe."), "a string of it is not UTF-8"],
    [bytesOf("\x80\x02\x8a\xff", new Uint8Array(300), "."), "an integer of it has 255 bytes"],
    [bytesOf("\x80\x02\x8b\xff\xff\xff\xff."), "an integer of it has -1 bytes"],
    [bytesOf("\x80\x02c", "a".repeat(2000), "\nb\n."), "a name of it has no end"],
    [bytesOf("\x80\x02N.N"), "its pickle ends at byte 4 of 5"],
    // Nesting costs nothing here, and references are not followed.
    [deep("]", "a", 1000).slice(0, 100), "it ends at byte 100, in the middle"],
    [deep("(", "t", 100_000), "it holds a tuple, a dict of tensors expected"],
    [
      bytesOf(
        "\x80\x02]q\0",
        ...Array(99)
          .fill("]q\x01(h\0h\0h\0h\0eq\0")
          .map((s) => bytesOf(s)),
        ".",
      ),
      "it ends with 100 values on its stack, 1 expected",
    ],
    [bytesOf("\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xffa."), "it holds a list, a dict of tensors expected"],
    [
      f32([2, 3], [3, 1], { count: 5 }),
      'it makes a tensor \\(2, 3\\) that ends at element 5, beyond its storage "0"',
    ],
    [f32([2, 3], [3, 1], { count: 7 }), 'its storage "0" has 24 bytes, but a tensor says that it has 28'],
    [f32([2, 3], [3, 1], { count: -6 }), 'it has a persistent id that is no storage: "storage"'],
    [f32([2, 3], [3, 1], { offset: 1 }), "it makes a tensor \\(2, 3\\) that ends at element 6, beyond .*"],
    [
      f32([2, 3], [3, 1], { offset: -1 }),
      "it makes a tensor whose offset, shape and strides are no numbers .*",
    ],
    [f32([2, 3], [-3, 1]), "it makes a tensor whose offset, shape and strides are no numbers .*"],
    [f32([2, 3], [1]), "it makes a tensor whose offset, shape and strides are no numbers .*"],
    [f32([2 ** 40, 2 ** 40], [0, 0]), "it makes a tensor .*, too large to count"],
    [f32([2 ** 40, 6], [0, 1]), "it makes a tensor .* of \\d+ bytes that repeats a storage of 24"],
    [f32([2, 2], [1, 1]), "it makes a tensor \\(2, 2\\) whose elements overlap in the storage"],
    [f32([6], [1], { key: "9" }), 'it lacks the storage "9"'],
    [f32([6], [1], { key: "../../etc/passwd" }), 'it lacks the storage "../../etc/passwd"'],
    [
      f32([6], [1], { type: global("collections", "OrderedDict") }),
      "it has a persistent id that is no storage: .*",
    ],
    [
      f32([6], [1], { type: global("torch.storage", "UntypedStorage"), count: 24 }),
      "it makes a tensor of dtype None",
    ],
    [dictOf(bytesOf(str("storage"), "Q")), 'it has a persistent id that is no storage: "storage"'],
    [dictOf(bytesOf(global("torch._utils", "_rebuild_parameter"), ")R")), "it makes a parameter of None, .*"],
    [dictOf(bytesOf(global("torch._utils", "_rebuild_tensor_v2"), ")R")), "it makes a tensor of None, .*"],
    [
      bytesOf("\x80\x02}(", str("a"), tensor([6], [1]), str("b"), tensor([1], [1], { count: 1 }), "u."),
      'its storage "0" is described in two ways',
    ],
  ];
  for (const [pickle, message] of cases) {
    const found = await refused(archive(pickle, { 0: six }));
    assert.match(found, new RegExp(`^Cannot read x\\.bin: (${message})$`));
  }
  const objects = bytesOf("\x80\x02", new Uint8Array(2_000_001).fill(0x5d), ".");
  assert.equal(await refused(archive(objects)), "Cannot read x.bin: it makes more than 2000000 objects");
  const opcodes = bytesOf("\x80\x02", new Uint8Array(10_000_000).fill(0x4e), ".");
  assert.equal(await refused(archive(opcodes)), "Cannot read x.bin: it has more than 10000000 opcodes");
});

test("openCheckpoint() refuses a file that is cut off anywhere, and what is no such file", async () => {
  const legacy = bytesIn("legacy.bin");
  // Every byte of the first tensors, and then some.
  for (let length = 0; length < legacy.length; length += length < 700 ? 1 : 13) {
    const message = await refused(legacy.slice(0, length));
    assert.match(
      message,
      /^Cannot read x\.bin: (it ends |it is of an unknown kind|it is a pickle, but none)/,
      `${length}`,
    );
  }
  const whole = dictOf(tensor([2, 3], [3, 1]));
  assert.equal(await refused(archive(whole, { 0: six })), "accepted");
  for (let length = 0; length < whole.length; length++)
    assert.match(
      await refused(archive(whole.slice(0, length), { 0: six })),
      /^Cannot read x\.bin: it ends at byte \d+, in the middle$/,
    );
  const stored = archive(whole, { 0: six });
  for (let length = 4; length < stored.length; length++)
    assert.match(
      await refused(stored.slice(0, length)),
      /^Cannot read x\.bin: its (directory|entry|ZIP64)|^Cannot read x\.bin: it (is|ends)/,
    );
  for (const [content, message] of [
    ["", "it is of an unknown kind, what torch.save() wrote expected"],
    ["<!DOCTYPE html><html>", "it is a web page (HTML), what torch.save() wrote expected"],
    ["PK\x03\x04 and no more", "its directory is missing: it is cut off"],
    ["\x80\x02}q\0.", "it is a pickle, but none that torch.save() wrote: it begins with a dict"],
    [
      "\x80\x03cos\nsystem\n.",
      `it is a pickle, but none that torch.save() wrote: it asks for "os.system", which is none of a state dict of tensors; nothing of it was run`,
    ],
  ])
    assert.equal(await refused(bytesOf(content)), `Cannot read x.bin: ${message}`);
});

test("openCheckpoint() refuses an archive whose directory lies", async () => {
  const pickle = dictOf(tensor([2, 3], [3, 1]));
  const member = (name: string, content: Uint8Array) => ({ name, content });
  const main = member("archive/data.pkl", pickle);
  const twice = zip([main, member("archive/data/0", six), member("archive/data/0", six)]).bytes;
  assert.match(await refused(twice), /it has two entries "archive\/data\/0"$/);
  assert.match(
    await refused(zip([member("a.txt", six)]).bytes),
    /ZIP archive of 1 entries without a data\.pkl/,
  );
  const patched = (change: (view: DataView, at: (signature: number) => number) => void) => {
    const bytes = archive(pickle, { 0: six });
    const view = new DataView(bytes.buffer);
    const last = (signature: number) => {
      let at = bytes.length - 4;
      while (view.getUint32(at, true) !== signature) at--;
      return at;
    };
    change(view, last);
    return bytes;
  };
  const [END, ENTRY] = [0x06054b50, 0x02014b50];
  for (const [bytes, message] of [
    [patched((v, at) => v.setUint16(at(END) + 10, 99, true)), /its directory has 3 of 99 entries$/],
    [
      patched((v, at) => v.setUint32(at(END) + 12, 0xfffffff0, true)),
      /its directory is 4294967280 bytes, at most/,
    ],
    [patched((v, at) => v.setUint32(at(END) + 16, 0xfffffff0, true)), /its directory is beyond its end$/],
    [
      patched((v, at) => v.setUint32(at(ENTRY) + 42, 0xfffffff0, true)),
      /"archive\/data\/0" of 24 bytes at 4294967280/,
    ],
    [patched((v, at) => v.setUint32(at(ENTRY) + 42, 1, true)), /does not begin at byte 1$/],
    [patched((v, at) => v.setUint32(at(ENTRY) + 24, 20, true)), /is stored, but has two lengths: 24 and 20$/],
    [patched((v, at) => v.setUint32(at(ENTRY) + 24, 0xffffffff, true)), /lacks a ZIP64 length$/],
    [patched((v, at) => v.setUint16(at(ENTRY) + 8, 1, true)), /"archive\/data\/0" is encrypted$/],
    [patched((v, at) => v.setUint16(at(ENTRY) + 28, 60000, true)), /its directory ends inside entry 2$/],
  ] as const)
    assert.match(await refused(bytes), message);
});

test("openCheckpoint() reads ZIP64 archives, also where an entry begins beyond 4 GB", async () => {
  const pickle = dictOf(tensor([2, 3], [3, 1]));
  const file = await open(archive(pickle, { 0: six }, true));
  assert.deepEqual([...(await readF32(file, "a"))], [0, 1, 2, 3, 4, 5]);
  // 5 GB of nothing before each entry.
  const gap = 5e9;
  const { bytes, skips } = zip(
    [
      { name: "archive/data.pkl", content: pickle },
      { name: "archive/data/0", content: six },
    ],
    { wide: true, gap },
  );
  const far = await openCheckpoint(
    hostOf({
      size: bytes.length + 2 * gap,
      async read(into, position) {
        for (let i = 0; i < into.length; i++) {
          // Where a byte of the file lies without the gaps.
          const at =
            position + i - gap * skips.filter((skip, k) => position + i >= skip + (k + 1) * gap).length;
          into[i] = bytes[at];
        }
      },
      async close() {},
    }),
    "far.bin",
  );
  assert.ok((far.tensors.get("a")?.position ?? 0) > 1e10);
  assert.deepEqual([...(await readF32(far, "a"))], [0, 1, 2, 3, 4, 5]);
});

test("openCheckpoint() answers any damage with one line or with tensors inside the file", async () => {
  const sources = [
    bytesIn("extras.bin"),
    bytesIn("legacy.bin"),
    bytesIn("protocol4.bin"),
    bytesIn("module.bin"),
  ];
  const damage = fc.array(
    fc.record({
      at: fc.nat(),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(...bytesOf("}(uRQbq.htc\x80\x8a\xff\0"))),
    }),
    { minLength: 1, maxLength: 4 },
  );
  let [refusals, read] = [0, 0];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...sources), damage, fc.nat(), async (source, changes, cut) => {
      let bytes = source.slice();
      // Most of the bytes of an archive are padding and numbers: half of the changes go to its beginning.
      for (const { at, byte } of changes) bytes[at % (at % 2 ? bytes.length : 1500)] = byte;
      if (cut % 8 === 0) bytes = bytes.slice(0, cut % bytes.length);
      try {
        const file = await open(bytes);
        for (const [key, entry] of file.tensors) {
          assert.ok(entry.bytes <= 64 * 2 ** 20);
          await file.read(key, new Uint8Array(entry.bytes));
        }
        read++;
      } catch (error) {
        assert.ok(error instanceof SyntaxError, String((error as Error).stack));
        assert.match(error.message, /^Cannot read x\.bin: [^\n]+$/);
        refusals++;
      }
    }),
    { numRuns: Number(globalThis.process?.env.WAVEGATE_FUZZ ?? 2000), seed: 1 },
  );
  assert.ok(refusals > 500 && read > 100, `${refusals} refused, ${read} read`);
});
