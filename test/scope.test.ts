import assert from "node:assert/strict";
import { test } from "node:test";
import { sizeClass } from "../src/gpu/pool.ts";
import { convert, halved } from "../src/ops/convert.ts";
import { add, full, scale } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const live = () => device.pool.statistics.live;
const ones = () => full(device, [100], 1);

test("scope() frees all that was made inside but what it returns, in objects, arrays and maps too", async () => {
  const before = live();
  const kept = scope(device, () => {
    const [a, b, c, d] = [ones(), ones(), ones(), ones()];
    scale(a, 2);
    return { a, list: [b, { c }], map: new Map([["d", d]]), number: 3, nothing: null };
  });
  assert.equal(live() - before, 4 * sizeClass(400));
  for (const t of [
    kept.a,
    kept.list[0] as Tensor,
    (kept.list[1] as { c: Tensor }).c,
    kept.map.get("d") as Tensor,
  ]) {
    assert.equal((await t.read())[99], 1);
    t.release();
  }
  assert.equal(live(), before);
});

test("scope() inside a scope passes what it returns to the outer one", () => {
  const before = live();
  scope(device, () => {
    const inner = scope(device, () => add(ones(), ones()));
    assert.ok(live() > before);
    scope(device, () => scale(inner, 2));
  });
  assert.equal(live(), before);
});

test("scope() frees everything where its body throws", () => {
  const before = live();
  assert.throws(
    () =>
      scope(device, () => {
        ones();
        scope(device, () => {
          ones();
          throw new Error("inside");
        });
      }),
    { message: "inside" },
  );
  assert.equal(live(), before);
  scope(device, ones).release();
  assert.equal(live(), before, "the stack of scopes is whole");
});

test("scope() refuses a body that returns a Promise, and frees what it made", () => {
  const before = live();
  assert.throws(() => scope(device, async () => ones()), {
    name: "TypeError",
    message: "Cannot end a scope: its body returned a Promise, but must be synchronous",
  });
  assert.equal(live(), before);
});

test("scope() ends a tensor: using it later says so", () => {
  let lost: Tensor | undefined;
  scope(device, () => {
    lost = ones();
  });
  assert.throws(() => scale(lost as Tensor, 2), {
    message: "Cannot use a tensor of shape (100): it was released, or its scope has ended",
  });
});

test("Tensor.keep() outlives the scope until release()", () => {
  const before = live();
  let held: Tensor | undefined;
  scope(device, () => {
    held = ones().keep();
  });
  assert.ok(live() > before);
  held?.release();
  assert.equal(live(), before);
});

test("Tensor.reshaped() shares the buffer, which lives as long as either", async () => {
  const before = live();
  const view = scope(device, () => ones().reshaped([10, 10]));
  assert.equal((await view.read()).length, 100);
  view.release();
  assert.equal(live(), before);
});

test("Tensor.from() and write() refuse data of another length", () => {
  scope(device, () => {
    assert.throws(() => Tensor.from(device, new Float32Array(5), [2, 3]), {
      name: "TypeError",
      message: "Cannot make a tensor of shape (2, 3) from 5 values",
    });
    assert.throws(() => ones().write(new Float32Array(99)), {
      message: "Cannot write 99 values to a tensor of shape (100)",
    });
  });
});

test("Tensor.read() and readIntegers() refuse other types, and what they advise works", async () => {
  const ids = Tensor.from(device, Int32Array.of(-1, 7), [2]);
  await assert.rejects(ids.read(), { message: "Cannot read a tensor of i32 as f32: use readIntegers()" });
  assert.deepEqual(await ids.readIntegers(), Int32Array.of(-1, 7));
  const seeds = Tensor.from(device, Uint32Array.of(1, 0xffffffff), [2]);
  await assert.rejects(seeds.read(), { message: "Cannot read a tensor of u32 as f32: use readIntegers()" });
  assert.deepEqual(await seeds.readIntegers(), Uint32Array.of(1, 0xffffffff));
  const y = ones();
  await assert.rejects(y.readIntegers(), { message: "Cannot read a tensor of f32 as integers: use read()" });
  assert.deepEqual(await y.read(), new Float32Array(y.size).fill(1));
  const half = scope(device, () => halved(Tensor.from(device, Float32Array.of(0.5, -3, 65504), [3])));
  for (const [read, as] of [
    [half.read(), "f32"],
    [half.readIntegers(), "integers"],
  ] as const)
    await assert.rejects(read, {
      message: `Cannot read a tensor of f16 as ${as}: use read() on ops.convert(tensor, "F16", tensor.shape, "f32")`,
    });
  const single = convert(half, "F16", half.shape, "f32");
  assert.deepEqual(await single.read(), Float32Array.of(0.5, -3, 65504));
  for (const t of [ids, seeds, y, half, single]) t.release();
});

test("scope() around vjp() leaves no byte alive, whether it ends well or not", () => {
  const before = live();
  const step = (fail: boolean) =>
    scope(device, () => {
      const x = ones();
      vjp(device, [x], () => {
        const y = scale(scale(x, 2), 3);
        if (fail) throw new Error("inside vjp");
        return { outputs: [y], cotangents: [ones()] };
      });
    });
  step(false);
  assert.equal(live(), before);
  assert.throws(() => step(true), { message: "inside vjp" });
  assert.equal(live(), before);
});
