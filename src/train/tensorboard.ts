/**
 * TensorBoard's event file: TFRecords of Event messages (tensorflow/core/util/event.proto, record_writer.cc).
 *
 * A record is its length (u64), the masked CRC32C of the length, the bytes, the masked CRC32C of the bytes.
 */
import { joinBytes } from "../host/join_bytes.ts";

const encoder = new TextEncoder();

/** CRC-32C (Castagnoli), by its table. */
const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c >>> 0;
});

export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = table[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

const masked = (bytes: Uint8Array): number => {
  const c = crc32c(bytes);
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0;
};

function record(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length + 16);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(out.subarray(0, 8)), true);
  out.set(data, 12);
  view.setUint32(12 + data.length, masked(data), true);
  return out;
}

/** A message of protocol buffers, written field by field. */
class Message {
  readonly bytes: number[] = [];

  varint(field: number, value: number): this {
    return this.#tag(field, 0).#varint(value);
  }
  double(field: number, value: number): this {
    const at = new Uint8Array(8);
    new DataView(at.buffer).setFloat64(0, value, true);
    this.#tag(field, 1).bytes.push(...at);
    return this;
  }
  float(field: number, value: number): this {
    const at = new Uint8Array(4);
    new DataView(at.buffer).setFloat32(0, value, true);
    this.#tag(field, 5).bytes.push(...at);
    return this;
  }
  nested(field: number, value: string | Message): this {
    const bytes = typeof value === "string" ? [...encoder.encode(value)] : value.bytes;
    this.#tag(field, 2)
      .#varint(bytes.length)
      .bytes.push(...bytes);
    return this;
  }
  #tag(field: number, wire: number): this {
    return this.#varint(field * 8 + wire);
  }
  #varint(value: number): this {
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) this.bytes.push((rest % 128) | 128);
    this.bytes.push(rest);
    return this;
  }
}

/** Bytes to append to an events file. */
export class TensorBoardEvents {
  /** One event with scalars of a step; `first` puts the file's version record before it. */
  scalars(step: number, values: readonly (readonly [string, number])[], first: boolean): Uint8Array {
    const now = Date.now() / 1000;
    const summary = new Message();
    for (const [tag, value] of values) summary.nested(1, new Message().nested(1, tag).float(2, value));
    const event = new Message().double(1, now).varint(2, step).nested(5, summary);
    const body = record(Uint8Array.from(event.bytes));
    if (!first) return body;
    const head = record(Uint8Array.from(new Message().double(1, now).nested(3, "brain.Event:2").bytes));
    return joinBytes([head, body]);
  }
}

/** How many bytes at the start of an events file are whole records, by their lengths. */
export function wholeRecords(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 16 <= bytes.length) {
    const next = at + 16 + Number(view.getBigUint64(at, true));
    if (next > bytes.length) break;
    at = next;
  }
  return at;
}
