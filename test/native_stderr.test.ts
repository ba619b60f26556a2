import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const underDeno = "Deno" in globalThis;

const program = `
import process from "node:process";
import { currentHost } from "./src/host/current.ts";
const host = await currentHost();
process.stderr.write("before\\n");
const gpu = await host.gpu({ implementation: "dawn" });
await host.quiet(() => gpu.requestAdapter({ powerPreference: "high-performance" }));
process.stderr.write("after\\n");
process.exit(0);`;

const invocation = (): [string, string[]] => [
  process.execPath,
  underDeno ? ["eval", program] : ["--import", "tsx", "--input-type=module", "--eval", program],
];

/** Runs the program in a shell whose line has "$@" in its place; returns its stdout. */
function shell(line: string): string {
  const [command, args] = invocation();
  const done = spawnSync("sh", ["-c", line, "sh", command, ...args], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout;
}

test("dawn() writes nothing on stderr where that is a pipe", () => {
  assert.equal(shell('"$@" 2>&1 >/dev/null | cat'), "before\nafter\n");
});

test("dawn() writes nothing on stderr where that is a socket, as under a parent that is Node", () => {
  const [command, args] = invocation();
  const { stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  assert.equal(stderr, "before\nafter\n");
});

test("dawn() writes nothing on stderr where that is a file opened to append", () => {
  const file = join(folder, "appended");
  shell(`"$@" 2>>"${file}"; echo end >>"${file}"`);
  assert.equal(readFileSync(file, "utf8"), "before\nafter\nend\n");
});

test("dawn() keeps what others write in a file at one position with this process", () => {
  const file = join(folder, "shared");
  shell(`{ "$@"; echo end >&2; } 2>"${file}"`);
  const lines = readFileSync(file, "utf8").split("\n");
  assert.deepEqual(lines, ["before", "after", "end", ""]);
});

test("dawn() leaves the flags of a file as they were", () => {
  const file = join(folder, "flags");
  const flags = shell(`exec 2>"${file}"; "$@" >/dev/null; grep flags: /proc/self/fdinfo/2`);
  assert.equal(Number.parseInt(flags.split(/\s+/)[1], 8) & 0o2000, 0);
});

test("openChosenDevice() overwrites nothing where stderr is a file with one position for all", () => {
  const path = join(folder, "stderr.txt");
  const run = underDeno ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
  const verb = [...run, "tools/profile.ts", "weights/demo", "--adapter", "voodoo"];
  for (const flag of ["w", "a"]) {
    const file = openSync(path, flag);
    spawnSync(process.execPath, verb, { cwd: root, stdio: ["ignore", "ignore", file] });
    writeSync(file, "next\n");
    closeSync(file);
  }
  const lines = readFileSync(path, "utf8").replace(/^Warning: .*\n/gm, "");
  const one = "wavegate profile: Cannot find adapter 'voodoo': [^\\n]*\\nnext\\n";
  assert.match(lines, new RegExp(`^${one}${one}$`));
});
