/**
 * eSpeak NG as a process of its own: JSON requests in, one a line, speech out. It is the only file that
 * loads the synthesiser, which is GPL-3.0 and needed for making corpora alone.
 *
 * In:  {voice, gap, rate, pitch, range, text}
 * Out: u32 length of the header, header {samples, sampleRate, words}, then int16 samples; little-endian.
 */
import { createInterface } from "node:readline";
import { ALL_VOICES } from "../src/speech/corpora/speakers.ts";
import { type SpeechRequest, speechRequest } from "../src/speech/corpora/speech.ts";
import { parse } from "../src/io/schema.ts";

interface Event {
  type: string;
  text_position: number;
  word_length: number;
  audio_position: number;
}
interface Worker {
  set_voice(name: string): number;
  set_rate(value: number): void;
  set_pitch(value: number): void;
  set_range(value: number): void;
  get_samplerate(): number;
  synthesize(text: string, receive: (audio: Int16Array | null, events: Event[]) => void): void;
}
interface Espeak {
  HEAPU8: Uint8Array;
  FS: {
    readFile(path: string, options: { encoding: "utf8" }): string;
    writeFile(path: string, text: string): void;
  };
  eSpeakNGWorker: new () => Worker;
}

const VARIANTS = "/usr/share/espeak-ng-data/voices/!v";
const LONGEST_GAP = 9;

// eSpeak seeds its noise from the clock; a stopped clock makes every run the same.
Date.now = () => 0;
const name = "@echogarden/espeak-ng-emscripten";
const espeak = (await ((await import(name)) as { default: () => Promise<Espeak> }).default()) as Espeak;
const worker = new espeak.eSpeakNGWorker();

// A pause between words is a property of a voice: one variant for each length.
for (const voice of ALL_VOICES) {
  const variant = espeak.FS.readFile(`${VARIANTS}/${voice}`, { encoding: "utf8" });
  for (let gap = 0; gap <= LONGEST_GAP; gap++) {
    espeak.FS.writeFile(`${VARIANTS}/${voice}-${gap}`, `${variant}\nwords ${gap}\n`);
  }
}
worker.set_voice(`gmw/en-US+${ALL_VOICES[0]}-0`);
// Memory as it is now is put back before every request, so that no clip depends on the one before.
const fresh = espeak.HEAPU8.slice();

function speak({ voice, gap, rate, pitch, range, text }: SpeechRequest): Uint8Array[] {
  espeak.HEAPU8.set(fresh);
  espeak.HEAPU8.fill(0, fresh.length);
  if (worker.set_voice(`gmw/en-US+${voice}-${Math.min(gap, LONGEST_GAP)}`) !== 0) {
    throw new Error(`Cannot speak: the synthesiser has no voice ${voice}`);
  }
  worker.set_rate(rate);
  worker.set_pitch(pitch);
  worker.set_range(range);
  const chunks: Uint8Array[] = [];
  const words: { position: number; seconds: number }[] = [];
  let samples = 0;
  worker.synthesize(text, (audio, events) => {
    if (audio !== null) {
      chunks.push(new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength));
      samples += audio.length;
    }
    for (const event of events) {
      if (event.type !== "word" || event.word_length === 0) continue;
      words.push({ position: event.text_position - 1, seconds: event.audio_position / 1000 });
    }
  });
  const header = new TextEncoder().encode(
    JSON.stringify({ samples, sampleRate: worker.get_samplerate(), words }),
  );
  return [new Uint8Array(new Uint32Array([header.length]).buffer), header, ...chunks];
}

for await (const line of createInterface({ input: process.stdin })) {
  for (const part of speak(parse(speechRequest, JSON.parse(line), "the request"))) process.stdout.write(part);
}
