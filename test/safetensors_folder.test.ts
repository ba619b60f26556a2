/** Folders of safetensors files: shards and their index, and which file holds the weights. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../src/io/safetensors_writer.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "safetensors-test-"));
after(() => rmSync(folder, { recursive: true }));

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

test("openSafetensors() finds the weights of a folder or says what it found", async () => {
  const home = join(folder, "found");
  mkdirSync(home);
  await assert.rejects(openSafetensors(host, home), {
    message: `Cannot open ${home}: it holds no *.safetensors, expected model.safetensors or model.safetensors.index.json`,
  });
  writeFileSync(join(home, "pytorch_model.bin"), "");
  await assert.rejects(
    openSafetensors(host, home),
    /; wavegate convert makes safetensors of pytorch_model\.bin$/,
  );
  await writeSafetensors(host, join(home, "x.safetensors"), []);
  await (await openSafetensors(host, home)).close();
  await writeSafetensors(host, join(home, "y.safetensors"), []);
  await assert.rejects(openSafetensors(host, home), /: it holds x\.safetensors, y\.safetensors, expected/);
  await writeSafetensors(host, join(home, "model.safetensors"), []);
  await (await openSafetensors(host, home)).close();
});
