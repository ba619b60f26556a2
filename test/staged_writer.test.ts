import assert from "node:assert/strict";
import { test } from "node:test";
import { StagedWriter } from "../src/gpu/staged_writer.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();

test("StagedWriter writes what is longer than its buffers together, and goes on after pieces that could not be read", async () => {
  const writer = new StagedWriter(device);
  const count = 3_000_001;
  const tensor = Tensor.over(device, device.pool.acquire(4 * count), [count]);
  const pieces: number[] = [];
  const write = (fail: boolean) =>
    writer.write(tensor.buffer, 4 * count, async (target, from) => {
      if (fail && from > 0) throw new Error("no more");
      pieces.push(target.length);
      const words = new Float32Array(target.buffer, target.byteOffset, target.length / 4);
      for (let i = 0; i < words.length; i++) words[i] = from / 4 + i;
    });
  for (let i = 0; i < 5; i++) await assert.rejects(write(true), /no more/);
  await write(false);
  writer.dispose();
  const read = await tensor.read();
  assert.equal(read.length, count);
  assert.equal(
    read.findIndex((each, i) => each !== i),
    -1,
  );
  assert.ok(Math.max(...pieces) < 4 * count, "no piece is the whole");
  tensor.release();
});

test("StagedWriter touches the pages of a large buffer first where they are main memory, and nothing behind what it writes", async () => {
  const writer = new StagedWriter(device);
  const tensor = Tensor.from(device, new Float32Array(2 ** 21).fill(7), [2 ** 21]);
  const write = async (count: number) => {
    device.startProfile();
    await writer.write(tensor.buffer, 4 * count, async (target) => {
      target.fill(0);
    });
    return (await device.endProfile()).map(({ label }) => label);
  };
  const touched = device.info.cpu && device.host.name === "node";
  assert.deepEqual(await write(2 ** 20 - 1), [], "one piece");
  assert.equal((await write(2 ** 20 + 1)).filter((label) => label.includes("pages.touch")).length, +touched);
  writer.dispose();
  const read = await tensor.read();
  assert.equal(
    read.findIndex((each) => each !== 0),
    2 ** 20 + 1,
  );
  assert.ok(read.subarray(2 ** 20 + 1).every((each) => each === 7));
  tensor.release();
});
