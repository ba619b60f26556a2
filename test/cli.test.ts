import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { defineVerb, parse, UsageError, withoutSlash } from "../tools/cli.ts";
import { formatBytes, formatSeconds, formatTable } from "../tools/format.ts";
import { firstLine, onOneLine } from "../tools/output.ts";
import { progressLine, startProgress } from "../tools/progress.ts";
import { unknownVerb } from "../tools/verbs.ts";

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

test("formatBytes() and formatSeconds() choose their unit", () => {
  assert.deepEqual([0, 1023, 1536, 2 ** 20, 3.5 * 2 ** 30].map(formatBytes), [
    ...["0 B", "1023 B", "1.5 KiB", "1.0 MiB", "3.5 GiB"],
  ]);
  assert.deepEqual([0.0042, 0.9999, 12.34, 59.99, 754, 3754].map(formatSeconds), [
    ...["4.2 ms", "1.0 s", "12.3 s", "1:00", "12:34", "1:02:34"],
  ]);
});

test("formatTable() aligns names left and figures right", () => {
  assert.deepEqual(
    formatTable(
      ["stage", "ms"],
      [
        ["hubert", 12],
        ["bert", 3.5],
      ],
    ),
    ["stage    ms", "hubert   12", "bert    3.5"],
  );
  const long = formatTable(
    ["key"],
    Array.from({ length: 200_000 }, (_, i) => [`k${i}`]),
  );
  assert.equal(long[1].length, 2, "more rows than a call takes arguments");
});

test("progressLine() shows share, rate, time left and the note", () => {
  const line = progressLine("train", 25, 100, 10, { unit: "clips", note: "loss 1.2" });
  assert.match(line, /^train {2}\[█{5} {15}\] {3}25 % {2}2\.5 clips\/s {2}30\.0 s left {2}loss 1\.2$/);
  const resumed = progressLine("train", 60, 100, 10, { unit: "clips", from: 50 });
  assert.match(resumed, /1 clips\/s {2}40\.0 s left$/, "what was done before counts in no rate");
});

test("startProgress() is silent without a terminal and in the first second", () => {
  const written: string[] = [];
  let time = 0;
  const stream = (isTTY: boolean) =>
    ({ isTTY, columns: 80, write: (text: string) => written.push(text) > 0 }) as typeof process.stderr;
  for (const isTTY of [false, true]) {
    const bar = startProgress("x", 10, { stream: stream(isTTY), now: () => time });
    time += 500;
    bar.update(1);
    bar.stop();
  }
  assert.deepEqual(written, []);
  const bar = startProgress("x", 10, { stream: stream(true), now: () => time });
  time += 2000;
  bar.update(5);
  bar.stop();
  assert.equal(written.length, 2);
});

// The rest starts real processes, under the runtime that runs this test.

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "wavegate-cli-"));
  const tool = (name: string) =>
    pathToFileURL(fileURLToPath(new URL(`../tools/${name}`, import.meta.url))).href;
  const cli = tool("cli.ts");
  writeFileSync(
    join(folder, "try.mts"),
    `import { defineVerb, isMain, runVerb } from ${JSON.stringify(cli)};
    const verb = defineVerb({
      name: "try", summary: "Tries.", usage: "WHAT", example: "wavegate try it", options: {}, operands: { min: 1 },
      async main({ operands: [what], print, printJson, note }) {
        if (what === "throw") throw new RangeError("Cannot try: it is 3\\nand more");
        if (what === "late") { setTimeout(() => { throw new Error("too late"); }); await new Promise(() => setTimeout(() => {}, 5000)); }
        note("working");
        for (let i = 0; i < 50_000; i++) print("line " + i);
        printJson({ lines: 50_000 });
        return what === "fail" ? 1 : 0;
      },
    });
    if (isMain(import.meta)) await runVerb(verb);`,
  );
  // Works for a second, or until it is told to stop.
  writeFileSync(
    join(folder, "work.mts"),
    `import { writeFileSync } from "node:fs";
    import process from "node:process";
    import { defineVerb, isMain, runVerb } from ${JSON.stringify(cli)};
    const verb = defineVerb({
      name: "work", summary: "Works.", usage: "HOW", example: "wavegate work hard", options: {}, operands: { min: 1 },
      interruptible: true,
      async main({ operands: [how], note, print, signal }) {
        for (let i = 0; i < ({ long: 250, endless: 5000 }[how] ?? 50); i++) {
          note("working");
          if (how === "print" && i === 49) print("result");
          if (how === "long" && signal.aborted) {
            writeFileSync(process.env.STOPPED, String(signal.reason.status));
            return undefined;
          }
          if (how === "save" && signal.aborted) return undefined;
          if (how === "throw") signal.throwIfAborted();
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        if (how === "fail") throw new Error("failed in the end");
        return 0;
      },
    });
    if (isMain(import.meta)) await runVerb(verb);`,
  );
});
after(() => rmSync(folder, { recursive: true }));

test("firstLine() keeps a message about a name with line ends or terminal codes whole, and on one line", () => {
  const name = "a\nb\t\x1b[31m\u2028.wav";
  assert.equal(onOneLine(name), "a\\nb\\t\\x1b[31m\\x2028.wav");
  const message = `Cannot read ${name}: it is empty\nand more`;
  assert.equal(firstLine(message, ["c", name]), `Cannot read ${onOneLine(name)}: it is empty`);
  assert.equal(firstLine("Cannot read ä😀: no", []), "Cannot read ä😀: no");
});

const root = fileURLToPath(new URL("..", import.meta.url));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

function start(...args: string[]) {
  const { WAVEGATE_DEBUG: _, ...env } = process.env;
  const done = spawnSync(process.execPath, [...runtime, ...args], { cwd: root, encoding: "utf8", env });
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
}
const tryVerb = (...args: string[]) => start(join(folder, "try.mts"), ...args);

test("runVerb() writes all of its output into a pipe before it ends", () => {
  const { status, stdout, stderr } = tryVerb("it");
  assert.equal(status, 0);
  assert.equal(stdout.trimEnd().split("\n").at(-1), "line 49999");
  assert.equal(stderr, "working\n");
});

test("runVerb() with --json writes one JSON document and nothing else", () => {
  const { status, stdout } = tryVerb("fail", "--json");
  assert.equal(status, 1);
  assert.deepEqual(JSON.parse(stdout), { lines: 50_000 });
});

test("runVerb() turns an error into one line, on stdout into JSON where that is wanted, wrong usage into status 2, --help into status 0", () => {
  const rest = " (WAVEGATE_DEBUG=1 shows the rest)";
  assert.deepEqual(tryVerb("throw", "--json"), {
    status: 1,
    stdout: '{"error":"Cannot try: it is 3"}\n',
    stderr: `wavegate try: Cannot try: it is 3${rest}\n`,
  });
  assert.deepEqual(tryVerb("late"), { status: 1, stdout: "", stderr: "wavegate try: too late\n" });
  assert.deepEqual(tryVerb(), { status: 2, stdout: "", stderr: "wavegate try: Cannot run without WHAT\n" });
  const help = tryVerb("--help");
  assert.equal(help.status, 0);
  assert.match(help.stdout, /^Tries\.\n\nUsage: wavegate try WHAT\n[\s\S]*Example:\n {2}wavegate try it\n$/);
});

/** Starts work.mts and does `act` to it once it works. Deno's child.kill() decides what the status will be. */
function work(
  how: string,
  act: (child: ReturnType<typeof spawn>, kill: (name: NodeJS.Signals) => void) => void,
) {
  return new Promise<{ status: number | null; stderr: string }>((resolve) => {
    const child = spawn(process.execPath, [...runtime, join(folder, "work.mts"), how], {
      cwd: root,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.once("data", () => act(child, (name) => void process.kill(child.pid!, name)));
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.on("exit", (status) => resolve({ status, stderr }));
  });
}

test("runVerb() lets a verb stop itself at the first signal, and says so", async () => {
  const said = /^wavegate work: stopping at the next safe place; once more ends at once$/m;
  const cases = [
    ["SIGINT", "save", 130],
    ["SIGTERM", "throw", 143],
    ["SIGHUP", "save", 129],
    ["SIGINT", "finish", 0],
  ] as const;
  for (const [name, how, expected] of process.platform === "win32" ? [] : cases) {
    const { status, stderr } = await work(how, (_, kill) => kill(name));
    assert.equal(status, expected, `${name} to a verb that would ${how}`);
    assert.match(stderr, said);
  }
});

test("runVerb() ends a verb at the second signal, unless it is an echo of the first", async () => {
  if (process.platform === "win32") return; // a signal there is the end
  const echo = await work("finish", (_, kill) => {
    kill("SIGTERM");
    kill("SIGINT");
  });
  assert.equal(echo.status, 0);
  // Counted from the line about the first: a busy machine may take long until it is there.
  const second = await work("endless", (child, kill) => {
    kill("SIGTERM");
    child.stderr?.on("data", (chunk) => {
      if (/stopping at/.test(String(chunk))) setTimeout(() => kill("SIGINT"), 700);
    });
  });
  assert.equal(second.status, 130);
});

test("runVerb() goes on where nobody reads its stderr any more", async () => {
  const lost = (how: string) => work(how, (child) => child.stderr?.destroy());
  assert.equal((await lost("finish")).status, 0);
  assert.equal((await lost("fail")).status, 1);
});

test("runVerb() says in one line that stdout is full, and ends with status 1, also a verb that works on", () => {
  if (process.platform !== "linux") return; // no /dev/full
  const full = (...args: string[]) => {
    const out = openSync("/dev/full", "w");
    const done = spawnSync(process.execPath, [...runtime, ...args], {
      ...{ cwd: root, encoding: "utf8", timeout: 30_000, stdio: ["ignore", out, "pipe"] },
    });
    closeSync(out);
    return { status: done.status, stderr: done.stderr };
  };
  const line = (name: string) => `${name}: Cannot write to stdout: no space left on the disk\n`;
  const tried = full(join(folder, "try.mts"), "it");
  assert.equal(tried.status, 1);
  assert.ok(tried.stderr.endsWith(line("wavegate try")), tried.stderr);
  const help = { status: 1, stderr: line("wavegate work") };
  assert.deepEqual(full(join(folder, "work.mts"), "--help"), help);
  const worked = full(join(folder, "work.mts"), "print");
  assert.equal(worked.status, 1);
  assert.equal(worked.stderr, `${"working\n".repeat(50)}${line("wavegate work")}`, "it does not work on");
  if (!("Deno" in globalThis))
    assert.deepEqual(full("tools/wavegate.mjs", "--version"), { status: 1, stderr: line("wavegate") });
});

test("runVerb() ends a verb with 129 where the terminal that it began in is closed", async () => {
  const python = spawnSync("python3", ["-c", "import pty"]);
  if (process.platform !== "linux" || python.status !== 0) return; // a terminal takes python3 here
  const begin = `import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
while b"working" not in os.read(fd, 9999): pass
os.close(fd)
_, status = os.waitpid(pid, 0)
print(os.WEXITSTATUS(status) if os.WIFEXITED(status) else "killed by %d" % os.WTERMSIG(status))`;
  const work = [process.execPath, ...runtime, join(folder, "work.mts"), "save"];
  const done = spawnSync("python3", ["-c", begin, ...work], { cwd: root, encoding: "utf8" });
  assert.equal(done.stdout.trim(), "129", done.stderr);
});

test("runVerb() stops as after SIGHUP where npx, which started it, is killed alone", async () => {
  if (process.platform !== "linux") return;
  const stopped = join(folder, "stopped");
  for (const shell of [`exec "$@"`, `"$@"; true`]) {
    // npm, its shell, and the command; npm is killed.
    const npm = spawn(
      "sh",
      [
        "-c",
        `sh -c '${shell}' sh "$@"; true`,
        "sh",
        process.execPath,
        ...runtime,
        join(folder, "work.mts"),
        "long",
      ],
      {
        cwd: root,
        env: { ...process.env, npm_lifecycle_script: "'wavegate'", STOPPED: stopped },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    await new Promise((resolve) => npm.stderr.once("data", resolve));
    process.kill(npm.pid!, "SIGKILL");
    for (let i = 0; i < 100 && !existsSync(stopped); i++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(readFileSync(stopped, "utf8"), "129", shell);
    rmSync(stopped);
  }
});

test("openChosenDevice() overwrites nothing where stderr is a file with one position for all", () => {
  const path = join(folder, "stderr.txt");
  const verb = ["tools/profile.ts", "weights/demo", "--adapter", "voodoo"];
  for (const flag of ["w", "a"]) {
    const file = openSync(path, flag);
    spawnSync(process.execPath, [...runtime, ...verb], { cwd: root, stdio: ["ignore", "ignore", file] });
    writeSync(file, "next\n");
    closeSync(file);
  }
  const lines = readFileSync(path, "utf8").replace(/^Warning: .*\n/gm, "");
  const one = "wavegate profile: Cannot find adapter 'voodoo': [^\\n]*\\nnext\\n";
  assert.match(lines, new RegExp(`^${one}${one}$`));
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
