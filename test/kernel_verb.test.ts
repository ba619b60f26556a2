/** `wavegate kernel` as a process: what it prints, endless loops, and --watch while a file is edited. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ArgumentError } from "../src/io/argument_error.ts";
import { verb } from "../tools/kernel.ts";
import { runHere } from "./verb.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-kernel-verb-"));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const file = join(folder, "rms_norm.wgsl");
const wgsl = readFileSync(join(root, "examples/kernels/rms_norm.wgsl"), "utf8");
copyFileSync(join(root, "examples/kernels/rms_norm.json"), join(folder, "rms_norm.json"));
writeFileSync(file, wgsl);

const flags = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
const { WAVEGATE_DEBUG: _, ...env } = process.env;
const adapter = env.WAVEGATE_ADAPTER ? ["--adapter", env.WAVEGATE_ADAPTER] : [];
const command = (...args: string[]) => [...flags, join(root, "tools/kernel.ts"), ...args, ...adapter];

function kernel(...args: string[]) {
  const done = spawnSync(process.execPath, command(...args), { cwd: root, encoding: "utf8", env });
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
}

// In the first row alone: the others' cores are free.
const LOOP = wgsl.replace("c < d.C; c += WG) {\n    y", "d.C > row; c += 0u) {\n    y");
/** Seconds after which a phase is taken for endless; on a busy machine a process takes some until it starts. */
const LIMIT = "12";

test("an endless loop is ended, and one line says so", () => {
  const loop = join(folder, "loop.wgsl");
  writeFileSync(loop, LOOP);
  copyFileSync(join(folder, "rms_norm.json"), join(folder, "loop.json"));
  const { status, stdout, stderr } = kernel(loop, "--variant", "WG=8", "--shape", "N=2", "--timeout", LIMIT);
  assert.equal(status, 1, stderr);
  assert.equal(stdout, "");
  assert.match(
    stderr,
    /^wavegate kernel: Cannot finish .*loop\.wgsl WG=8 at N=2 C=768: running: it took more than 12 s and was ended; an endless loop\? .*\n$/,
  );
});

test("--json is one document, also of what is wrong, with status 1", () => {
  const wrong = join(folder, "wrong.wgsl");
  writeFileSync(wrong, wgsl.replace("+ d.eps", "+ 2.0"));
  copyFileSync(join(folder, "rms_norm.json"), join(folder, "wrong.json"));
  const { status, stdout, stderr } = kernel(
    ...[wrong, "--against", file, "--variant", "WG=8", "--shape", "N=9", "--runs", "2", "--json"],
  );
  assert.equal(status, 1, stderr);
  assert.match(stderr, /^wavegate kernel: Cannot time .*wrong\.wgsl WG=8 at N=9 C=768: y is [^\n]*\n$/);
  const [{ shape, variants }] = JSON.parse(stdout).bouts;
  assert.equal(shape, "N=9 C=768");
  assert.deepEqual(
    variants.map(({ verdict }: { verdict: string }) => verdict),
    ["wrong", "right"],
  );
  assert.equal(variants[0].times, undefined);
  assert.equal(variants[1].times.warm.samples.length, 2);
});

test("--wgsl prints the expanded text", () => {
  const { status, stdout } = kernel(file, "--wgsl");
  assert.equal(status, 0);
  assert.match(stdout, /^\/\/ .*rms_norm\.wgsl \{\}\n[\s\S]*fn workgroup_sum\([\s\S]*fn forward\(/);
});

test("wrong usage has status 2", async () => {
  for (const [args, error, spawned] of [
    [[file, "--timeout", "0"], /--timeout 0: it is a number of seconds above 0/],
    [[file, "--shape", "M=3"], /has no size M; did you mean N\?|has no size M; there are N, C/, true],
    [[file, "--variant", "=3"], /it is like NAME=VALUE/],
    [[file, "--wgsl", "--watch"], /Cannot use --wgsl and --watch at once/],
    [[file, "--backward"], /Cannot use --backward/],
    [[], /Cannot run without NAME/],
  ] as const) {
    if (spawned) {
      const { status, stderr, stdout } = kernel(...args);
      assert.match(stderr, error);
      assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
      assert.equal(status, 2);
      assert.equal(stdout, "");
    } else {
      const { error: thrown, printed } = await runHere(verb, ...args);
      assert.ok(thrown instanceof ArgumentError, String(thrown));
      assert.match(thrown.message, error);
      assert.ok(!thrown.message.includes("\n"), thrown.message);
      assert.deepEqual(printed, []);
    }
  }
});

/** A watch, and what it has written so far. */
function startWatch(...args: string[]) {
  // One file for both streams keeps their order.
  const log = join(folder, "watch.log");
  const out = openSync(log, "w");
  const child = spawn(process.execPath, command(...args), { cwd: root, env, stdio: ["ignore", out, out] });
  closeSync(out);
  children.push(child);
  let seen = 0;
  const written = () => readFileSync(log, "utf8");
  const ended = new Promise<{ status: number | null; signal: string | null }>((resolve) =>
    child.on("close", (status, signal) => resolve({ status, signal })),
  );
  /** What a run has written, once it waits for the next save. */
  const next = async (): Promise<string> => {
    const limit = performance.now() + 240_000;
    for (;;) {
      const all = written();
      const end = all.indexOf("Ctrl-C ends\n", seen);
      if (end >= 0) {
        const said = all.slice(seen, end);
        seen = end + "Ctrl-C ends\n".length;
        return said;
      }
      assert.ok(performance.now() < limit && child.exitCode === null, `no run ended:\n${all}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  return { child, next, ended, written };
}

test("--watch runs again at each save, survives what is wrong, and ends by Ctrl-C", async () => {
  const args = ["--watch", "--variant", "WG=8", "--shape", "N=20", "--runs", "4", "--timeout", LIMIT];
  const { child, next, ended, written } = startWatch(file, ...args);
  assert.match(
    await next(),
    /N=20 C=768\n[\s\S]*\nWG=8 .* ± [\s\S]*watching .*rms_norm\.wgsl, .*rms_norm\.json; $/,
  );

  writeFileSync(file, wgsl.replace("inverseSqrt(", "1.0 / sqrt("));
  assert.match(await next(), /rms_norm\.wgsl was saved\n[\s\S]*WG=8: [\d.]+ → [\d.]+ ms warm, /);

  writeFileSync(file, wgsl.replace("var squares = 0.0;", "var squares = ;"));
  assert.match(
    await next(),
    /Cannot compile .*rms_norm\.wgsl:16 with WG=8: .*\n[\s\S]*> +16 {3}var squares = ;[\s\S]*was right, is refused/,
  );

  // As editors save that write a new file and rename it.
  writeFileSync(`${file}.new`, wgsl);
  renameSync(`${file}.new`, file);
  assert.match(await next(), /WG=8: was refused, is right; [\d.]+ → [\d.]+ ms warm, /);

  writeFileSync(file, LOOP);
  assert.match(await next(), /Cannot finish .*: running: it took more than 12 s and was ended/);

  writeFileSync(file, wgsl);
  const json = join(folder, "rms_norm.json");
  const text = readFileSync(json, "utf8");
  await next();
  writeFileSync(json, text.replace('"grid"', '"gird"'));
  assert.match(await next(), /there is no key gird; did you mean grid\?/);
  writeFileSync(json, text.replace("1 + 0.1", "2 + 0.1"));
  assert.match(await next(), /rms_norm\.json was saved\n[\s\S]*WG=8 .* ± /);

  child.kill("SIGINT");
  assert.deepEqual(await ended, { status: null, signal: "SIGINT" });
  assert.doesNotMatch(written(), /at .*\.ts:\d+/);
});
