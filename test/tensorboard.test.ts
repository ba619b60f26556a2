import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c, TensorBoardEvents } from "../src/train/tensorboard.ts";

test("TensorBoardEvents writes records with their checksums", () => {
  // RFC 3720, B.4: 32 bytes of zeros, and "123456789".
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  const bytes = new TensorBoardEvents().scalars(300, [["stage1/loss", 0.5]], true);
  const view = new DataView(bytes.buffer);
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    const data = bytes.subarray(at + 12, at + 12 + length);
    for (const [part, place] of [
      [bytes.subarray(at, at + 8), at + 8],
      [data, at + 12 + length],
    ] as const) {
      const crc = crc32c(part);
      assert.equal(view.getUint32(place, true), (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
    }
    found.push(data);
    at += length + 16;
  }
  const text = found.map((data) => new TextDecoder("latin1").decode(data));
  assert.equal(found.length, 2);
  assert.match(text[0], /brain\.Event:2$/);
  assert.match(text[1], /stage1\/loss/);
});
