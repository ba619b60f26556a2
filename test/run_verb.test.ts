/** runVerb() in real processes, under the runtime that runs this test: output, errors, signals. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

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
    `import { renameSync, writeFileSync } from "node:fs";
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
            // Whole as soon as it is there: the test looks for it all the time.
            writeFileSync(process.env.STOPPED + ".new", String(signal.reason.status));
            renameSync(process.env.STOPPED + ".new", process.env.STOPPED);
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
