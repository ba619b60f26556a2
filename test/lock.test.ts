import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { lockFolder } from "../src/host/lock.ts";
import { temporary } from "./temporary.ts";

test("lockFolder() lets one living process write to a folder", async () => {
  await temporary(async (run) => {
    const lock = join(run, "lock");
    const owner = (pid: number, name = hostname()) => writeFile(lock, JSON.stringify({ pid, host: name }));
    lockFolder(run, "train in").release();
    assert.deepEqual(await readdir(run), []);
    await owner(process.ppid);
    assert.throws(
      () => lockFolder(run, "train in"),
      /^Error: Cannot train in .*: process \d+ of .* is at it; if it is not, remove .*lock$/,
    );
    await owner(1, "another machine");
    assert.throws(() => lockFolder(run, "train in"), /process 1 of another machine is at it/);
    // One that cannot be removed or read any more keeps no message of what went wrong from being seen.
    await rm(lock);
    const held = lockFolder(run, "train in");
    await rm(lock);
    await mkdir(lock);
    held.release();
    await rm(lock, { recursive: true });
    // What a full disk, or a process that died, left behind names nobody, however new it is.
    const dead = { pid: 2 ** 22 + 1, host: hostname() };
    for (const left of [JSON.stringify(dead), '{"pid":', "", "null", "7", '{"pid":"x","host":1}']) {
      await writeFile(lock, left);
      await writeFile(join(run, "lock.77.tmp"), left);
      await utimes(join(run, "lock.77.tmp"), 1, 1);
      const { release } = lockFolder(run, "train in");
      assert.equal(JSON.parse(await readFile(lock, "utf8")).pid, process.pid);
      release();
      assert.deepEqual(await readdir(run), []);
    }
    // The number of a process that died is another's by now, where the system tells when that one began.
    lockFolder(run, "train in");
    const { began } = JSON.parse(await readFile(lock, "utf8"));
    if (process.platform === "linux") {
      const reused = { pid: process.ppid, host: hostname(), began };
      await writeFile(lock, JSON.stringify(reused));
      lockFolder(run, "train in").release();
    }
    await rm(lock, { force: true });
    await mkdir(lock);
    assert.throws(() => lockFolder(run, "train in"), /^Error: Cannot read .*lock: it is a folder$/);
    await rm(lock, { recursive: true });
    await symlink("nowhere", lock);
    assert.throws(() => lockFolder(run, "train in"), /^Error: Cannot read .*lock: it is a link to nothing$/);
    await rm(lock);
    assert.throws(
      () => lockFolder(join(run, "nowhere"), "train in"),
      /^Error: Cannot write .*nowhere.lock: /,
    );
    assert.deepEqual(await readdir(run), []);
  });
});
