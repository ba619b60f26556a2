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

interface Found {
  readonly kernels: readonly {
    readonly name: string;
    readonly calls: number;
    readonly time: { median: number };
  }[];
  readonly [key: string]: unknown;
}

/** Profiles and checks that what is saved is what is printed, and that the parts add up to the wall time. */
function profileOf(...args: string[]) {
  const [saved, trace] = [join(folder, "profile.json"), join(folder, "trace.json")];
  const { status, stdout, stderr } = profile(...args, "--json", "--save", saved, "--trace", trace);
  assert.equal(status, 0, stderr);
  const found = JSON.parse(stdout);
  assert.deepEqual(JSON.parse(readFileSync(saved, "utf8")), found);
  const { parts, wall, events, kernels, runs, plain, commit } = found;
  assert.deepEqual([wall.samples.length, plain.samples.length], [runs, runs]);
  assert.match(commit, /^[0-9a-f]{12}(-dirty)?$/);
  for (let i = 0; i < runs; i++) {
    const sum = Object.values(parts as Record<string, { samples: number[] }>).reduce(
      (n, p) => n + p.samples[i],
      0,
    );
    assert.ok(
      Math.abs(sum - wall.samples[i]) < 1e-6 * wall.samples[i],
      `run ${i}: ${sum} of ${wall.samples[i]}`,
    );
  }
  const { traceEvents } = JSON.parse(readFileSync(trace, "utf8"));
  assert.equal(
    traceEvents.filter(
      (e: { pid: number; tid: number; ph: string }) => e.ph === "X" && e.pid === 1 && e.tid === 3,
    ).length,
    events.length,
  );
  const calls = kernels.reduce((sum: number, { calls: n }: { calls: number }) => sum + n, 0);
  assert.equal(calls, events.length);
  for (const event of events)
    assert.ok(
      event.end >= event.begin && event.flops >= 0 && event.bytes > 0 && event.grid.length === 3,
      JSON.stringify(event),
    );
  const names = (groups: { name: string }[]) => groups.map(({ name }) => name);
  return {
    found: found as Found,
    events,
    stages: names(found.stages),
    layers: names(found.layers),
    parts,
    wall,
  };
}

test("profile times every kernel of a forward pass, by kernel, layer and stage", () => {
  const { found, events, stages, layers } = profileOf("weights/demo", "--seconds", "0.5", "--runs", "2");
  assert.ok(events.length > 20);
  for (const kernel of ["matmul.forward", "attention.forward", "layer_norm.forward"])
    assert.ok(
      found.kernels.some(({ name, time }) => name === kernel && time.median > 0),
      `${kernel} has no time`,
    );
  assert.deepEqual([...stages].sort(), ["BERT", "CTC head", "CmGI", "speech encoder"]);
  assert.ok(layers.includes("speech encoder: encoder.layers.*.attention"), layers.join("\n"));
  assert.equal(found.command, "profile FOLDER");
});

test("profile predict is a whole recognition, of which hardly anything is unexplained", () => {
  const { stages, parts, wall } = profileOf("predict", "weights/default", "--seconds", "4", "--runs", "3");
  for (const stage of ["speech encoder", "CTC head", "BERT", "CmGI"])
    assert.ok(stages.includes(stage), stages.join());
  assert.ok(
    parts.unexplained.median <= 0.05 * wall.median,
    `${parts.unexplained.median} of ${wall.median} ms`,
  );
});

test("profile train is a step: forward, backward of the same layers, and the optimiser", () => {
  const args = ["train", "--preset", "nano", "--seconds", "1", "--runs", "2", "--detail"];
  const { found, stages, layers, events } = profileOf(...args);
  for (const stage of ["forward: speech encoder", "backward: speech encoder", "backward: BERT", "optimizer"])
    assert.ok(stages.includes(stage), stages.join());
  assert.ok(layers.includes("BERT: encoder.layer.0.attention"), layers.join("\n"));
  for (const phase of ["forward", "backward"])
    assert.ok(
      events.some(
        (e: { stage: string; layer: string; kernel: string }) =>
          e.stage === `${phase}: BERT` &&
          e.layer === "BERT: encoder.layer.0.feed_forward" &&
          e.kernel === "matmul",
      ),
      phase,
    );
  assert.ok(found.kernels.some(({ name }) => name === "optimizer.adam"));
});

test("profile diff compares what was saved", () => {
  const saved = join(folder, "profile.json");
  profileOf("weights/demo", "--seconds", "0.5", "--runs", "2");
  const { status, stdout } = profile("diff", saved, saved);
  assert.equal(status, 0);
  assert.match(
    stdout,
    /^wall .* not comparable: 2 and 2 runs are too few to tell a difference, 4 each are enough$/m,
  );
  const { wall, kernels } = JSON.parse(profile("diff", saved, saved, "--json").stdout);
  assert.equal(wall.verdict.kind, "other");
  assert.ok(kernels.length > 5);
  const none = profile("diff", saved);
  assert.deepEqual(
    [none.status, none.stderr],
    [2, "wavegate profile: Cannot compare: profile diff takes two files, A.json B.json\n"],
  );
  const other = profile("diff", saved, "weights/demo/config.json");
  assert.equal(other.status, 1);
  assert.match(
    other.stderr,
    /^wavegate profile: Cannot use weights\/demo\/config\.json: version is absent but should be 1, as `wavegate profile --save` writes\n$/,
  );
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
  const two = profile("weights/demo", "weights/default");
  assert.deepEqual(
    [two.status, two.stderr],
    [2, 'wavegate profile: Cannot read "weights/default": one argument too many\n'],
  );
  assert.match(profile("--recording", "a.wav").stderr, /Cannot use --recording: only predict takes one/);
  const absent = profile(join(folder, "absent"));
  assert.equal(absent.status, 1);
  assert.match(absent.stderr, /^wavegate profile: Cannot read .*config\.json: no such file or folder\n$/);
});
