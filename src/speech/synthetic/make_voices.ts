/**
 * Makes a corpus of many voices for pretraining, without emotions:
 *
 *   wav/<hundred>/<voice>_<n>.wav   16 kHz, 16 bits
 *   manifest.jsonl                  path, text, speaker and seconds of every recording
 *   manifest.json                   seed and counts, and a SHA-256 over every file of wav/
 *
 * A recording depends on the seed and its own number alone. What is made before a stop is kept in OUT.partial.
 */
import type { Host } from "../../host/host.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { readOptionalJson } from "../../io/config.ts";
import { resample } from "../../io/resample.ts";
import { readWavFormat, writeWav16 } from "../../io/wav.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { hashSessions, type Manifest } from "../corpora/manifest.ts";
import { random } from "../corpora/random.ts";
import { sampleProsody, STATES } from "./prosody.ts";
import { simulateRecording } from "./simulate_recording.ts";
import { inParallel } from "./synthesise_corpus.ts";
import type { SpeechRequest, Synthesise } from "./synthesis.ts";
import { startSynthesiser } from "./synthesiser_process.ts";
import { claimCorpus } from "./unfinished.ts";
import { drawVoice, reverberate } from "./voices.ts";
import { wideSentence } from "./wide_sentences.ts";

/** Recordings by default: of 3,000 voices, some eight hours. */
export const VOICE_UTTERANCES = 9_000;
/** Recordings of each voice. */
export const PER_VOICE = 3;

/** Options of makeVoices(). */
export interface MakeVoicesOptions {
  readonly seed: number;
  /** Recordings; VOICE_UTTERANCES by default. */
  readonly utterances?: number;
  /** Synthesisers that run at once, each a process; 1 by default. They change no byte. */
  readonly jobs?: number;
  /** Script of the synthesiser's process, see startSynthesiser(). */
  readonly synthesiser: URL;
  readonly signal?: AbortSignal;
  /** Told how many of all recordings there are. */
  readonly onClip?: (done: number, total: number) => void;
}

/** One recording to be made. */
interface Spoken {
  readonly path: string;
  readonly speaker: string;
  /** As written. */
  readonly text: string;
  readonly request: SpeechRequest;
  record(dry: Float32Array): Float32Array;
}

/** The recordings, in order. */
export function* planVoices(seed: number, utterances: number): Generator<Spoken> {
  for (let i = 0; i < utterances; i++) {
    const index = Math.floor(i / PER_VOICE);
    const voice = drawVoice(index, random(seed, "voice", index));
    const name = `${voice.id}_${i % PER_VOICE}`;
    const draw = random(seed, "voices", i);
    const sentence = wideSentence(draw);
    const text = `${sentence[0].toUpperCase()}${sentence.slice(1)}.`.replace(/\bi\b/g, "I");
    // As one speaks in any mood; the drive and tilt of a mood's voice are part of it.
    const prosody = sampleProsody(draw.pick(STATES), draw);
    const clamp = (value: number, low: number, high: number) =>
      Math.round(Math.min(high, Math.max(low, value)));
    yield {
      ...{
        path: `wav/${String(Math.floor(index / 100)).padStart(3, "0")}/${name}.wav`,
        speaker: voice.id,
        text,
      },
      request: {
        ...{ voice: voice.id, variant: voice.variant, gap: prosody.gap, text },
        rate: clamp(voice.rate * prosody.rate, 90, 320),
        pitch: clamp(50 + prosody.pitch, 5, 95),
        range: clamp(voice.range * prosody.range, 5, 100),
      },
      record(dry) {
        const heard = reverberate(dry, voice.room);
        const own = { ...prosody, breath: Math.max(prosody.breath, voice.breath) };
        const spans = [{ from: 0, to: heard.length, prosody: own }];
        return simulateRecording(heard, spans, voice.channel, random(seed, name, "recording"));
      },
    };
  }
}

const OWN_NAMES = /^(wav|(manifest\.jsonl?|plan\.json)(\..*\.tmp)?|lock(\..*)?)$/;

/**
 * Makes the corpus in the new folder `out`, or goes on with what an earlier call with the same seed and number has made of it.
 * Equal seeds and numbers give equal bytes. Throws the reason of an aborted signal, where what is made is kept, and what
 * claimCorpus() throws.
 */
export async function makeVoices(
  host: Host,
  out: string,
  { seed, utterances = VOICE_UTTERANCES, jobs = 1, synthesiser, signal, onClip }: MakeVoicesOptions,
): Promise<{ manifest: Manifest; voices: number; kept: number }> {
  const plan = { preset: "voices", seed, utterances };
  const partial = `${out}.partial`;
  const begun = await readOptionalJson(host, `${partial}/plan.json`);
  const same = Object.entries(plan).every(([key, value]) => begun[key] === value);
  if (Object.keys(begun).length > 0 && !same)
    throw new Error(
      `Cannot make a corpus in ${out}: ${partial} is begun with --utterances ${begun.utterances} --seed ${begun.seed}; go on with these, or remove it`,
    );
  const corpus = await claimCorpus(host, out, {
    names: OWN_NAMES,
    keep: same ? /^(wav|plan\.json)$/ : undefined,
  });
  const processes = Array.from({ length: jobs }, () => startSynthesiser(host, synthesiser));
  try {
    await writeWhole(host, `${corpus.path}/plan.json`, `${JSON.stringify(plan)}\n`);
    const all = [...planVoices(seed, utterances)];
    const folders = [...new Set(all.map(({ path }) => path.replace(/\/[^/]*$/, "")))];
    for (const folder of folders) await host.makeDirectory(`${corpus.path}/${folder}`);
    await removeHalves(host, corpus.path, folders);
    const seconds = new Map<string, number>();
    let kept = 0;
    const done = () => {
      onClip?.(seconds.size, all.length);
      signal?.throwIfAborted();
    };
    // A recording appears under its name only when it is whole.
    for (const { path } of same ? all : []) {
      if ((await host.kind(`${corpus.path}/${path}`)) !== "file") continue;
      seconds.set(path, await lengthOf(host, `${corpus.path}/${path}`));
      kept++;
    }
    const rest = all.filter(({ path }) => !seconds.has(path)).entries();
    await inParallel([...rest], 2 * jobs, async ([i, spoken]) => {
      const samples = await speak(spoken, processes[i % jobs].synthesise);
      await writeWav16(host, `${corpus.path}/${spoken.path}`, samples, SAMPLE_RATE);
      seconds.set(spoken.path, samples.length / SAMPLE_RATE);
      done();
    });
    const lines = all.map(({ path, text, speaker }) =>
      JSON.stringify({ path, text, speaker, seconds: seconds.get(path) }),
    );
    await writeWhole(host, `${corpus.path}/manifest.jsonl`, `${lines.join("\n")}\n`);
    const hashed = await hashSessions(host, corpus.path, signal, /^wav$/);
    const manifest: Manifest = {
      ...{ synthetic: true, format: 1, preset: "voices", seed, clips: 0, utterances },
      seconds: Math.round([...seconds.values()].reduce((a, b) => a + b, 0)),
      ...hashed,
    };
    await writeWhole(host, `${corpus.path}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`);
    await host.remove(`${corpus.path}/plan.json`);
    await corpus.publish();
    return { manifest, voices: new Set(all.map(({ speaker }) => speaker)).size, kept };
  } catch (error) {
    // Ctrl-C reaches the synthesisers too, whose end is then no error of its own.
    signal?.throwIfAborted();
    throw error;
  } finally {
    for (const process of processes) process.close();
    corpus.release();
  }
}

async function speak({ request, record }: Spoken, synthesise: Synthesise): Promise<Float32Array> {
  const { samples, sampleRate } = await synthesise(request);
  return record(
    resample(
      Float32Array.from(samples, (s) => s / 32_768),
      sampleRate,
      SAMPLE_RATE,
    ),
  );
}

/** Removes what a killed process had not written to its end. */
async function removeHalves(host: Host, root: string, folders: readonly string[]): Promise<void> {
  for (const folder of folders)
    for (const name of await host.list(`${root}/${folder}`))
      if (name.endsWith(".tmp")) await host.remove(`${root}/${folder}/${name}`);
}

async function lengthOf(host: Host, path: string): Promise<number> {
  const file = await host.open(path);
  try {
    const { frames, sampleRate } = await readWavFormat(file);
    return frames / sampleRate;
  } finally {
    await file.close();
  }
}
