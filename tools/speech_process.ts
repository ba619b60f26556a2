/** Starts tools/synthesiser.ts as a process and speaks through it. Node and Deno. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { finite, integer, object, parse } from "../src/io/schema.ts";
import type { Speech, Synthesise } from "../src/speech/corpora/speech.ts";

export interface SpeechProcess {
  readonly synthesise: Synthesise;
  close(): void;
}

const PACKAGE = "@echogarden/espeak-ng-emscripten";

interface Waiting {
  resolve(speech: Speech): void;
  reject(error: Error): void;
}

/** Answers come in the order of the requests, several of which may be under way. */
export function startSpeech(): SpeechProcess {
  const child = start();
  const waiting: Waiting[] = [];
  let buffered: Buffer = Buffer.alloc(0);
  let complaints = "";
  let failure: Error | undefined;

  child.stdout!.on("data", (chunk: Buffer) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    try {
      for (let answer = take(buffered); answer !== undefined; answer = take(buffered)) {
        buffered = answer.rest;
        waiting.shift()!.resolve(answer.speech);
      }
    } catch (error) {
      fail(error as Error);
      child.kill();
    }
  });
  child.stderr!.on("data", (chunk: Buffer) => {
    complaints += chunk;
  });
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  child.on("error", (cause) => fail(new Error(`Cannot start the synthesiser: ${cause.message}`, { cause })));
  child.on("close", (code) => fail(new Error(`Cannot speak: ${reason(complaints, code)}`)));
  child.stdin!.on("error", () => {});

  return {
    synthesise: (request) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        waiting.push({ resolve, reject });
        child.stdin!.write(`${JSON.stringify(request)}\n`);
      }),
    close: () => {
      child.stdin!.end();
      child.kill();
    },
  };
}

function start(): ChildProcess {
  // Beside this file lies the synthesiser: .ts in a checkout, run through tsx or Deno, .js where it is built.
  const source = import.meta.url.endsWith(".ts");
  const script = fileURLToPath(new URL(`./synthesiser.${source ? "ts" : "js"}`, import.meta.url));
  const loader = source ? ["--import", import.meta.resolve("tsx")] : [];
  const flags = "Deno" in globalThis ? ["run", "--allow-all"] : loader;
  return spawn(process.execPath, [...flags, script], { stdio: ["pipe", "pipe", "pipe"] });
}

function reason(complaints: string, code: number | null): string {
  if (complaints.includes(PACKAGE) && /not found|Cannot find|could not/i.test(complaints)) {
    return `the synthesiser is not installed; run npm install --no-save ${PACKAGE}`;
  }
  const line = complaints.split("\n").find((text) => /error/i.test(text)) ?? "no message";
  return `the synthesiser ended with code ${code} (${line.trim()})`;
}

/** What synthesiser.ts writes before the samples. */
const headerSchema = object({
  samples: integer(0),
  sampleRate: integer(1),
  words: v.array(object({ position: finite, seconds: finite })),
});

function take(bytes: Buffer): { speech: Speech; rest: Buffer } | undefined {
  if (bytes.length < 4) return undefined;
  const body = 4 + bytes.readUInt32LE(0);
  if (bytes.length < body) return undefined;
  const header = JSON.parse(bytes.toString("utf8", 4, body));
  const { samples, sampleRate, words } = parse(headerSchema, header, "the synthesiser's answer");
  const end = body + 2 * samples;
  if (bytes.length < end) return undefined;
  const pcm = new Int16Array(new Uint8Array(bytes.subarray(body, end)).buffer);
  return { speech: { samples: pcm, sampleRate, words }, rest: bytes.subarray(end) };
}
