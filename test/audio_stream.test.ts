import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { joined, openAudio, type RawFormat, readAudio } from "../src/io/audio_stream.ts";
import { Resampler, resample } from "../src/io/resample.ts";
import { wav16Bytes } from "../src/io/wav.ts";
import { uniform } from "./reference.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "wavegate-audio-stream-"));
after(() => rmSync(folder, { recursive: true }));

const furious = `${root}weights/demo/clips/furious.wav`;
const stored = (name: string) => `${root}test/recordings/${name}`;

async function whole(path: string, raw?: RawFormat) {
  const audio = await readAudio(host, path, 60, { raw });
  assert.ok("samples" in audio, `${path} is longer than a minute`);
  return audio;
}

/** Writes bytes into a file of the test's folder. */
function written(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

test("Resampler gives in pieces, bit for bit, what resample() gives of the whole", () => {
  const noise = uniform(3);
  const x = Float32Array.from({ length: 9000 }, () => noise() - 0.5);
  for (const rate of [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
    for (const length of [9000, 1000, 77]) {
      const resampler = new Resampler(rate, 16_000);
      const pieces: Float32Array[] = [];
      for (let at = 0; at < x.length; at += length) pieces.push(resampler.push(x.subarray(at, at + length)));
      assert.deepEqual(joined([...pieces, resampler.end()]), resample(x, rate, 16_000), `${rate} Hz`);
    }
});

test("readAudio() gives of a WAV file what readWav() gives, and a longer one as a stream", async () => {
  const noise = uniform(4);
  const samples = Float32Array.from({ length: 44_100 * 2 }, () => 0.5 * (noise() - 0.5));
  const path = written("noise.wav", wav16Bytes(samples, 44_100));
  const want = await readWav(host, path);
  assert.deepEqual(await whole(path), want);
  const long = await readAudio(host, path, 1);
  assert.ok("pieces" in long);
  assert.equal(long.seconds, 2);
  const pieces: Float32Array[] = [];
  for await (const piece of long.pieces) pieces.push(piece);
  await long.close();
  assert.deepEqual(joined(pieces), want.samples);
  assert.deepEqual([long.sampleRate, long.channels], [44_100, 1]);
});

test("readAudio() decodes FLAC to the bits of the WAV file, and MP3, Vorbis and Opus to nearly the same sound", async () => {
  const { samples: want } = await readWav(host, furious);
  assert.deepEqual((await whole(stored("furious.flac"))).samples, want);
  for (const [name, least, channels] of [
    ["furious.mp3", 0.99, 2],
    ["furious-vorbis.ogg", 0.95, 2],
    ["furious.opus", 0.95, 1],
  ] as const) {
    const audio = await whole(stored(name));
    assert.equal(audio.samples.length, want.length, name);
    assert.equal(audio.channels, channels);
    assert.deepEqual(audio.notes, []);
    // Opus delays by one sample at 16 kHz.
    const best = Math.max(...[-1, 0].map((lag) => correlation(audio.samples, want, lag)));
    assert.ok(best > least, `${name}: correlation ${best}`);
  }
});

function correlation(a: Float32Array, b: Float32Array, lag: number): number {
  let [product, p, q] = [0, 0, 0];
  for (let i = 1; i < b.length; i++) {
    const value = a[i + lag] ?? 0;
    product += value * b[i];
    p += value * value;
    q += b[i] * b[i];
  }
  return product / Math.sqrt(p * q);
}

test("readAudio() looks at what a file holds, not at its name", async () => {
  const { samples } = await whole(written("flac-named.mp3", readFileSync(stored("furious.flac"))));
  assert.equal(samples.length, 19_083);
});

test("readAudio() reads raw samples of any encoding", async () => {
  const wav = readFileSync(furious);
  const pcm = wav.subarray(wav.length - 2 * 19_083);
  const { samples: want } = await readWav(host, furious);
  const path = written("furious.raw", pcm);
  assert.deepEqual((await whole(path, { encoding: "s16le" })).samples, want);
  const floats = written("furious.f32", new Uint8Array(want.buffer));
  assert.deepEqual((await whole(floats, { encoding: "f32le", rate: 16_000 })).samples, want);
  const stereo = await whole(path, { encoding: "s16le", rate: 8000, channels: 2 });
  assert.deepEqual(
    [stereo.channels, stereo.sampleRate, stereo.notes],
    [2, 8000, ["2 bytes behind its last frame of 4 bytes are not read"]],
  );
});

test("readAudio() refuses in one line what it cannot read", async () => {
  const [flac, mp3, ogg, opus] = ["furious.flac", "furious.mp3", "furious-vorbis.ogg", "furious.opus"].map(
    (name) => readFileSync(stored(name)),
  );
  const silentOpus = Buffer.from(opus);
  silentOpus[37] = 0;
  const speex = Buffer.from(ogg);
  speex.write("Speex   ", 28);
  const refused: [string, Uint8Array | string, RegExp, RawFormat?][] = [
    ["text.mp3", "these are words\n", /it is not a sound file, expected RIFF\/WAVE, MP3, FLAC or Ogg/],
    ["empty.flac", "", /the file is empty, expected/],
    ["cut.flac", flac.subarray(0, 20_000), /it is cut off or damaged: 1\.2 s announced, [\d.]+ s are there/],
    ["cut.mp3", mp3.subarray(0, 3000), /it is cut off: 9252 bytes of frames announced, 3000 are there/],
    ["cut.ogg", ogg.subarray(0, 9000), /it is cut off: its last page is not complete/],
    ["cut.opus", opus.subarray(0, 4000), /it is cut off: its last page is not complete/],
    ["header.flac", flac.subarray(0, 60), /it holds no sound that can be decoded/],
    ["mute.opus", silentOpus, /it has 0 channels/],
    ["speex.ogg", speex, /it is Ogg of the codec Speex, expected Vorbis, Opus or FLAC/],
    ["tag.mp3", "ID3\x03\0\0\0\0\x7f\x7f", /it is cut off: it ends within its ID3 tag/],
    [
      "short.raw",
      new Uint8Array(10),
      /it is too short: 0\.3 ms, at least 25 ms needed/,
      { encoding: "s16le" },
    ],
    ["none.raw", new Uint8Array(1), /it holds no samples/, { encoding: "s16le" }],
  ];
  for (const [name, bytes, wanted, raw] of refused) {
    const path = written(name, bytes);
    await assert.rejects(readAudio(host, path, 60, { raw, minSamples: 400 }), (error: Error) => {
      assert.match(error.message, wanted);
      assert.ok(
        error.message.startsWith(`Cannot read ${path}: `) && !error.message.includes("\n"),
        error.message,
      );
      return true;
    });
  }
});

test("readAudio() says what is damaged in the middle of a file", async () => {
  const damaged = Buffer.from(readFileSync(stored("furious.opus")));
  damaged.fill(0xff, 3000, 3200);
  const audio = await whole(written("damaged.opus", damaged));
  assert.match(audio.notes.join(), /^\d+ of its frames are damaged and left out$/);
});

test("openAudio() closes the file where the caller stops", async () => {
  const stream = await openAudio(host, furious);
  assert.equal((await stream.pieces.next()).done, false);
  await stream.pieces.return(undefined);
  await stream.close();
  assert.equal((await stream.pieces.next()).done, true);
});
