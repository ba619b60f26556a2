/** What must not grow while a process runs for days: bind groups, memory maps, spare buffers, devices. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { BindGroups } from "../src/gpu/bind_groups.ts";
import { openDevice } from "../src/gpu/device.ts";
import type { PoolBuffer } from "../src/gpu/pool.ts";
import { currentHost } from "../src/host/current.ts";
import { full, scale } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const host = await currentHost();

const group = () => ({}) as GPUBindGroup;
const buffers = (...ids: number[]) => ids.map((id) => ({ id }) as PoolBuffer);

test("BindGroups keeps the most recently used and forgets the rest", () => {
  const groups = new BindGroups(8);
  for (let i = 0; i < 100; i++) {
    // One that is used all the time stays, however many come and go.
    const used = groups.find(1, buffers(7)) ?? groups.add(1, buffers(7), group());
    assert.ok(groups.find(0, buffers(i)) === undefined);
    const made = groups.add(0, buffers(i), group());
    assert.equal(groups.find(0, buffers(i)), made);
    assert.equal(groups.find(1, buffers(7)), used, `forgotten at ${i}`);
    assert.ok(groups.size <= 8);
  }
  assert.equal(groups.find(0, buffers(0)), undefined);
  assert.ok(groups.find(0, buffers(99)));
  groups.forget(new Set([99]));
  assert.equal(groups.find(0, buffers(99)), undefined, "its buffer was destroyed");
});

test("BindGroups tells apart all pipelines and buffers, also those of one hash", () => {
  const groups = new BindGroups(2 ** 18);
  const of = (i: number) => [i & 3, buffers(i & 255, i >> 8, 5)] as const;
  // As many as have equal hashes by chance: 6 pairs of 2 ** 17 in 2 ** 30.
  const made = Array.from({ length: 2 ** 17 }, (_, i) => groups.add(...of(i), group()));
  assert.ok(made.every((each, i) => groups.find(...of(i)) === each));
  assert.equal(groups.find(0, buffers(0, 0)), undefined);
  groups.forget(new Set([5]));
  assert.equal(groups.size, 0);
  assert.equal(groups.alive, made.length);
});

test("BindGroups.tidy() asks for a collection once many were let go, and not again until as many more are", async () => {
  const groups = new BindGroups(4, 10);
  let asked = 0;
  const collect = async () => void asked++;
  let n = 0;
  const add = async (count: number) => {
    for (let i = 0; i < count; i++) groups.add(n++, buffers(n), group());
    await Promise.all([groups.tidy(collect), groups.tidy(collect)]);
    return asked;
  };
  assert.equal(await add(14), 0);
  assert.equal(groups.alive, 14);
  assert.equal(await add(4), 1);
  assert.equal(groups.alive, groups.size);
  assert.equal(await add(10), 1);
  groups.forget(new Set([n - 1, n]));
  assert.equal(await add(2), 2, "those of destroyed buffers wait as well");
});

test("host.collectGarbage() frees what nobody holds, and runs its finalisers", async () => {
  let freed = 0;
  const registry = new FinalizationRegistry<undefined>(() => {
    freed++;
  });
  for (let i = 0; i < 100; i++) registry.register({ i }, undefined);
  await host.collectGarbage();
  assert.ok(freed >= 99, `${freed} of 100 were freed`);
});

test("a device keeps few bind groups and memory maps, whatever meets in its dispatches", async () => {
  const maps = () =>
    existsSync("/proc/self/maps") ? readFileSync("/proc/self/maps", "latin1").split("\n").length : 0;
  const before = { alive: device.bindGroups.alive, maps: maps() };
  // 200 inputs and 200 outputs of equal size meet in 40,000 pairs, as tensors do in a run of mixed lengths.
  const many = scope(device, () => Array.from({ length: 200 }, () => full(device, [64], 1)));
  for (let i = 0; i < many.length; i++) {
    const out = scope(device, () => many.map((x, j) => scale(many[(i + j) % many.length] ?? x, 2)));
    await device.idle();
    for (const tensor of out) tensor.release();
  }
  for (const tensor of many) tensor.release();
  const alive = device.bindGroups.alive - before.alive;
  assert.ok(alive <= 25_000, `${alive} bind groups are alive`);
  assert.ok(device.bindGroups.size <= 16_384);
  assert.ok(maps() - before.maps <= 30_000, `${maps() - before.maps} memory maps were added`);
});

test("Device.read() keeps few bytes of spare buffers, however many sizes are read", async () => {
  const sizes = Array.from({ length: 12 }, (_, i) => (2 + i) * 2 ** 18);
  const made: GPUBuffer[] = [];
  const create = device.gpu.createBuffer.bind(device.gpu);
  device.gpu.createBuffer = (descriptor) => {
    const buffer = create(descriptor);
    if (descriptor.label === "staging") made.push(buffer);
    return buffer;
  };
  let destroyed = 0;
  for (const size of sizes) {
    const tensor = full(device, [size], 3);
    const values = await tensor.read();
    assert.ok(values.length === size && values[size - 1] === 3);
    tensor.release();
    const last = made.at(-1)!;
    const destroy = last.destroy.bind(last);
    last.destroy = () => {
      destroyed += last.size;
      destroy();
    };
  }
  device.gpu.createBuffer = create;
  const kept = made.reduce((sum, { size }) => sum + size, 0) - destroyed;
  assert.ok(kept <= 64 * 2 ** 20, `${kept} bytes are kept`);
});

test("devices that are opened and disposed of leave no memory map or file behind", async () => {
  if (!existsSync("/proc/self/fd")) return;
  const count = () => ({
    files: readdirSync("/proc/self/fd").length,
    maps: readFileSync("/proc/self/maps", "latin1").split("\n").length,
  });
  const once = async () => {
    const device = await openDevice(host);
    const y = scope(device, () => scale(full(device, [1000], 2), 3));
    assert.equal((await y.read())[0], 6);
    y.release();
    device.dispose();
    await host.collectGarbage();
  };
  for (let i = 0; i < 3; i++) await once();
  const before = count();
  for (let i = 0; i < 6; i++) await once();
  const after = count();
  assert.ok(after.files <= before.files + 2, `${after.files - before.files} files stay open`);
  assert.ok(after.maps <= before.maps + 100, `${after.maps - before.maps} memory maps stay`);
});
