/** MPI itself, where a machine has it: Open MPI and MPICH, whose launchers may be there side by side. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { openLibrary } from "../src/host/ffi.ts";
import { openMpi } from "../src/host/mpi.ts";
import { testDevice } from "./device.ts";
import { trainTogether } from "./rank_task.ts";
import { temporary } from "./temporary.ts";
import { tinyRelease } from "./tiny_release.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const underDeno = "Deno" in globalThis;
const runtime = underDeno ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
const environment = {
  ...process.env,
  ...{ OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" },
};

/** Launchers by the family of their library: Debian's names, and whatever mpirun is. */
const launchers = ["mpirun.openmpi", "mpirun.mpich", "mpirun"].flatMap((command) => {
  const { status, stdout } = spawnSync(command, ["--version"], { encoding: "utf8", env: environment });
  if (status !== 0) return [];
  const family = /open mpi|openrte/i.test(stdout) ? "openmpi" : /hydra|mpich/i.test(stdout) ? "mpich" : "";
  return family === "" ? [] : [{ command, family }];
});
/** One for each family. */
const own = launchers.filter((each, i) => launchers.findIndex((x) => x.family === each.family) === i);
const missing = ["openmpi", "mpich"].filter((family) => own.every((each) => each.family !== family));
if (missing.length > 0) console.log(`mpi.test: no mpirun of ${missing.join(", ")} here: not tried under it`);

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `size` ranks, which may have arguments of their own; `act` may do something to the job meanwhile. */
async function mpirun(
  { command, family }: (typeof own)[number],
  size: number,
  args: readonly string[],
  act?: () => Promise<void>,
): Promise<Ended> {
  const more = family === "openmpi" ? ["--oversubscribe"] : [];
  const job = [...more, "-n", `${size}`, process.execPath, ...runtime, ...args];
  const child = spawn(command, job, { cwd: root, env: environment, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<Ended>((resolve) =>
    child.on("close", (status) => resolve({ status, stdout, stderr })),
  );
  await act?.();
  return await ended;
}

/** Lines that wavegate itself wrote. */
const said = ({ stderr }: Ended) => stderr.split("\n").filter((line) => line.startsWith("wavegate "));

for (const launcher of own)
  test(`ranks exchange and train to the bits of one under ${launcher.family}`, async () => {
    const device = await testDevice();
    const accumulate = 4;
    let alone: number[][] = [];
    await temporary(async (folder) => {
      alone = (await trainTogether(device, undefined, folder, { accumulate, epochs: 1 })).weights;
    });
    for (const size of underDeno ? [2] : [2, 4])
      await temporary(async (folder) => {
        const ended = await mpirun(launcher, size, ["test/mpi_program.ts", folder, `${accumulate}`]);
        assert.equal(ended.status, 0, ended.stderr);
        const all = ended.stdout
          .split("\n")
          .filter((line) => line.startsWith("{"))
          .map((line) => JSON.parse(line))
          .sort((a, b) => a.rank - b.rank);
        assert.equal(all.length, size, ended.stdout);
        const ranks = Array.from({ length: size }, (_, r) => r);
        for (const { rank, library, exchanged, weights, ...rest } of all) {
          assert.equal(rest.size, size);
          assert.match(library, launcher.family === "openmpi" ? /^Open MPI v\d/ : /^MPICH \d/);
          const sum = (at: number) => ranks.reduce((total, r) => total + r + at, 0);
          assert.deepEqual(exchanged, {
            sum: [sum(0), sum(1000 * size - 1)],
            swapped: ranks.map((r) => r + 1000 * rank),
            gathered: ranks.flatMap((r) => [r, 7]),
            told: ranks.map((r) => `${r} NaN`),
          });
          assert.deepEqual(weights, alone, `rank ${rank} of ${size}`);
        }
      });
  });

/** The process of rank 1 of the job that trains in `out`. */
function secondRank(out: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      if (readlinkSync(`/proc/${pid}/exe`) !== process.execPath) continue;
      const text = (name: string) => readFileSync(`/proc/${pid}/${name}`, "utf8").split("\0");
      const ranks = ["OMPI_COMM_WORLD_RANK=1", "PMI_RANK=1"];
      if (text("cmdline").includes(out) && text("environ").some((line) => ranks.includes(line)))
        return Number(pid);
    } catch {
      // It has ended.
    }
  throw new Error("there is no rank 1");
}

// Under Deno each process compiles every kernel of the models anew, for minutes.
for (const [i, launcher] of (underDeno || process.platform !== "linux" ? [] : own).entries())
  test(`train under ${launcher.family}: a rank that is killed ends all, and another number of ranks goes on`, async () => {
    const corpus = await tinyRelease({ turns: 4 });
    const start = (out: string, ...more: string[]) => [
      ...["tools/train.ts", "--system", "acoustic-asr", "--preset", "nano", "--data", corpus.root],
      ...["--fold", "3", "--out", out, "--set", "stage1.batch.items=1", "--set", "checkpoints.every=1"],
      ...["--set", "stage1.accumulate=4", "--set", "stage1.epochs=2", ...more],
    ];
    await temporary(async (folder) => {
      const whole = join(folder, "whole");
      const model = (out: string) => readFileSync(join(out, "model/model.safetensors"));
      const done = spawnSync(process.execPath, [...runtime, ...start(whole)], {
        cwd: root,
        encoding: "utf8",
      });
      assert.equal(done.status, 0, done.stderr);

      const out = join(folder, "run");
      const killed = await mpirun(launcher, 2, start(out), async () => {
        const saved = () => {
          try {
            return readdirSync(join(out, "checkpoints")).some((name) => !name.endsWith(".partial"));
          } catch {
            return false;
          }
        };
        for (let n = 0; n < 6000 && !saved(); n++) await sleep(10);
        process.kill(secondRank(out), "SIGKILL");
      });
      assert.notEqual(killed.status, 0);
      assert.ok(said(killed).length <= 1, killed.stderr);

      const resumed = await mpirun(launcher, i === 0 ? 4 : 1, ["tools/train.ts", "--resume", "--out", out]);
      assert.equal(resumed.status, 0, resumed.stderr);
      const now = i === 0 ? "4 now; an update is still of 4 micro-batches, at most 1" : "1 now";
      assert.match(resumed.stderr, new RegExp(`^ranks: 2 at the checkpoint, ${now}`, "m"));
      assert.ok(model(out).equals(model(whole)), "the weights differ from those of one process");

      const seeds = ["--set", "seed=7", ":", "-n", "1", process.execPath, ...runtime];
      const other = join(folder, "other");
      const disagree = await mpirun(launcher, 1, [...start(other, ...seeds), ...start(other)]);
      assert.notEqual(disagree.status, 0);
      assert.equal(said(disagree).length, 1, disagree.stderr);
      assert.match(
        said(disagree)[0],
        /Cannot train on 2 ranks: the recipe's hash of rank 1 is \w+, of rank 0/,
      );
      assert.ok(!readdirSync(folder).includes("other"), "nothing was written");

      const foreign = own.find((each) => each.family !== launcher.family);
      if (foreign) {
        const mixed = await mpirun(launcher, 2, start(other, "--mpi", foreign.family));
        assert.notEqual(mixed.status, 0);
        assert.equal(said(mixed).length, 1, mixed.stderr);
        assert.match(
          said(mixed)[0],
          /started 2 processes, but .* sees 1: launcher and library are of different MPIs/,
        );
      }
      rmSync(corpus.root, { recursive: true });
    });
  });

test("openMpi() says in a line what there is no library of", () => {
  assert.throws(
    () => openMpi("/nowhere/libmpi.so"),
    /^Error: Cannot start MPI: \/nowhere\/libmpi\.so cannot be used \(/,
  );
  if (process.platform === "linux")
    assert.throws(() => openMpi("libc.so.6"), {
      message: "Cannot start MPI: libc.so.6 cannot be used (libc.so.6 is no library of MPI)",
    });
  const launch = { by: "mpirun of X", size: 2, rank: 0, families: [] };
  assert.throws(
    () => openMpi("auto", launch),
    /mpirun of X started this process, but there is no library of/,
  );
});

test("openLibrary() calls C on this thread and on another", {
  skip: process.platform !== "linux" && "of glibc",
}, async () => {
  const library = openLibrary("libc.so.6");
  assert.equal(library.address("no_such_function"), undefined);
  assert.ok(library.address("abs"));
  const c = library.declare({ abs: ["i32"], getpid: [] });
  assert.equal(c.call("abs", -5), 5);
  assert.equal(c.call("getpid"), process.pid);
  assert.equal(await c.callAsync("abs", -7), 7);
  assert.throws(() => library.declare({ no_such_function: [] }));
  assert.throws(() => openLibrary("libnowhere.so.1"));
});
