import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { defineVerb, parse, UsageError, withoutSlash } from "../tools/cli.ts";
import { unknownVerb } from "../tools/verbs.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const verb = defineVerb({
  name: "hear",
  summary: "Hears files.",
  usage: "FILE… [options]",
  example: "wavegate hear a.wav",
  options: {
    dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage" },
    beam: { type: "count", help: "width" },
    pitch: { type: "number", help: "semitones" },
    set: { type: "string", multiple: true, help: "key=value" },
    loud: { type: "boolean", help: "louder" },
  },
  operands: { min: 1, max: 2 },
  main: async () => 0,
});

test("parse() gives every option its type and its default", () => {
  assert.deepEqual(
    parse(verb, ["a.wav", "--beam", "8", "--pitch=-0.5", "--set", "x=1", "--set", "y=2", "--json"]),
    {
      values: { dtype: "f32", beam: 8, pitch: -0.5, set: ["x=1", "y=2"], loud: false },
      operands: ["a.wav"],
      json: true,
    },
  );
});

test("parse() refuses what it cannot read, and says why", () => {
  const wrong: [string[], RegExp][] = [
    [[], /^Cannot run without FILE…$/],
    [["a", "b", "c"], /^Cannot read "c": one argument too many$/],
    [["a", "--dtype", "f8"], /^Cannot read --dtype f8: it is one of f32, f16$/],
    [["a", "--pitch", "high"], /^Cannot read --pitch high: it is a number$/],
    [["a", "--beam", "0"], /^Cannot read --beam 0: it is a whole number of at least 1$/],
    [["a", "--beam", "1.5"], /^Cannot read --beam 1\.5: it is a whole number of at least 1$/],
    [["a", "--pitch", ""], /^Cannot read --pitch: it is empty$/],
    [["a", "--set", " "], /^Cannot read --set: it is empty$/],
    [["a", "--beam", "2", "--beam=3"], /^Cannot read --beam twice: give it once$/],
    [["a", "--quiet"], /--quiet/],
    [["a", "--beam"], /--beam/],
  ];
  for (const [args, message] of wrong)
    assert.throws(
      () => parse(verb, args),
      (error: Error) =>
        error instanceof UsageError && message.test(error.message) && !error.message.includes("\n"),
    );
});

test("withoutSlash() leaves the root of the file system", () => {
  assert.deepEqual(["runs/a//", "/", "a", "/runs/"].map(withoutSlash), ["runs/a", "/", "a", "/runs"]);
});

test("parse() gives help before it looks at anything else", () => {
  assert.equal(parse(verb, ["--help"]), "help");
});

test("unknownVerb() always says what there is", () => {
  assert.match(unknownVerb("xyzzyxyzzy"), /^Cannot run "xyzzyxyzzy": verbs are /);
});

test("wavegate ends with status 2 at an unknown verb and prints its version", () => {
  const command = (...args: string[]) => {
    const done = spawnSync("node", ["tools/wavegate.mjs", ...args], { cwd: root, encoding: "utf8" });
    return [done.status, done.stdout, done.stderr];
  };
  const [status, stdout, stderr] = command("xyzzyxyzzy");
  assert.deepEqual([status, stdout], [2, ""]);
  assert.match(String(stderr), /^wavegate: Cannot run "xyzzyxyzzy": [^\n]*\n$/);
  assert.match(String(command("--version")[1]), /^\d+\.\d+\.\d+\n$/);
});

test("wavegate says in one line that it cannot start where memory is short", () => {
  // The command is Node's, and needs the name of a limit that Linux has.
  if (process.platform !== "linux" || "Deno" in globalThis) return;
  for (const kib of [2_000_000, 6_000_000]) {
    const line = `ulimit -v ${kib}; exec "$0" tools/wavegate.mjs --version`;
    const { status, stdout, stderr } = spawnSync("sh", ["-c", line, process.execPath], {
      cwd: root,
      encoding: "utf8",
    });
    // There may be room enough one day.
    if (status === 0) assert.match(stdout, /^\d/);
    else assert.match(stderr, /^wavegate: Cannot start: [^\n]+\n$/);
  }
});
