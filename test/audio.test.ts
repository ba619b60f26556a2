import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { normalize } from "../src/io/samples.ts";
import { resample } from "../src/io/resample.ts";
import { writeWav16 } from "../src/io/wav.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "audio-test-"));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, "a.wav");

interface Shape {
  rate?: number;
  channels?: number;
  bits?: number;
  float?: boolean;
  extensible?: boolean;
  tag?: number;
  before?: Uint8Array;
  after?: Uint8Array;
  dataSize?: number;
  riffSize?: number;
  block?: number;
}

const chunk = (id: string, body: Uint8Array) => {
  const bytes = new Uint8Array(8 + body.length + (body.length % 2));
  bytes.set(new TextEncoder().encode(id));
  new DataView(bytes.buffer).setUint32(4, body.length, true);
  bytes.set(body, 8);
  return bytes;
};

const join8 = (parts: Uint8Array[]) => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** A WAV file of the given frames; frames[i][c] in [-1, 1]. */
function wav(frames: number[][], shape: Shape = {}): Uint8Array {
  const { rate = 16000, bits = 16, float = false, extensible = false } = shape;
  const channels = shape.channels ?? frames[0]?.length ?? 1;
  const width = Math.ceil(bits / 8);
  const format = new DataView(new ArrayBuffer(extensible ? 40 : 16));
  const tag = shape.tag ?? (float ? 3 : 1);
  format.setUint16(0, extensible ? 0xfffe : tag, true);
  format.setUint16(2, channels, true);
  format.setUint32(4, rate, true);
  format.setUint32(8, rate * width * channels, true);
  format.setUint16(12, shape.block ?? width * channels, true);
  format.setUint16(14, bits, true);
  if (extensible) {
    format.setUint16(16, 22, true);
    format.setUint16(18, bits, true);
    format.setUint16(24, tag, true);
    new Uint8Array(format.buffer).set([0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113], 26);
  }
  const data = new DataView(new ArrayBuffer(frames.length * width * channels));
  frames.flat().forEach((value, i) => {
    const at = i * width;
    if (float && width === 4) data.setFloat32(at, value, true);
    else if (float) data.setFloat64(at, value, true);
    else if (width === 1) data.setUint8(at, Math.round(value * 127 + 128));
    else {
      const integer = Math.round(value * (2 ** (8 * width - 1) - 1));
      for (let b = 0; b < width; b++) data.setUint8(at + b, (integer >> (8 * b)) & 255);
    }
  });
  const body = chunk("data", new Uint8Array(data.buffer));
  if (shape.dataSize !== undefined) new DataView(body.buffer).setUint32(4, shape.dataSize, true);
  const none = new Uint8Array(0);
  const all = join8([
    new TextEncoder().encode("RIFF    WAVE"),
    chunk("fmt ", new Uint8Array(format.buffer)),
    shape.before ?? none,
    body,
    shape.after ?? none,
  ]);
  new DataView(all.buffer).setUint32(4, shape.riffSize ?? all.length - 8, true);
  return all;
}

const tone = (length: number, rate = 16000, hertz = 440) =>
  Array.from({ length }, (_, i) => [0.5 * Math.sin((2 * Math.PI * hertz * i) / rate)]);

const read = (bytes: Uint8Array, options = {}) => {
  writeFileSync(path, bytes);
  return readWav(host, path, options);
};

function worst(actual: Float32Array, expected: (i: number) => number, from = 0, to = actual.length): number {
  let most = 0;
  for (let i = from; i < to; i++) most = Math.max(most, Math.abs(actual[i] - expected(i)));
  return most;
}

for (const [name, shape, tolerance] of [
  ["8-bit unsigned", { bits: 8 }, 1 / 127],
  ["12 bits in 16", { bits: 12 }, 2 ** -14],
  ["16-bit", { bits: 16 }, 2 ** -14],
  ["24-bit", { bits: 24 }, 2 ** -22],
  ["32-bit", { bits: 32 }, 1e-7],
  ["float32", { bits: 32, float: true }, 1e-7],
  ["float64", { bits: 64, float: true }, 1e-7],
  ["extensible 24-bit", { bits: 24, extensible: true }, 2 ** -22],
  ["extensible float32", { bits: 32, float: true, extensible: true }, 1e-7],
] as [string, Shape, number][]) {
  test(`readWav() decodes ${name} samples`, async () => {
    const frames = tone(1001);
    const audio = await read(wav(frames, shape));
    assert.equal(audio.samples.length, 1001);
    assert.ok(worst(audio.samples, (i) => frames[i][0]) < tolerance);
    assert.deepEqual([audio.sampleRate, audio.channels, audio.seconds], [16000, 1, 1001 / 16000]);
  });
}

test("readWav() takes the mean of all channels", async () => {
  const frames = tone(500).map(([x]) => [x, -x, x / 2, 0.25, -0.25]);
  const { samples, channels } = await read(wav(frames, { bits: 32, float: true }));
  assert.equal(channels, 5);
  assert.ok(worst(samples, (i) => frames[i][0] / 10) < 1e-7);
});

test("readWav() walks over other chunks, odd ones with their padding byte", async () => {
  const list = join8([chunk("LIST", new Uint8Array(7)), chunk("bext", new Uint8Array(10))]);
  for (const bits of [8, 16]) {
    const { samples } = await read(
      wav(tone(501), { bits, before: list, after: chunk("id3 ", new Uint8Array(9)) }),
    );
    assert.equal(samples.length, 501);
  }
});

test("readWav() reads to the end when a stream left the length open", async () => {
  for (const shape of [
    { dataSize: 0xffffffff, riffSize: 0xffffffff },
    { dataSize: 0, riffSize: 0 },
    { dataSize: 0x7ffff000, riffSize: 0x7ffff024 },
  ]) {
    assert.equal((await read(wav(tone(600), shape))).samples.length, 600);
  }
});

test("readWav() reads RF64, whose length stands in a chunk of its own", async () => {
  const ds64 = new DataView(new ArrayBuffer(28));
  ds64.setBigUint64(8, 1200n, true);
  const bytes = wav(tone(600), {
    before: chunk("ds64", new Uint8Array(ds64.buffer)),
    after: chunk("LIST", new Uint8Array(8)),
    dataSize: 0xffffffff,
    riffSize: 0xffffffff,
  });
  bytes.set(new TextEncoder().encode("RF64"));
  assert.equal((await read(bytes)).samples.length, 600);
});

const whole = wav(tone(600));
const BAD: Record<string, [Uint8Array, string]> = {
  "an empty file": [new Uint8Array(0), "the file is empty, expected RIFF/WAVE"],
  "a text": [new TextEncoder().encode("hello, this is text"), "it is not a sound file, expected RIFF/WAVE"],
  "an AVI file": [new TextEncoder().encode("RIFF    AVI LIST"), "it is not a sound file, expected RIFF/WAVE"],
  "an MP3 file": [new TextEncoder().encode("ID3\x04\0\0\0\0\0\0\0\0"), "it is MP3, expected RIFF/WAVE"],
  "a FLAC file": [new TextEncoder().encode("fLaC\0\0\0\x22aaaaaa"), "it is FLAC, expected RIFF/WAVE"],
  "a header alone": [whole.slice(0, 12), "it has no fmt chunk"],
  "a cut format": [whole.slice(0, 30), 'chunk "fmt " has 16 bytes, but only 10 follow'],
  "a file without data": [whole.slice(0, 36), "it has no data chunk"],
  "cut samples": [whole.slice(0, 1000), "it is cut off: 1200 bytes of samples announced, 956 are there"],
  "no samples": [wav([]), "it holds no samples"],
  "a short format": [
    join8([
      new TextEncoder().encode("RIFF    WAVE"),
      chunk("fmt ", new Uint8Array(14)),
      chunk("data", new Uint8Array(9)),
    ]),
    "the fmt chunk has 14 bytes, at least 16 expected",
  ],
  "data before its format": [
    join8([new TextEncoder().encode("RIFF    WAVE"), chunk("data", new Uint8Array(9))]),
    "the data stands before the fmt chunk",
  ],
  "MP3 in WAV": [wav(tone(600), { tag: 85 }), "its codec is MP3 (tag 85), expected PCM or float"],
  ADPCM: [wav(tone(600), { tag: 17 }), "its codec is IMA ADPCM (tag 17), expected PCM or float"],
  "mu-law of 16 bits": [wav(tone(600), { tag: 7 }), "its samples are mu-law of 16 bits, expected 8"],
  "an unknown codec": [wav(tone(600), { tag: 999 }), "its codec is unknown (tag 999), expected PCM or float"],
  "no channels": [wav([], { channels: 0 }), "it has 0 channels"],
  "no rate": [wav(tone(600), { rate: 0 }), "its rate is 0 Hz, expected 1000 to 384000"],
  "48-bit samples": [wav([], { bits: 48 }), "its samples are integers of 48 bits, expected 8, 16, 24, 32"],
  "16-bit floats": [wav([], { float: true }), "its samples are floats of 16 bits, expected 32, 64"],
  "a wrong frame size": [
    wav(tone(600), { block: 3 }),
    "its frames are 3 bytes, but 1 channels of 16 bits take 2",
  ],
  "399 samples": [wav(tone(399)), "it is too short: 24.9 ms, at least 25 ms needed"],
  "ten minutes": [
    wav([], { bits: 8, rate: 1000, dataSize: 600000, after: new Uint8Array(600000) }),
    "it is too long: 600.0 s, at most 300 s accepted",
  ],
  "a NaN": [
    wav([...tone(500), [Number.NaN]], { bits: 32, float: true }),
    "sample 500 is NaN, expected a finite number",
  ],
  "an infinity": [
    wav([[Number.NEGATIVE_INFINITY], ...tone(500)], { bits: 64, float: true }),
    "sample 0 is -Infinity, expected a finite number",
  ],
};

for (const [kind, [bytes, message]] of Object.entries(BAD)) {
  test(`readWav() refuses ${kind}`, async () => {
    await assert.rejects(read(bytes, { minSamples: 400 }), { message: `Cannot read ${path}: ${message}` });
  });
}

test("readWav() answers any damage with one clear line or with finite samples", async () => {
  const damage = fc.array(fc.record({ at: fc.nat(60), byte: fc.nat(255) }), { maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(damage, fc.nat(1400), async (bytes, cut) => {
      const content = whole.slice(0, cut > 1200 ? whole.length : cut);
      for (const { at, byte } of bytes) if (at < content.length) content[at] = byte;
      try {
        const { samples } = await read(content, { minSamples: 400 });
        assert.ok(samples.length >= 400 && samples.every(Number.isFinite));
      } catch (error) {
        assert.match((error as Error).message, /^Cannot read \S+: .+$/);
      }
    }),
    { numRuns: 300, seed: 1 },
  );
});

test("readWav() accepts as short and as long files as it is told to", async () => {
  assert.equal((await read(wav(tone(400)), { minSamples: 400 })).samples.length, 400);
  assert.equal((await read(wav(tone(1)))).samples.length, 1);
  await assert.rejects(read(wav(tone(16001)), { maxSeconds: 1 }), /too long: 1\.0 s, at most 1 s accepted/);
  assert.equal((await read(wav(tone(16000)), { maxSeconds: 1 })).samples.length, 16000);
});

for (const rate of [8000, 11025, 12000, 16001, 22050, 24000, 32000, 44100, 48000, 96000, 192000]) {
  test(`resample() turns a sine at ${rate} Hz into the same sine at 16 kHz`, () => {
    const length = Math.floor(rate * 0.3);
    for (const hertz of [50, 997, 0.44 * Math.min(rate, 16000)]) {
      const sine = (time: number) => 0.8 * Math.sin(2 * Math.PI * hertz * time + 0.3);
      const out = resample(
        Float32Array.from({ length }, (_, i) => sine(i / rate)),
        rate,
        16000,
      );
      assert.equal(out.length, Math.round((length * 16000) / rate));
      const margin = Math.ceil((66 * 16000) / Math.min(rate, 16000)); // the ends see zeros outside
      const error = worst(out, (i) => sine(i / 16000), margin, out.length - margin);
      assert.ok(error < 3e-5, `${hertz} Hz: off by ${error}`);
    }
  });
}

for (const rate of [22050, 44100, 48000, 96000]) {
  test(`resample() keeps what lies above 8 kHz at ${rate} Hz 80 dB down`, () => {
    for (const hertz of [8050, 9500, 10900]) {
      const input = Float32Array.from({ length: rate }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));
      const out = resample(input, rate, 16000);
      const error = worst(out, () => 0, 200, out.length - 200);
      assert.ok(error < 1e-4, `${hertz} Hz: ${20 * Math.log10(error)} dB`);
    }
  });
}

test("resample() keeps a constant and copies at equal rates", () => {
  const ones = new Float32Array(4410).fill(1);
  assert.ok(worst(resample(ones, 44100, 16000), () => 1, 100, 1500) < 1e-6);
  const same = resample(ones, 16000, 16000);
  assert.deepEqual(same, ones);
  assert.notEqual(same.buffer, ones.buffer);
});

test("normalize() gives zero mean and unit variance, and leaves silence silent", () => {
  const out = normalize(Float32Array.of(1, 2, 3, 6));
  const rstd = 1 / Math.sqrt(3.5 + 1e-7); // mean 3, population variance (4 + 1 + 0 + 9) / 4
  assert.ok(worst(out, (i) => [-2, -1, 0, 3][i] * rstd) < 1e-7);
  assert.deepEqual([...normalize(new Float32Array(3).fill(0.5))], [0, 0, 0]);
});

test("writeWav16() writes what readWav() reads, clipped at full scale", async () => {
  const samples = Float32Array.from({ length: 480 }, (_, i) => Math.round(Math.sin(i) * 30000) / 32768);
  samples[3] = 1.5;
  samples[4] = -1.5;
  await writeWav16(host, path, samples);
  const audio = await readWav(host, path);
  samples[3] = 32767 / 32768;
  samples[4] = -1;
  assert.deepEqual(audio.samples, samples);
  await writeWav16(host, path, samples, 8000);
  assert.equal((await readWav(host, path)).samples.length, 960);
});
