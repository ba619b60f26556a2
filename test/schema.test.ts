import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as v from "valibot";
import { currentHost } from "../src/host/current.ts";
import {
  anyObject,
  finite,
  finiteOrNan,
  integer,
  object,
  parse,
  readJsonAs,
  readJsonLinesAs,
  readOptionalJsonAs,
  record,
  strictObject,
} from "../src/io/schema.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "schema-test-"));
after(() => rmSync(folder, { recursive: true }));

const clip = object({ id: v.string(), state: v.picklist(["low", "flat"]) });
const schema = strictObject({
  epochs: integer(1, 9),
  seed: v.optional(integer(0), 7),
  rate: v.nullish(finite),
  kind: v.optional(v.literal(1)),
  on: v.optional(v.boolean()),
  clips: v.optional(v.array(clip)),
  heads: v.optional(record(object({ width: integer(1) }))),
  more: v.optional(anyObject),
});

function refused(value: unknown, message: string): void {
  assert.throws(() => parse(schema, value, "a.json"), {
    name: "SyntaxError",
    message: `Cannot use a.json: ${message}`,
  });
}

test("parse() gives what the schema says, defaults in the place of what is absent", () => {
  assert.deepEqual(parse(schema, { epochs: 1, rate: null }, "a.json"), { epochs: 1, seed: 7, rate: null });
  assert.deepEqual(parse(clip, { id: "x", state: "low", other: 1 }, "a.json"), { id: "x", state: "low" });
  assert.ok(Number.isNaN(parse(finiteOrNan, null, "a.json")));
});

test("parse() names the key, what it holds and what it should, in one short line", () => {
  refused({ epochs: 1.5 }, "epochs is 1.5 but should be a whole number from 1 to 9");
  refused({ epochs: 10 }, "epochs is 10 but should be a whole number from 1 to 9");
  refused({ epochs: "3" }, 'epochs is "3" but should be a whole number from 1 to 9');
  refused({ epochs: Number.NaN }, "epochs is NaN but should be a whole number from 1 to 9");
  refused(
    { epochs: 1, seed: 2 ** 53 },
    "seed is 9007199254740992 but should be a whole number from 0 to 2^53 - 1",
  );
  refused({ epochs: 1, rate: Number.POSITIVE_INFINITY }, "rate is Infinity but should be a finite number");
  refused({ epochs: 1, kind: 2 }, "kind is 2 but should be 1");
  refused({ epochs: 1, on: "true" }, 'on is "true" but should be true or false');
  refused({ epochs: 1, clips: {} }, "clips is {} but should be a list");
  refused({ epochs: 1, clips: [{ id: 5, state: "low" }] }, "clips.0.id is 5 but should be a string");
  refused(
    { epochs: 1, clips: [{ id: "x", state: "up" }] },
    'clips.0.state is "up" but should be one of low, flat',
  );
  assert.throws(
    () => parse(schema, { epochs: "long ".repeat(1000) }, "a.json"),
    (error: Error) => error.message.length < 200,
  );
});

test("parse() says what an absent key should be, and which key an unknown one may stand for", () => {
  refused({}, "it lacks the key epochs, a whole number from 1 to 9");
  refused({ epochs: 1, clips: [{ id: "x" }] }, "it lacks the key clips.0.state, one of low, flat");
  refused(
    { epochs: 1, heads: { a: {} } },
    "it lacks the key heads.a.width, a whole number from 1 to 2^53 - 1",
  );
  refused({ epochs: 1, seeds: 2 }, "there is no key seeds; did you mean seed?");
  refused({ epochs: 1, "learning rate": 2 }, "there is no key learning rate");
});

test("parse() takes no list for an object, and drops no key of a record", () => {
  for (const value of [[], [1], null, "x", 3, undefined])
    assert.throws(() => parse(schema, value, "a.json"), / it is .* but should be an object$/);
  refused({ epochs: 1, heads: [] }, "heads is [] but should be an object");
  refused({ epochs: 1, more: [] }, "more is [] but should be an object");
  refused({ epochs: 1, clips: [[]] }, "clips.0 is [] but should be an object");
  for (const key of ["__proto__", "prototype", "constructor"])
    assert.throws(() => parse(schema, JSON.parse(`{"epochs": 1, "heads": {"${key}": {}}}`), "a.json"), {
      message: /heads is .* but should be without the keys __proto__, prototype and constructor$/,
    });
});

test("readJsonAs() and its kin name the file, and the line of one that has a value in each", async () => {
  const path = join(folder, "clips.json");
  await assert.rejects(readJsonAs(host, path, clip), {
    message: `Cannot read ${path}: no such file or folder`,
  });
  assert.deepEqual(await readOptionalJsonAs(host, path, object({ id: v.optional(v.string()) })), {});
  writeFileSync(path, '{"id": "x", "state": "lo');
  await assert.rejects(
    readJsonAs(host, path, clip),
    /^SyntaxError: Cannot read .*clips\.json: not JSON, line 1, column/,
  );
  const lines = (text: string) => {
    writeFileSync(path, text);
    return readJsonLinesAs(host, path, clip);
  };
  const [low, flat] = ['{"id":"x","state":"low"}', '{"id":"y","state":"flat"}'];
  assert.deepEqual(await lines(`${low}\n${flat}\n`), [JSON.parse(low), JSON.parse(flat)]);
  assert.deepEqual(await lines(`${low}\r\n${flat}`), [JSON.parse(low), JSON.parse(flat)]);
  await assert.rejects(lines(`${low}\n{"id":"y","st`), {
    message: `Cannot read ${path}, line 2: not JSON, column 14: expected '"' but found the end`,
  });
  await assert.rejects(lines(`${low}\n\n${flat}\n`), /, line 2: not JSON, column 1: expected a value/);
  await assert.rejects(lines(`${low}\n["y"]\n`), {
    message: `Cannot use ${path}, line 2: it is ["y"] but should be an object`,
  });
});
