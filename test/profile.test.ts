import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wavegate-profile-"));
after(() => rmSync(folder, { recursive: true }));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

function profile(...args: string[]) {
  return spawnSync(process.execPath, [...runtime, "tools/profile.ts", ...args], {
    cwd: root,
    encoding: "utf8",
  });
}

test("profile times every kernel of a forward pass, of which the second makes nothing new", () => {
  const trace = join(folder, "trace.json");
  const { status, stdout } = profile("weights/demo", "--seconds", "0.5", "--json", "--trace", trace);
  assert.equal(status, 0);
  const found = JSON.parse(stdout);
  assert.equal(found.created, 0);
  assert.ok(found.dispatches > 20);
  const runs = found.rows.reduce((sum: number, row: { count: number }) => sum + row.count, 0);
  assert.equal(runs, found.dispatches);
  for (const kernel of ["matmul", "attention", "layer_norm"])
    assert.ok(
      found.rows.some(
        (row: { label: string; milliseconds: number }) => row.label.includes(kernel) && row.milliseconds > 0,
      ),
      `${kernel} has no time`,
    );
  const { traceEvents } = JSON.parse(readFileSync(trace, "utf8"));
  assert.equal(traceEvents.length, found.dispatches);
  assert.equal(Math.min(...traceEvents.map((e: { ts: number }) => e.ts)), 0);
});

test("profile refuses what it cannot run", () => {
  const short = profile("weights/demo", "--seconds", "0.01");
  assert.deepEqual(
    [short.status, short.stderr],
    [2, "wavegate profile: Cannot read --seconds 0.01: it is a number from 0.025 to 300\n"],
  );
  assert.match(profile("weights/demo", "--seconds", "1e9").stderr, /Cannot read --seconds 1000000000: /);
  const trace = profile("weights/demo", "--trace", join(folder, "absent", "trace.json"));
  assert.equal(trace.status, 1);
  assert.match(trace.stderr, /^wavegate profile: Cannot write .*trace\.json: no such file or folder\n$/);
  const absent = profile(join(folder, "absent"));
  assert.equal(absent.status, 1);
  assert.match(absent.stderr, /^wavegate profile: Cannot read .*config\.json: no such file or folder\n$/);
});
