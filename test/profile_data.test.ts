/** Profiles as data: sums, statistics, ceilings, traces and comparisons, of runs that are made up. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProfileEvent } from "../src/gpu/profiler.ts";
import { diffProfiles, judge } from "../src/profile/diff.ts";
import type { Profile } from "../src/profile/profile.ts";
import { readProfile } from "../src/profile/read.ts";
import { mannWhitney, measured, quantile } from "../src/profile/statistics.ts";
import { leastTime, type Run, summarize } from "../src/profile/summary.ts";
import { chromeTrace } from "../src/profile/trace.ts";
import type { Peaks } from "../src/records/peaks.ts";
import type { Host } from "../src/host/host.ts";

const peaks: Peaks = {
  ...{ adapter: "a", driver: "d", measured: "2026-01-01T00:00:00.000Z", f32: 1e9, copy: 1e9 },
  ...{ dispatch: 1e-6, upload: 1e9, readback: 1e9 },
};

/** A dispatch from `begin` to `end` in milliseconds of the GPU's clock, which is 1000 ms ahead of the CPU's. */
const event = (begin: number, end: number, more: Partial<ProfileEvent> = {}): ProfileEvent => ({
  ...{ label: "x", phase: "", part: "", layer: "encoder.0", kernel: "matmul", entry: "forward" },
  ...{ shape: { M: 8 }, grid: [1, 2, 3], variant: "vec", unit: "f32", flops: 1000, bytes: 500 },
  ...{ submit: 0, recorded: begin - 4, recording: 0.5 },
  begin: (begin + 1000) * 1e6,
  end: (end + 1000) * 1e6,
  ...more,
});

/** 20 ms: recorded 0–4, submitted 4–5, dispatches 4–8 and 9–15, the wait 5–20 wakes 5 ms after the last. `slow` stretches it. */
const run = (slow = 1): Run => ({
  begin: 100,
  end: 100 + 20 * slow,
  events: [
    event(104, 104 + 4 * slow, { recorded: 101 }),
    event(104 + 5 * slow, 104 + 11 * slow, { layer: "encoder.1", part: "BERT", flops: 3000 }),
  ],
  cpu: [
    { kind: "submit", begin: 104, end: 105 },
    { kind: "wait", begin: 105, end: 100 + 20 * slow },
  ],
  memory: [
    [100, 10, 20],
    [103, 30, 40],
  ],
});

const about = {
  ...{ adapter: "a", driver: "d", path: "portable", command: "profile predict", options: { seconds: 3 } },
};
const near = (got: number | null | undefined, want: number) =>
  assert.ok(typeof got === "number" && Math.abs(got - want) < 1e-6, `${got}, expected ${want}`);

test("the parts of a run add up to its wall time, each moment in one of them", () => {
  const { parts, wall, cpu, events, memory } = summarize(about, [run()], [19]);
  near(wall.median, 20);
  near(parts.gpu.median, 10);
  near(parts.cpu.median, 4);
  near(parts.gaps.median, 1);
  near(parts.wake.median, 5);
  near(parts.unexplained.median, 0);
  near(cpu.record.median, 4);
  near(cpu.submit.median, 1);
  near(cpu.wait.median, 15);
  // The GPU's clock is laid so that the first dispatch begins with its submit.
  near(events[0].begin, 4);
  near(events[0].recorded, 1);
  assert.deepEqual(memory, [
    [0, 10, 20],
    [3, 30, 40],
  ]);
});

test("what is submitted and does not begin is unexplained", () => {
  const { events, ...rest } = run();
  const late = [events[0], { ...events[1], submit: 1 }];
  const cpu = [
    { kind: "submit", begin: 104, end: 105 },
    { kind: "wait", begin: 105, end: 108 },
    { kind: "submit", begin: 108.4, end: 108.5 },
    { kind: "wait", begin: 108.5, end: 120 },
  ] as const;
  const { parts, wall } = summarize(about, [{ ...rest, events: late, cpu }], [19]);
  near(parts.cpu.median, 4 + 0.5);
  near(parts.unexplained.median, 0.5);
  const all = Object.values(parts).reduce((sum, part) => sum + part.median, 0);
  near(all, wall.median);
});

test("groups hold times of all runs, calls of one, and rates by the median", () => {
  const profile = summarize({ ...about, peaks }, [run(), run(2), run(1.5)], [1, 2, 3]);
  const [kernel] = profile.kernels;
  assert.equal(profile.kernels.length, 1);
  assert.deepEqual(
    [kernel.name, kernel.calls, kernel.flops, kernel.bytes, kernel.shape, kernel.grid, kernel.variant],
    ["matmul.forward", 2, 4000, 1000, { M: 8 }, [1, 2, 3], "vec"],
  );
  for (const [i, sample] of [10, 20, 15].entries()) near(kernel.time.samples[i], sample);
  near(kernel.time.median, 15);
  near(kernel.time.spread, 5);
  near(kernel.flopsPerSecond, 4000 / 0.015);
  near(kernel.bytesPerSecond, 1000 / 0.015);
  // 4000 FLOP at 1e9 a second take 4 µs, more than 1000 bytes.
  assert.equal(kernel.ceiling, "f32");
  near(kernel.share, 0.004 / 15);
  assert.deepEqual(
    profile.layers.map(({ name, calls }) => [name, calls]),
    [
      ["BERT: encoder.*", 1],
      ["encoder.*", 1],
    ],
  );
  assert.deepEqual(
    profile.stages.map(({ name }) => name),
    ["BERT", ""],
  );
  assert.equal(summarize(about, [run()], [1], true).layers[0].name, "BERT: encoder.1");
  assert.throws(() => summarize(about, [], []), { message: /there is no run/ });
});

test("one dispatch without FLOPs leaves those of its groups unknown", () => {
  const { events, ...rest } = run();
  const unknown = { ...rest, events: [events[0], { ...events[1], flops: undefined }] };
  const { kernels, layers } = summarize({ ...about, peaks }, [unknown], [1]);
  assert.deepEqual([kernels[0].flops, kernels[0].flopsPerSecond, kernels[0].share], [null, null, null]);
  assert.equal(layers.find(({ name }) => name === "encoder.*")?.flops, 1000);
});

test("the ceiling that binds is the later of arithmetic and traffic", () => {
  const of = (flops: number | null, bytes: number, more: Partial<Peaks> = {}, unit: "f32" | "f16" = "f32") =>
    leastTime({ flops, bytes, unit }, { ...peaks, ...more });
  assert.deepEqual(of(2e6, 1e6), { milliseconds: 2, ceiling: "f32" });
  assert.deepEqual(of(1e6, 2e6), { milliseconds: 2, ceiling: "copy" });
  assert.deepEqual(of(4e6, 1e6, { f16: 2e9 }, "f16"), { milliseconds: 2, ceiling: "f16" });
  assert.deepEqual(of(4e6, 1e6, {}, "f16"), { milliseconds: 4, ceiling: "f32" });
  assert.equal(of(null, 1e6), undefined);
  assert.equal(leastTime({ flops: 1, bytes: 1, unit: "f32" }, undefined), undefined);
});

test("quantile() lies between the two nearest values", () => {
  assert.equal(quantile([3, 1, 2], 0.5), 2);
  assert.equal(quantile([4, 1, 2, 3], 0.5), 2.5);
  assert.equal(quantile([0, 10], 0.25), 2.5);
  assert.ok(Number.isNaN(quantile([], 0.5)));
});

test("mannWhitney() gives scipy's p", () => {
  const close = (got: number, want: number) =>
    assert.ok(Math.abs(got - want) < 1e-6, `${got}, scipy ${want}`);
  // scipy.stats.mannwhitneyu(a, b, method="exact")
  close(mannWhitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), 0.007936507936507936);
  close(mannWhitney([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]), 0.007936507936507936);
  close(mannWhitney([1, 3, 5, 7], [2, 4, 6, 8]), 0.6857142857142857);
  close(mannWhitney([1, 2, 3], [4, 5, 6]), 0.1);
  close(mannWhitney([1, 4, 2, 8, 5, 7], [3, 6, 9, 10, 12, 11, 13]), 0.03496503496503497);
  // method="asymptotic", which ties need
  close(mannWhitney([1, 2, 2, 3], [2, 3, 4, 4]), 0.13416918012812584);
  assert.equal(mannWhitney([1, 1, 1], [1, 1, 1]), 1);
  assert.equal(mannWhitney([], [1]), 1);
});

test("a verdict knows noise", () => {
  const kind = (a: readonly number[], b: readonly number[]) => judge(measured(a), measured(b));
  const faster = kind([11, 11.2, 11.1, 11.3, 11.25], [10, 10.1, 10.2, 10.05, 9.9]);
  assert.equal(faster.text, "faster 1.11× (p = 0.0079)");
  assert.equal(faster.kind, "faster");
  assert.match(
    kind([10, 10.1, 10.2, 10.05, 9.9], [11, 11.2, 11.1, 11.3, 11.25]).text,
    /^slower 1\.11× \(p = 0\.0079\)$/,
  );
  assert.match(
    kind([10, 12, 11, 13, 9], [10.5, 11.5, 12.5, 9.5, 10.7]).text,
    /^no difference seen \(1\.03×, p = /,
  );
  assert.match(kind([1, 2, 3], [4, 5, 6]).text, /^not comparable: 3 and 3 runs are too few/);
  const many = kind(
    Array.from({ length: 30 }, (_, i) => 20 + i / 100),
    Array.from({ length: 30 }, (_, i) => 10 + i / 100),
  );
  assert.match(many.text, /^faster 2\.01× \(p < 0\.001\)$|^faster 1\.99× \(p < 0\.001\)$/);
});

/** A profile of five runs. */
const profiled = (speeds: readonly number[], more: Partial<Profile> = {}): Profile => ({
  ...summarize(
    about,
    speeds.map((slow) => run(slow)),
    speeds.map((slow) => 19 * slow),
  ),
  ...more,
});
const fast = [1, 1.01, 1.02, 1.005, 0.99];
const slow = [1.2, 1.22, 1.21, 1.19, 1.23];

test("profiles are compared in all and kernel by kernel", () => {
  const { wall, gpu, kernels, notes } = diffProfiles(profiled(slow), profiled(fast, { driver: "e" }));
  assert.match(wall.verdict.text, /^faster 1\.20× \(p = 0\.0079\)$/);
  assert.equal(gpu.verdict.kind, "faster");
  assert.deepEqual(
    kernels.map(({ name, shape, verdict }) => [name, shape, verdict.kind]),
    [["matmul.forward", "M=8", "faster"]],
  );
  assert.deepEqual(notes, ["driver d → e"]);
  assert.match(diffProfiles(profiled(fast), profiled(fast)).wall.verdict.text, /^no difference seen/);
});

test("profiles of other adapters, workloads and shapes are not compared, and say why", () => {
  const verdicts = (a: Profile, b: Profile) => {
    const { wall, kernels } = diffProfiles(a, b);
    return [wall, ...kernels].map(({ verdict }) => verdict.text);
  };
  const own = profiled(fast);
  for (const text of verdicts(own, profiled(slow, { adapter: "b" })))
    assert.equal(text, "not comparable: other adapter, a and b");
  for (const text of verdicts(own, profiled(slow, { command: "profile train" })))
    assert.equal(text, "not comparable: other workload, profile predict and profile train");
  for (const text of verdicts(own, profiled(slow, { options: { seconds: 4 } })))
    assert.match(text, /^not comparable: other options, /);
  const kernels = own.kernels.map((each) => ({ ...each, shape: { M: 9 } }));
  assert.deepEqual(verdicts(own, { ...own, kernels }).slice(1), [
    "not comparable: only the first has it",
    "not comparable: only the second has it",
  ]);
  const calls = own.kernels.map((each) => ({ ...each, calls: 5 }));
  assert.deepEqual(verdicts(own, { ...own, kernels: calls }).slice(1), ["not comparable: 2 calls against 5"]);
  const variants = own.kernels.map((each) => ({ ...each, variant: "scalar" }));
  const [changed] = diffProfiles(own, { ...own, kernels: variants }).kernels;
  assert.equal(changed.shape, "M=8 [vec in 1×2×3 → scalar in 1×2×3]");
  assert.equal(changed.verdict.kind, "same");
});

test("a trace has tracks for GPU, CPU and memory, spans that nest, and arguments on every dispatch", () => {
  const profile = summarize({ ...about, peaks }, [run()], [19]);
  const { traceEvents } = JSON.parse(JSON.stringify(chromeTrace(profile)));
  const names = (ph: string) =>
    traceEvents.filter((e: { ph: string }) => e.ph === ph).map((e: { name: string }) => e.name);
  assert.deepEqual(new Set(names("M")), new Set(["process_name", "thread_name"]));
  assert.deepEqual(names("C"), ["GPU buffers", "GPU buffers"]);
  const spans = traceEvents.filter((e: { ph: string }) => e.ph === "X");
  const tracks = new Map<string, { name: string; ts: number; dur: number }[]>();
  for (const span of spans) {
    assert.ok(Number.isFinite(span.ts) && span.dur >= 0, JSON.stringify(span));
    const key = `${span.pid}.${span.tid}`;
    tracks.set(key, [...(tracks.get(key) ?? []), span]);
  }
  assert.deepEqual([...tracks.keys()].sort(), ["1.1", "1.2", "1.3", "2.1"]);
  for (const [key, all] of tracks)
    for (const a of all)
      for (const b of all)
        if (a !== b && b.ts > a.ts && b.ts < a.ts + a.dur - 1e-6)
          assert.ok(b.ts + b.dur <= a.ts + a.dur + 1e-6, `${key}: ${a.name} and ${b.name} overlap`);
  const dispatch = spans.find((e: { pid: number; tid: number }) => e.pid === 1 && e.tid === 3);
  assert.equal(dispatch.name, "matmul.forward");
  const { args } = dispatch;
  assert.deepEqual(
    [args.shape, args.grid, args.variant, args.layer],
    [{ M: 8 }, "1×2×3", "vec", "encoder.0"],
  );
  near(args["GFLOP/s"], 1000 / 0.004 / 1e9);
  near(args.share, 0.001 / 4);
});

test("readProfile() takes what was written, and refuses what is none", async () => {
  const given = profiled(fast, { commit: "abc" });
  const reading = (json: unknown) =>
    readProfile(
      { readBytes: async () => new TextEncoder().encode(JSON.stringify(json)) } as unknown as Host,
      "p.json",
    );
  const text = JSON.parse(JSON.stringify(given));
  assert.deepEqual(JSON.parse(JSON.stringify(await reading(text))), text);
  await assert.rejects(reading({ ...text, version: 2 }), {
    message: /^Cannot use p\.json: version is 2 .*1, as/,
  });
  await assert.rejects(reading({ ...text, runs: "5" }), { message: /p\.json: runs is "5"/ });
  await assert.rejects(reading({ ...text, kernels: [{}] }), {
    message: /p\.json: it lacks the key kernels\.0\.name/,
  });
});
