/** `wavegate crossvalidate --slurm` on a slurmctld and a slurmd of its own, where Slurm is installed. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, hostname, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { currentHost } from "../src/host/current.ts";
import { verb } from "../tools/crossvalidate.ts";
import { acousticFolds, type TinyRelease, tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const installed = ["slurmctld", "slurmd", "sbatch", "squeue", "scontrol"].every(
  (program) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0,
);
// slurmd takes root, to become the user of a job.
const skip = !installed
  ? "Slurm is not installed: apt-get install slurm-wlm"
  : userInfo().uid !== 0
    ? "slurmd needs root"
    : false;

const folder = mkdtempSync(join(tmpdir(), "wavegate-slurm-"));
const { MESA_SHADER_CACHE_DIR, XDG_CACHE_HOME = join(homedir(), ".cache") } = process.env;
process.env.MESA_SHADER_CACHE_DIR = MESA_SHADER_CACHE_DIR ?? XDG_CACHE_HOME;
process.env.XDG_CACHE_HOME = join(folder, "cache");

let corpus: TinyRelease;
const daemons = new Map<string, ChildProcess>();
const host = await currentHost();
const machine = hostname();

const configuration = (port: number): string => `ClusterName=wavegate
SlurmctldHost=${machine}(127.0.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
KillWait=2
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool
SlurmctldPort=${port}
SlurmdPort=${port + 1}
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.pid
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=${machine} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`;

/** Starts a daemon of Slurm. */
function start(program: "slurmctld" | "slurmd"): void {
  const node = program === "slurmd" ? ["-N", machine] : [];
  const log = join(folder, `${program}.log`);
  const args = ["-D", "-f", join(folder, "slurm.conf"), "-L", log, ...node];
  daemons.set(program, spawn(program, args, { stdio: "ignore" }));
}

/** Kills what runs on the machine as a power cut does: its daemon, and the tasks under `out` with those that watch them. */
function cutPower(out: string): void {
  daemons.get("slurmd")?.kill("SIGKILL");
  const { stdout } = spawnSync("ps", ["-eo", "ppid=,pgid=,args="], { encoding: "utf8" });
  const tasks = stdout.split("\n").filter((line) => line.includes(`crossvalidate --out ${out} --job `));
  for (const line of tasks) {
    const [parent, group] = line.trim().split(/\s+/).map(Number);
    process.kill(parent, "SIGKILL"); // first, or it would tell Slurm that its task ended
    process.kill(-group, "SIGKILL");
  }
}

/** What a command of Slurm prints. */
function slurm(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stderr}`);
  return stdout.trim();
}

/** Waits until `done`; fails after so many seconds, with the state of the queue. */
async function until(done: () => boolean, seconds: number, what: string): Promise<void> {
  for (let waited = 0; !done(); waited += 0.1) {
    if (waited > seconds) assert.fail(`${what} after ${seconds} s: ${slurm("squeue")}\n${logs()}`);
    await sleep(100);
  }
}

const logs = () =>
  ["slurmctld.log", "slurmd.log"]
    .map((name) => readFileSync(join(folder, name), "utf8").slice(-2000))
    .join("\n");

before(async () => {
  if (skip) return;
  corpus = await tinyRelease({ turns: 4 });
  for (const name of ["state", "spool"]) mkdirSync(join(folder, name));
  const path = join(folder, "slurm.conf");
  writeFileSync(path, configuration(20_000 + (process.pid % 20_000)));
  process.env.SLURM_CONF = path;
  start("slurmctld");
  start("slurmd");
  await until(
    () => /\bidle\b/.test(spawnSync("sinfo", ["-h"], { encoding: "utf8" }).stdout),
    60,
    "no idle node",
  );
});

after(async () => {
  if (skip) return rmSync(folder, { recursive: true, force: true });
  spawnSync("scancel", ["--user=root"]);
  const left = () => spawnSync("squeue", ["--noheader"], { encoding: "utf8" }).stdout !== "";
  for (let waited = 0; waited < 100 && left(); waited++) await sleep(100);
  for (const daemon of daemons.values()) daemon.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  await corpus.remove();
});

test("crossvalidate --slurm submits arrays; a job that is lost is done again, once, and the report follows", {
  skip,
}, async () => {
  const out = join(folder, "out");
  const args = acousticFolds(corpus.root, 2, out);
  const long = ["--set", "stage1.epochs=12", "--set", "stage1.batch.items=2", "--set", "checkpoints.every=1"];
  const { status, printed, error } = await runHere(
    verb,
    ...args,
    ...long,
    "--slurm",
    "--sbatch=--chdir=/tmp",
  );
  assert.equal(status, 0, error?.message);
  assert.match(printed[0], /^submitted wavegate-1 as \d+: 2 tasks$/);
  assert.match(printed[2], /^submitted wavegate-report as \d+: 1 task$/);
  const twice = await runHere(verb, "--out", out, "--slurm");
  assert.match(
    twice.error?.message ?? "",
    /^Cannot submit to Slurm: its jobs \d+, .* of an earlier submission have not ended$/,
  );
  // The machine is lost while a training has made checkpoints.
  const job = "acoustic-stage1-Session1-1";
  const checkpoints = join(out, "jobs", job, "run/checkpoints");
  const trained = () => {
    try {
      return readdirSync(checkpoints).length > 0;
    } catch {
      return false;
    }
  };
  await until(trained, 120, "no checkpoint");
  cutPower(out);
  slurm("scontrol", "update", `NodeName=${machine}`, "State=DOWN", "Reason=lost");
  start("slurmd");
  const ended = () => {
    // Slurm waits two minutes before it starts a lost job again.
    for (const line of slurm("squeue", "--noheader", "--format=%A %r").split("\n")) {
      const [id, reason] = line.split(" ");
      if (reason === "BeginTime") spawnSync("scontrol", ["update", `JobId=${id}`, "StartTime=now"]); // or it begins just now
    }
    return slurm("squeue", "--noheader") === "";
  };
  await until(ended, 300, "the queue is not empty");
  const log = readFileSync(join(out, "jobs", job, "log.txt"), "utf8").split("\n");
  assert.ok(log.filter((line) => line.includes("  wavegate train ")).length >= 2, "it was started again");
  assert.ok(
    log.some((line) => line.includes("  wavegate train --resume ")),
    "from its checkpoint",
  );
  assert.equal(log.filter((line) => line.endsWith("  done")).length, 1, "and done once");
  const report = JSON.parse(readFileSync(join(out, "report.json"), "utf8"));
  assert.equal(report.rows[0].missing.length, 0);
  const last = await runHere(verb, "--out", out, "--dry-run");
  assert.equal(last.printed.at(-1), "every job is done");
});

test("crossvalidate --slurm says in one line that Slurm refuses, and leaves nothing in its queue", {
  skip,
}, async () => {
  const out = join(folder, "refused");
  const args = acousticFolds(corpus.root, 1, out);
  const { error } = await runHere(verb, ...args, "--slurm", "--sbatch=--partition=none");
  assert.match(error?.message ?? "", /^Cannot submit to Slurm: sbatch: error: .*partition/);
  assert.equal(slurm("squeue", "--noheader"), "");
});

test("crossvalidate --slurm says where there is no Slurm", async () => {
  const release = skip ? await tinyRelease({ turns: 4 }) : corpus;
  const { PATH } = process.env;
  try {
    process.env.PATH = join(folder, "nothing");
    const out = join(folder, "none");
    const args = [
      "--systems",
      "acoustic",
      "--data",
      release.root,
      "--preset",
      "nano",
      "--folds",
      "1",
      "--out",
      out,
    ];
    const { error } = await runHere(verb, ...args, "--slurm");
    assert.equal(error?.message, "Cannot submit to Slurm: there is no sbatch on this machine");
    assert.ok(await host.kind(join(out, "slurm/wavegate-1.sh")));
  } finally {
    process.env.PATH = PATH;
    if (skip) await release.remove();
  }
});
