/** wavegate convert: the same tensors as safetensors, with the files beside them; nothing overwritten, nothing left behind. */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { convertCheckpoint } from "../src/io/convert_checkpoint.ts";
import { openSafetensors, type Safetensors } from "../src/io/safetensors.ts";
import { verb } from "../tools/convert.ts";
import { temporary } from "./temporary.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const files = fileURLToPath(new URL("./torch_files/", import.meta.url));

async function content(file: Safetensors): Promise<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (const [key, { dtype, shape, bytes }] of file.tensors) {
    const into = new Uint8Array(bytes);
    await file.read(key, into);
    all[key] = { dtype, shape, into };
  }
  await file.close();
  return all;
}
const expected = await content(await openSafetensors(host, `${files}expected.safetensors`));

test("convert writes a folder's weights as safetensors, copies its small files and says what it left", async () => {
  await temporary(async (home) => {
    const [from, to] = [join(home, "in"), join(home, "deep/out")];
    mkdirSync(join(from, "runs"), { recursive: true });
    for (const name of ["config.json", "vocab.json", "README.md", "LICENSE"])
      writeFileSync(join(from, name), "{}");
    writeFileSync(join(from, "tf_model.h5"), "x");
    cpSync(`${files}zip.bin`, join(from, "pytorch_model.bin"));
    const { status, printed, json } = await runHere(verb, from, `${to}/`);
    assert.equal(status, 0);
    assert.deepEqual(await content(await openSafetensors(host, to)), expected);
    assert.deepEqual(readdirSync(to).sort(), [
      "LICENSE",
      "README.md",
      "config.json",
      "model.safetensors",
      "vocab.json",
    ]);
    assert.deepEqual(json.left, ["runs", "tf_model.h5"]);
    assert.deepEqual(json.copied, ["LICENSE", "README.md", "config.json", "vocab.json"]);
    // Views of one storage are tensors of their own here.
    assert.ok(json.shared.includes("transposed") && !json.shared.includes("whole"));
    assert.match(printed[0], /deep\/out: 22 tensors, [\d.]+ .*, in model\.safetensors$/);
    assert.ok(printed.some((line) => /^ {2}left out {2}runs, tf_model\.h5$/.test(line)));
    assert.deepEqual(readdirSync(home).sort(), ["deep", "in"]);
    assert.deepEqual(readdirSync(join(home, "deep")), ["out"]);

    const again = await runHere(verb, from, to);
    assert.match(again.error?.message ?? "", /^Cannot write .*out: it is no empty folder$/);
    const twice = await runHere(verb, to, join(home, "third"));
    assert.match(
      twice.error?.message ?? "",
      /^Cannot convert .*out: .*model\.safetensors is safetensors already$/,
    );
    assert.deepEqual(readdirSync(home).sort(), ["deep", "in"]);
  });
});

test("convert writes shards with Hugging Face's names and index, from shards", async () => {
  await temporary(async (home) => {
    mkdirSync(join(home, "out"));
    const done = await convertCheckpoint(host, `${files}sharded`, join(home, "out"), { maxShardBytes: 700 });
    assert.ok(done.files.length > 2);
    const count = `${done.files.length}`.padStart(5, "0");
    assert.equal(done.files[1], `model-00002-of-${count}.safetensors`);
    assert.deepEqual(await content(await openSafetensors(host, join(home, "out"))), expected);
    const index = JSON.parse(readFileSync(join(home, "out/model.safetensors.index.json"), "utf8"));
    assert.equal(index.metadata.total_size, done.bytes);
    for (const [key, name] of Object.entries(index.weight_map)) {
      const file = await openSafetensors(host, join(home, "out", String(name)));
      assert.ok(file.tensors.has(key));
      assert.deepEqual(file.metadata, { format: "pt" });
      await file.close();
    }
  });
});

test("convert says what a file holds besides tensors, and leaves nothing behind where it fails or is stopped", async () => {
  await temporary(async (home) => {
    const extras = await runHere(verb, `${files}extras.bin`, join(home, "extras"));
    assert.ok(
      extras.printed.includes(
        "  dropped   attributes of up.weight, attributes of down.weight, epoch, 3, names, a list, 7, None",
      ),
    );
    const out = join(home, "out");
    for (const [from, message] of [
      [`${files}module_object.bin`, /asks for "__main__\.Net"/],
      [join(home, "absent"), /absent: no such file or folder$/],
    ] as const)
      await assert.rejects(convertCheckpoint(host, from, out), message);
    const controller = new AbortController();
    const stopped = convertCheckpoint(host, `${files}zip.bin`, out, {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error("enough")),
    });
    await assert.rejects(stopped, /^Error: enough$/);
    assert.deepEqual(readdirSync(home), ["extras"]);
    mkdirSync(`${out}.partial`);
    await assert.rejects(
      convertCheckpoint(host, `${files}zip.bin`, out),
      /out\.partial of another conversion is there/,
    );
    assert.ok(existsSync(`${out}.partial`));
    writeFileSync(out, "");
    await assert.rejects(
      convertCheckpoint(host, `${files}zip.bin`, out),
      /a file is there, and a folder wanted$/,
    );
  });
});
