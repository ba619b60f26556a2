import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { sizeClass } from "../src/gpu/pool.ts";
import { add, full, scale } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const MiB = 2 ** 20;

test("sizeClass() holds the request, wastes at most an eighth and is its own class", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (bytes) => {
      const size = sizeClass(bytes);
      assert.ok(size >= bytes && size % 32 === 0);
      assert.ok(size <= Math.max(256, bytes * 1.125), `${bytes} became ${size}`);
      assert.equal(sizeClass(size), size);
    }),
  );
});

test("Pool hands out the lowest-numbered free buffer, and counts live, allocated and created", () => {
  const { pool } = device;
  const start = { ...pool.statistics };
  const [a, b, c] = [5 * MiB, 5 * MiB, 5 * MiB].map((bytes) => pool.acquire(bytes));
  assert.equal(pool.statistics.live - start.live, 15 * MiB);
  for (const buffer of [b, c, a]) pool.release(buffer);
  assert.equal(pool.statistics.live, start.live);
  assert.equal(pool.acquire(5 * MiB), a);
  assert.equal(pool.acquire(5 * MiB - 100), b);
  assert.equal(pool.statistics.created - start.created, 3);
  assert.equal(pool.statistics.allocated - start.allocated, 15 * MiB);
  for (const buffer of [a, b]) pool.release(buffer);
  pool.trim();
  assert.ok(pool.statistics.allocated <= start.allocated);
  assert.ok(pool.statistics.peak >= start.allocated + 15 * MiB);
});

test("Pool refuses a buffer larger than the adapter binds", () => {
  const most = Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize);
  assert.throws(() => device.pool.acquire(most * 2), {
    name: "RangeError",
    message: /^Cannot allocate [\d.]+ MiB on the GPU: the adapter binds at most [\d.]+ MiB at once$/,
  });
});

test("Pool reuses a buffer that recorded work still reads, and an upload into it waits for that work", async () => {
  const first = scope(device, () => scale(Tensor.from(device, new Float32Array(1000).fill(1), [1000]), 2));
  const { created } = device.pool.statistics;
  const second = Tensor.from(device, new Float32Array(1000).fill(5), [1000]);
  assert.equal(device.pool.statistics.created, created, "the second input should be the first one's buffer");
  assert.deepEqual(await first.read(), new Float32Array(1000).fill(2));
  assert.deepEqual(await second.read(), new Float32Array(1000).fill(5));
  first.release();
  second.release();
});

test("Device makes no buffer, bind group or pipeline for a forward of a shape seen before", async () => {
  const once = async () => {
    const y = scope(device, () => {
      const x = Tensor.from(device, new Float32Array(77).fill(3), [77]);
      return add(scale(x, 2), scale(x, -1));
    });
    await y.read();
    y.release();
  };
  const made = () => [device.pool.statistics.created, device.counters.bindGroups, device.counters.pipelines];
  await once();
  const before = made();
  for (let i = 0; i < 5; i++) await once();
  assert.deepEqual(made(), before);
});

test("Device with a memory limit says how much is in use, and goes on once that is freed", async () => {
  const small = await testDevice({ memoryLimit: 8 * MiB });
  const held = full(small, [(3 * MiB) / 4], 1);
  const large = () => full(small, [(6 * MiB) / 4], 2);
  assert.throws(large, {
    name: "RangeError",
    message: "Cannot allocate 6.0 MiB on the GPU: 3.0 MiB are in use and the limit is 8.0 MiB",
  });
  // The work that fills it is recorded, not yet submitted, when the pool must give its free buffer up.
  const sum = scope(small, () => scale(held, 5));
  held.release();
  const kept = scope(small, () => full(small, [(5 * MiB) / 4], 2));
  assert.ok(small.pool.statistics.allocated <= 8 * MiB);
  assert.deepEqual([...(await sum.read()).subarray(0, 2)], [5, 5]);
  assert.deepEqual([...(await kept.read()).subarray(0, 2)], [2, 2]);
});

test("Pool holds at most four times what was ever live and 256 MiB, and lets the longest unused go", async () => {
  const device = await testDevice();
  const { pool } = device;
  // Ever longer sequences: what a class held at most would stay for good.
  const sizes = Array.from({ length: 24 }, (_, i) => (64 + 2 * i) * MiB);
  for (const bytes of sizes) pool.release(pool.acquire(bytes));
  const most = 4 * sizes[23] * 1.125 + 256 * MiB;
  assert.ok(pool.statistics.allocated <= most, `${pool.statistics.allocated / MiB} MiB are held`);
  const { created } = pool.statistics;
  pool.release(pool.acquire(sizes[23]));
  assert.equal(pool.statistics.created, created, "the newest was let go");
});
