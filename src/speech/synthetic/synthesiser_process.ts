/**
 * A speech synthesiser as a process of its own. Requests are lines of JSON on its stdin. A response on its stdout is the
 * length of its header as u32, the header {samples, sampleRate, words} as JSON, and int16 samples; all little-endian.
 */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { joinBytes } from "../../host/join_bytes.ts";
import { finite, integer, object, parse } from "../../io/schema.ts";
import { SYNTHESISER } from "./espeak.ts";
import type { Speech, Synthesise } from "./synthesis.ts";

export interface SynthesiserProcess {
  /** Several requests may be in flight; responses come in their order. */
  readonly synthesise: Synthesise;
  close(): void;
}

interface Pending {
  resolve(speech: Speech): void;
  reject(error: Error): void;
}

/** Starts `script`, which writes encodeResponse() on its stdout for each request on its stdin. */
export function startSynthesiser(host: Host, script: URL): SynthesiserProcess {
  const pending: Pending[] = [];
  let buffered: Uint8Array = new Uint8Array(0);
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of pending.splice(0)) reject(failure);
  };
  const child = host.spawn(script, (bytes) => {
    buffered = joinBytes([buffered, bytes]);
    try {
      for (let response = decodeResponse(buffered); response; response = decodeResponse(buffered)) {
        buffered = response.rest;
        pending.shift()!.resolve(response.speech);
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
        pending.push({ resolve, reject });
        child.write(`${JSON.stringify(request)}\n`);
      }),
    close: () => child.stop(),
  };
}

/** A response, as the process writes it. */
export function encodeResponse({ samples, sampleRate, words }: Speech): Uint8Array {
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

/** The first response and the bytes behind it; undefined where it is not complete yet. Throws where it is no response. */
function decodeResponse(bytes: Uint8Array): { speech: Speech; rest: Uint8Array } | undefined {
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
