/** eSpeak NG as a process of its own, which `corpus make` starts: requests on stdin, one per line, responses on stdout. */
import process from "node:process";
import { createInterface } from "node:readline";
import { parse } from "../src/io/schema.ts";
import { openEspeak } from "../src/speech/synthetic/espeak.ts";
import { speechRequest } from "../src/speech/synthetic/synthesis.ts";
import { encodeResponse } from "../src/speech/synthetic/synthesiser_process.ts";

// eSpeak seeds its noise from the clock: with a constant one all runs are equal.
Date.now = () => 0;
const speak = await openEspeak();
for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(encodeResponse(speak(parse(speechRequest, JSON.parse(line), "the request"))));
