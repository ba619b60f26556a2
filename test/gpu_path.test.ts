/**
 * The paths that kernels can go on this adapter besides the one that they go by default, which records.test.ts goes: all
 * are held to the same float64 references. A CPU adapter tests so what a GPU gets: tiles in workgroup memory, 64 threads,
 * no subgroups.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FEWEST_LANES, PATHS } from "../src/gpu/launch.ts";
import { testDevice } from "./device.ts";
import { assertSample, chosenRecords, testRecord } from "./records_fixture.ts";

const records = await chosenRecords();
const { cpu, path: usual, subgroup } = (await testDevice()).info;
const possible = PATHS.filter((path) => path !== "subgroups" || subgroup >= FEWEST_LANES);
// Attention of path cpu compiles for 20 s on lavapipe through Dawn; through wgpu it is the default there.
const others = possible.filter((path) => path !== usual && !(path === "cpu" && cpu));

test("the adapter can go at least one other path", () => {
  assert.ok(possible.includes(usual));
  assert.ok(others.length >= 1);
});

// The two runtimes differ in how they translate a text, not in the sizes that it then works for: Node tries all of them.
const underDeno = "Deno" in globalThis;
const most = underDeno ? 1 : Number.POSITIVE_INFINITY;

for (const path of others) {
  const device = await testDevice({ path });
  for (const record of records)
    testRecord(device, { ...record, samples: record.samples.slice(0, most) }, ` by path ${path}`);
}

// CPU adapters take the tiles of Intel's GPUs, as those compile sooner; these are all others'.
for (const [what, title] of [
  ["heads in slices, dropout and a mask", /^crossAttention.*288/],
  ["heads of 64 and a mask", /^selfAttention.*149, 384/],
] as const)
  test(`attention by the tiles of large GPUs agrees with float64: ${what}`, async (t) => {
    if (underDeno) return t.skip("Node runs it: it compiles for half a minute");
    const sample = records.flatMap((r) => r.samples).find((each) => title.test(each.title));
    if (!sample) return t.skip("WAVEGATE_OPERATORS leaves attention out");
    const device = await testDevice({ path: "portable" });
    Object.defineProperty(device, "info", { value: { ...device.info, cpu: false } });
    await assertSample(device, sample);
  });
