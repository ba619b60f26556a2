import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { normalize } from "../src/io/samples.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "wav-test-"));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, "a.wav");
const latin = (text: string) => Buffer.from(text, "latin1");

interface Header {
  magic?: string;
  tag?: number;
  bits?: number;
  /** Bytes of a frame. */
  block?: number;
  /** Bits that are used: makes the header an extensible one. */
  valid?: number;
  /** What the header says of its lengths, where that is not the truth. */
  riff?: number;
  data?: number;
  /** Stands before and behind the data. */
  before?: Buffer;
  behind?: Buffer;
}

const chunk = (id: string, body: Buffer, size = body.length) => {
  const head = latin(`${id}    `);
  head.writeUInt32LE(size, 4);
  return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
};

/** A mono file at 16 kHz. */
function file(samples: Buffer, header: Header = {}): Buffer {
  const { magic = "RIFF", tag = 1, bits = 16, block = bits / 8, valid, riff, data, before, behind } = header;
  const format = Buffer.alloc(valid === undefined ? 16 : 40);
  format.writeUInt16LE(valid === undefined ? tag : 0xfffe, 0);
  format.writeUInt16LE(1, 2);
  format.writeUInt32LE(16000, 4);
  format.writeUInt32LE(16000 * block, 8);
  format.writeUInt16LE(block, 12);
  format.writeUInt16LE(bits, 14);
  if (valid !== undefined) {
    format.writeUInt16LE(22, 16);
    format.writeUInt16LE(valid, 18);
    format.set([tag, 0, 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113], 24);
  }
  const none = Buffer.alloc(0);
  const parts = [chunk("fmt ", format), before ?? none, chunk("data", samples, data), behind ?? none];
  const all = Buffer.concat([latin(`${magic}    WAVE`), ...parts]);
  all.writeUInt32LE(riff ?? all.length - 8, 4);
  return all;
}

const read = (bytes: Uint8Array) => {
  writeFileSync(path, bytes);
  return readWav(host, path);
};
const pcm = (values: readonly number[]) => Buffer.from(Int16Array.from(values).buffer);
/** Speech-like enough: soft and loud, of either sign, never two chunks by chance. */
const waves = Array.from(
  { length: 20000 },
  (_, i) => Math.round(9000 * Math.sin(i / 7) * Math.sin(i / 900)) + 0,
);
const speech = pcm(waves);

const OPEN = "its header leaves the length open: read to the end of the file";
const LENGTHS: Record<string, [Header, string]> = {
  "10^9 frames of 16 bits, as speech servers write": [{ data: 2_000_000_000, riff: 2_000_000_036 }, OPEN],
  "10^9": [{ data: 1_000_000_000, riff: 1_000_000_036 }, OPEN],
  "0, RIFF's being that of an empty file, as Python's wave leaves it on a pipe": [
    { data: 0, riff: 36 },
    OPEN,
  ],
  "0, RIFF's being right": [{ data: 0 }, OPEN],
  "0 and 0": [{ data: 0, riff: 0 }, OPEN],
  "2^32 - 1 and the same, as ffmpeg leaves it on a pipe": [{ data: 0xffffffff, riff: 0xffffffff }, OPEN],
  "2^31 - 1 less its header": [{ data: 0x7fffffff - 36, riff: 0x7fffffff }, OPEN],
  "2^31": [{ data: 2 ** 31 }, OPEN],
  "44 too many in both": [
    { data: 40044, riff: 40080 },
    "its header announces 40044 bytes of samples, 40000 are there: read to the end of the file",
  ],
  "1,000 too many, RIFF's being right": [
    { data: 41000 },
    "its header announces 41000 bytes of samples, 40000 are there: read to the end of the file",
  ],
};

for (const [lengths, [header, note]] of Object.entries(LENGTHS)) {
  test(`readWav() reads to the end, with a note, where the length is ${lengths}`, async () => {
    const { samples, notes } = await read(file(speech, header));
    assert.deepEqual(
      [...samples],
      waves.map((value) => value / 2 ** 15),
    );
    assert.deepEqual(notes, [note]);
  });
}

test("readWav() has no note on a file that is right, whatever chunks it has", async () => {
  const list = chunk("LIST", latin("INFOISFT abc"));
  for (const header of [{}, { before: list }, { behind: list }, { behind: Buffer.alloc(5) }])
    assert.deepEqual((await read(file(speech, header))).notes, []);
});

test("readWav() finds the samples behind odd chunks that some programs leave without padding", async () => {
  const bare = (name: string, bytes: string) => chunk(name, latin(bytes)).subarray(0, 8 + bytes.length);
  for (const before of [
    bare("LIST", "INFO1"),
    Buffer.concat([bare("note", "abc"), bare("LIST", "INFO1")]),
    Buffer.concat([bare("note", "abc"), bare("abcd", "xyz"), chunk("JUNK", latin("odd"))]),
    Buffer.concat([bare("note", "abc"), latin("X")]), // padded with what is no zero
  ]) {
    const { samples, notes } = await read(file(speech, { before }));
    assert.equal(samples.length, 20000);
    assert.deepEqual(notes, []);
  }
});

test("readWav() says what behind the samples is not read", async () => {
  const twice = Buffer.concat([file(speech), file(speech)]);
  assert.deepEqual((await read(twice)).notes, ["40044 bytes behind its samples are not read"]);
  const { samples, notes } = await read(file(speech, { data: 30000, riff: 30036 }));
  assert.equal(samples.length, 15000);
  assert.deepEqual(notes, ["10000 bytes behind its samples are not read"]);
  assert.deepEqual((await read(file(speech, { behind: chunk("data", speech) }))).notes, [
    "only its first data chunk is read",
  ]);
});

test("readWav() refuses a file that is cut off, and one whose data is truly empty", async () => {
  await assert.rejects(read(file(speech).subarray(0, 20044)), {
    message: `Cannot read ${path}: it is cut off: 40000 bytes of samples announced, 20000 are there`,
  });
  const list = chunk("LIST", latin("INFOISFT".padEnd(4000)));
  await assert.rejects(read(file(Buffer.alloc(0), { behind: list })), /it holds no samples$/);
});

test("readWav() reads BW64, which is RF64 by another name", async () => {
  const ds64 = Buffer.alloc(28);
  ds64.writeBigUInt64LE(40000n, 8);
  const behind = chunk("axml", Buffer.alloc(3001));
  for (const magic of ["BW64", "RF64"]) {
    const bytes = file(speech, {
      magic,
      before: chunk("ds64", ds64),
      behind,
      riff: 0xffffffff,
      data: 0xffffffff,
    });
    const { samples, notes } = await read(bytes);
    assert.equal(samples.length, 20000);
    assert.deepEqual(notes, []);
  }
});

test("readWav() names what it cannot read", async () => {
  const lfs = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 12345\n`;
  const cases: [string, string][] = [
    [lfs, "it is a Git LFS pointer: run git lfs pull"],
    ["/annex/objects/SHA256E-s1--0.wav\n", "it is a git-annex pointer: run git annex get"],
    ...[
      ["NIST_1A\n   1024\nchannel_count -i 1\n", "NIST SPHERE"],
      ["\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "WebM"],
      ["\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska", "Matroska"],
      ["#!AMR\n<", "AMR"],
      ["#!AMR-WB\n", "AMR"],
      ["fLaC\0\0\0\x22", "FLAC"],
      ["\xff\xfb\x90\x64", "MP3"],
      ["\xff\xf1\x50\x80", "AAC"],
      ["OggS\0\x02", "Ogg"],
      ["FORM\0\0\x10\0AIFFCOMM", "AIFF"],
      ["\0\0\0\x20ftypM4A ", "MP4"],
      ["caff\0\x01", "Core Audio (CAF)"],
      ["<!DOCTYPE html>\n<html>", "a web page (HTML)"],
      ["\n  <html lang=en><head>", "a web page (HTML)"],
      ["<?xml version='1.0'?><Error>", "XML"],
      ["PK\x03\x04", "a ZIP archive"],
      ["\xff\xfe<\0h\0t\0m\0l\0>\0", "a web page (HTML)"],
      ['{"error": {"code": 404}}', "JSON"],
      ['\n[{"error": 1}]', "JSON"],
      ["ID3\x03\0\0\0\0\0\0RIFF\0\0\0\0WAVEfmt ", "a WAVE file behind an ID3 tag"],
      ["\0\0\x10\0moov", "QuickTime"],
      ["\x89PNG\r\n", "a picture (PNG)"],
      ["7z\xbc\xaf", "a 7z archive"],
    ].map(([bytes, kind]): [string, string] => [bytes, `it is ${kind}, expected RIFF/WAVE`]),
  ];
  for (const [bytes, message] of cases)
    await assert.rejects(read(latin(bytes)), { message: `Cannot read ${path}: ${message}` }, message);
});

test("readWav() refuses a million empty chunks at once", async () => {
  const before = Buffer.alloc(8_000_000);
  for (let at = 0; at < before.length; at += 8) before.write("LIST", at);
  const start = performance.now();
  await assert.rejects(read(file(speech, { before })), /it has 10000 chunks before its samples$/);
  assert.deepEqual((await read(file(speech, { behind: before }))).notes, [
    "8000000 bytes behind its samples are not read",
  ]);
  assert.ok(performance.now() - start < 5000);
});

test("readWav() decodes mu-law and A-law to the values of ITU-T G.711", async () => {
  const bytes = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256));
  // Some of the values, and sums over all of them, as Python's audioop gives them.
  for (const [tag, some, weighted, absolute] of [
    [7, { 0: -32124, 127: 0, 128: 32124, 255: 0, 254: 8, 126: -8, 239: 132, 80: -876 }, 98107392, 1532928],
    [6, { 85: -8, 213: 8, 42: -32256, 170: 32256, 212: 24, 245: 528, 128: 5504 }, 100139008, 1564672],
  ] as const) {
    for (const valid of [undefined, 8]) {
      const { samples } = await read(file(bytes, { tag, bits: 8, valid }));
      const values = Array.from(samples.subarray(0, 256), (sample) => sample * 2 ** 15);
      for (const [byte, value] of Object.entries(some)) assert.equal(values[Number(byte)] + 0, value);
      assert.equal(
        values.reduce((sum, value, i) => sum + i * value, 0),
        weighted,
      );
      assert.equal(
        values.reduce((sum, value) => sum + Math.abs(value), 0),
        absolute,
      );
    }
  }
});

test("readWav() reads 24 bits in 4 bytes, wherever in them they stand", async () => {
  const values = waves.map((value) => value * 200 + (value % 7)); // of 24 bits
  const ints = (scale: number) => Buffer.from(Int32Array.from(values, (value) => value * scale).buffer);
  const floats = Buffer.from(Float32Array.from(values, (value) => value / 2 ** 23).buffer);
  const expected = Float32Array.from(values, (value) => value / 2 ** 23);
  for (const [bytes, header] of [
    [ints(256), { bits: 32, block: 4, valid: 24 }],
    [ints(256), { bits: 24, block: 4, valid: 24 }],
    [ints(256), { bits: 24, block: 4 }],
    [ints(1), { bits: 24, block: 4, valid: 24 }],
    [ints(1), { bits: 24, block: 4 }],
    [floats, { bits: 24, block: 4 }],
  ] as [Buffer, Header][]) {
    assert.deepEqual((await read(file(bytes, header))).samples, expected, JSON.stringify(header));
  }
});

test("normalize() refuses a recording with a NaN or an infinity, and an empty one", () => {
  const message = (bad: string) => `Cannot normalize a recording: ${bad}`;
  assert.throws(() => normalize(Float32Array.of(1, Number.NaN, 2)), {
    name: "RangeError",
    message: message("sample 1 is NaN, expected a finite number"),
  });
  assert.throws(() => normalize(Float32Array.of(1, 2, Number.NEGATIVE_INFINITY)), {
    message: message("sample 2 is -Infinity, expected a finite number"),
  });
  assert.throws(() => normalize(new Float32Array(0)), { message: message("it holds no samples") });
  assert.equal(normalize(Float32Array.of(3e38, -3e38)).length, 2);
});

test("readWav() refuses samples that leave float32 when they are resampled", async () => {
  const bytes = Buffer.from(
    Float32Array.from({ length: 2000 }, (_, i) => ((i >> 5) & 1 ? 3.4e38 : -3.4e38)).buffer,
  );
  const loud = file(bytes, { tag: 3, bits: 32 });
  loud.writeUInt32LE(24000, 24);
  await assert.rejects(read(loud), /sample \d+ is -?Infinity, expected a finite number$/);
});
