import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { writeSafetensors } from "../src/io/safetensors_writer.ts";
import { normal } from "./reference.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-inspect-"));
after(() => rmSync(folder, { recursive: true }));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

function inspect(...args: string[]) {
  const command = [...runtime, "tools/inspect.ts", ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: root, encoding: "utf8" });
  return { status, stdout, stderr };
}

const bytes = (values: Float32Array | Int32Array | Uint16Array) =>
  new Uint8Array(values.buffer as ArrayBuffer);

test("inspect computes statistics piece by piece, also far from zero, and counts what is not finite", async () => {
  const large = normal(1_500_000, 3).map((v) => v + 1e4); // three pieces
  const path = join(folder, "a.safetensors");
  await writeSafetensors(
    await currentHost(),
    path,
    [
      { key: "far", dtype: "F32", shape: [1500, 1000], data: bytes(large) },
      {
        key: "wild",
        dtype: "F32",
        shape: [5],
        data: bytes(Float32Array.of(1, Number.NaN, -3, Infinity, -Infinity)),
      },
      { key: "half", dtype: "F16", shape: [2], data: bytes(Uint16Array.of(0x3c00, 0xc000)) },
      { key: "count", dtype: "I32", shape: [3], data: bytes(Int32Array.of(-7, 0, 7)) },
      { key: "none", dtype: "F32", shape: [0, 4], data: new Uint8Array(0) },
    ],
    { format: "pt" },
  );
  const { status, stdout, stderr } = inspect(path, "--json");
  assert.deepEqual([status, stderr], [0, ""]);
  const result = JSON.parse(stdout);
  const row = (key: string) => result.tensors.find((t: { key: string }) => t.key === key);
  assert.equal(result.elements, 1_500_010);
  assert.deepEqual(result.metadata, { format: "pt" });

  const mean = large.reduce((a, v) => a + v, 0) / large.length;
  const std = Math.sqrt(large.reduce((a, v) => a + (v - mean) ** 2, 0) / large.length);
  assert.ok(Math.abs(row("far").mean - mean) < 1e-6 && Math.abs(row("far").std - std) < 1e-6);
  assert.deepEqual([row("wild").min, row("wild").max, row("wild").mean], [-3, 1, -1]);
  assert.deepEqual([row("wild").nan, row("wild").inf, row("wild").std], [1, 2, 2]);
  assert.deepEqual([row("half").min, row("half").max], [-2, 1]);
  assert.deepEqual([row("count").mean, row("count").bytes], [0, 12]);
  assert.deepEqual(row("none"), { key: "none", dtype: "F32", shape: [0, 4], bytes: 0, nan: 0, inf: 0 });
});

test("inspect opens a model folder, shows the keys that match, and reads no values with --keys", () => {
  const { status, stdout } = inspect("weights/demo", "--match", "cmgi\\.gate_.*bias$", "--keys");
  assert.equal(status, 0);
  assert.deepEqual(stdout.trimEnd().split("\n"), [
    "key               dtype  shape  bytes",
    "cmgi.gate_s.bias  F32    (16)    64 B",
    "cmgi.gate_t.bias  F32    (16)    64 B",
    "metadata  format: pt",
    "2 of 127 tensors, 32 elements, 128 B",
  ]);
});

test("inspect says in one line what it cannot read", () => {
  const path = join(folder, "bad.safetensors");
  writeFileSync(path, "oops");
  const wrong: [string[], number, RegExp][] = [
    [[path], 1, /^wavegate inspect: Cannot read .*bad\.safetensors: the file is 4 bytes, [^\n]*\n$/],
    [[join(folder, "absent")], 1, /^wavegate inspect: Cannot read .*absent: no such file or folder\n$/],
    [["weights/demo", "--match", "("], 2, /^wavegate inspect: Cannot read --match \(: [^\n]*\n$/],
    [[], 2, /^wavegate inspect: Cannot run without FILE\|FOLDER\n$/],
  ];
  for (const [args, status, message] of wrong) {
    const done = inspect(...args);
    assert.deepEqual([done.status, done.stdout], [status, ""]);
    assert.match(done.stderr, message);
  }
});
