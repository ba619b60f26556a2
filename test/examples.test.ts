/** Every file in examples/ runs as a stranger would run it, and says what it should. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** The stdout of an example, run in an empty folder. */
function run(name: string, ...args: string[]): string {
  const file = join(root, "examples", `${name}.ts`);
  const command =
    "Deno" in globalThis
      ? ["run", "-A", "--no-check", "--config", join(root, "deno.json"), file]
      : [join(root, "node_modules/tsx/dist/cli.mjs"), "--tsconfig", join(root, "tsconfig.json"), file];
  const done = spawnSync(process.execPath, [...command, ...args], { cwd: folder, encoding: "utf8" });
  assert.equal(done.status, 0, done.stderr);
  assert.equal(done.stderr, "");
  return done.stdout;
}

/** Lines of an example without comments, imports and blanks. */
function ownLines(name: string): number {
  const text = readFileSync(join(root, "examples", `${name}.ts`), "utf8");
  const code = text.replace(/\/\*\*[\s\S]*?\*\//g, "").replace(/^import [\s\S]*?;$/gm, "");
  return code.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("//")).length;
}

const numbers = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, n]) => Number(n));

test("examples are single files of under 80 lines, each with its test here", () => {
  // In folders of their own: kernels for the workshop, which docs/kernel_workshop.md runs, and a page, see browser.test.ts.
  const names = readdirSync(join(root, "examples")).filter((name) => !["kernels", "browser"].includes(name));
  const here = readFileSync(fileURLToPath(import.meta.url), "utf8");
  for (const name of names) {
    assert.ok(readFileSync(join(root, "examples", name), "utf8").split("\n").length <= 80, name);
    assert.ok(here.includes(`run("${name.replace(/\.ts$/, "")}"`), `no test runs ${name}`);
  }
});

test("examples/mlp.ts learns, has right gradients, goes on from its checkpoint, leaves nothing, in under 30 lines", () => {
  const said = run("mlp");
  assert.ok(numbers(said, /^gradients: (\S+) from/gm)[0] < 3e-3, said);
  assert.ok(numbers(said, /^loss after 200 steps: (\S+)$/gm)[0] < 1e-3, said);
  assert.match(said, /^goes on with the same bits: true$/m);
  assert.match(said, /^bytes left on the GPU: 0$/m);
  assert.ok(ownLines("mlp") < 30, `${ownLines("mlp")} lines`);
});

test("examples/own_kernel.ts agrees with float64, forward and backward", () => {
  const said = run("own_kernel");
  const errors = numbers(said, /: (\S+) from/g);
  assert.equal(errors.length, 2, said);
  for (const error of errors) assert.ok(error < 1e-6, said);
});

test("examples/finetune_ctc.ts learns two transcripts and writes its weights", () => {
  const said = run("finetune_ctc", join(root, "test/reference/hubert-tiny-stable"));
  const losses = numbers(said, /CTC loss (\S+)$/gm);
  assert.ok(losses.length === 5 && losses[4] < 0.2 * losses[0], said);
  assert.match(said, /^She was always plastic with us → SHE WAS /m);
  assert.ok(readFileSync(join(folder, "finetuned.safetensors")).length > 100_000);
});

test("examples/read_checkpoint.ts agrees with PyTorch", () => {
  const said = run("read_checkpoint", join(root, "test/reference/hubert-tiny-stable"));
  assert.match(said, /^logits \(2, 31, 32\), real frames 31 and 22$/m);
  assert.ok(numbers(said, /in float64: (\S+)$/gm)[0] < 5e-6, said);
});

test("examples/recognise.ts writes words with their times and names an emotion", () => {
  const said = run("recognise");
  assert.match(said, /^ {2}words {4}I KNOW THAT HE /m);
  assert.match(said, /0\.04 to 0\.06 s {2}I$/m);
  assert.match(
    said,
    /^ {2}emotion {2}happy {2}\(angry 0\.\d\d, happy 0\.\d\d, sad 0\.\d\d, neutral 0\.\d\d\)$/m,
  );
});

test("examples/profile.ts shows a second pass that makes nothing, and the kernels", () => {
  const said = run("profile");
  assert.match(said, /^the second pass made 0 pipelines and bind groups$/m);
  assert.match(said, /4 × {2}layer\/matmul\.forward$|no times of single kernels/m);
});

test("examples/replay.ts learns, has the same bits replayed as run, and leaves nothing", () => {
  const said = run("replay");
  const [first, last] = numbers(said.replace("→", "\n"), /(\d+\.\d+) *$/gm);
  assert.ok(last < 0.2 * first, said);
  assert.match(said, /^replayed, the same bits: true$/m);
  assert.match(said, /^recorded in \d+ µs a step, replayed in \d+ µs$/m);
  assert.match(said, /^bytes left on the GPU: 0$/m);
});
