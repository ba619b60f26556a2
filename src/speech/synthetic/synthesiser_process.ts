/**
 * A speech synthesiser as a process of its own: requests as JSON go in, one a line, speech comes out. An answer is a u32,
 * the length of its header, the header {samples, sampleRate, words} as JSON, and int16 samples; all little-endian.
 */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { joinBytes } from "../../host/join_bytes.ts";
import { finite, integer, object, parse } from "../../io/schema.ts";
import { SYNTHESISER } from "./espeak.ts";
import type { Speech, Synthesise } from "./synthesis.ts";

export interface SpeechProcess {
  /** Answers come in the order of the requests, several of which may be under way. */
  readonly synthesise: Synthesise;
  close(): void;
}

interface Waiting {
  resolve(speech: Speech): void;
  reject(error: Error): void;
}

/** Starts `script`, which answers requests from its stdin by answerBytes() on its stdout, and speaks through it. */
export function startSpeech(host: Host, script: URL): SpeechProcess {
  const waiting: Waiting[] = [];
  let buffered: Uint8Array = new Uint8Array(0);
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  const child = host.spawn(script, (bytes) => {
    buffered = joinBytes([buffered, bytes]);
    try {
      for (let answer = takeAnswer(buffered); answer !== undefined; answer = takeAnswer(buffered)) {
        buffered = answer.rest;
        waiting.shift()!.resolve(answer.speech);
      }
    } catch (error) {
      fail(error as Error);
      child.stop();
    }
  });
  child.ended.then(
    ({ status, stderr }) => fail(new Error(`Cannot speak: ${reasonOf(stderr, status)}`)),
    (cause: Error) => fail(new Error(`Cannot start the synthesiser: ${cause.message}`, { cause })),
  );
  return {
    synthesise: (request) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        waiting.push({ resolve, reject });
        child.write(`${JSON.stringify(request)}\n`);
      }),
    close: () => child.stop(),
  };
}

/** What the process writes for `speech`. */
export function answerBytes({ samples, sampleRate, words }: Speech): Uint8Array {
  const header = new TextEncoder().encode(JSON.stringify({ samples: samples.length, sampleRate, words }));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, header.length, true);
  return joinBytes([length, header, new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength)]);
}

const headerSchema = object({
  samples: integer(0),
  sampleRate: integer(1),
  words: v.array(object({ position: finite, seconds: finite })),
});

/** The first answer and the bytes behind it; undefined where it is not whole yet. Throws where it is no answer. */
function takeAnswer(bytes: Uint8Array): { speech: Speech; rest: Uint8Array } | undefined {
  if (bytes.length < 4) return undefined;
  const body = 4 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (bytes.length < body) return undefined;
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, body)));
  const { samples, sampleRate, words } = parse(headerSchema, header, "the synthesiser's answer");
  const end = body + 2 * samples;
  if (bytes.length < end) return undefined;
  const pcm = new Int16Array(bytes.slice(body, end).buffer);
  return { speech: { samples: pcm, sampleRate, words }, rest: bytes.slice(end) };
}

/** Why the process ended. */
function reasonOf(stderr: string, status: number | null): string {
  if (stderr.includes(SYNTHESISER) && /not found|Cannot find|could not/i.test(stderr))
    return `the synthesiser is not installed; run npm install --no-save ${SYNTHESISER}`;
  const line = stderr.split("\n").find((text) => /error/i.test(text)) ?? "no message";
  return `the synthesiser ended with code ${status} (${line.trim()})`;
}
