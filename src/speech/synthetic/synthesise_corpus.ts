/**
 * Synthesises a stand-in for IEMOCAP in IEMOCAP's own layout. Everything follows from preset and seed. Beside the sessions
 * it writes
 *
 *   manifest.json   preset, seed and counts, and a SHA-256 over every file of the sessions
 *   truth.jsonl     prosody state, text type and so on of every clip: for the baselines, never for training
 *   text.txt        sentences without speech, for masked language modelling
 *   vocab.txt       the word pieces of a BERT that reads them
 */
import type { Host } from "../../host/host.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { resample } from "../../io/resample.ts";
import { normalizeTranscript } from "../../io/text.ts";
import { writeWav16 } from "../../io/wav.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { alignmentFile, evaluationFile, type Turn, transcriptFile } from "./layout.ts";
import { hashSessions, type Manifest } from "../corpora/manifest.ts";
import { type Clip, CORPUS_PRESETS, type CorpusPreset, plan } from "./plan.ts";
import { random } from "../corpora/random.ts";
import { textCorpus, vocabulary, wordPieces, written } from "./sentences.ts";
import { requestFor, type Synthesise, wordTimes } from "./synthesis.ts";
import { simulateRecording } from "./simulate_recording.ts";

export interface SynthesisOptions {
  readonly preset: keyof typeof CORPUS_PRESETS;
  readonly seed: number;
  readonly synthesise: Synthesise;
  /** Told how many of all clips are written. */
  readonly onClip?: (done: number, total: number) => void;
  /** Replaces keys of the preset. */
  readonly change?: Partial<CorpusPreset>;
}

/** Clips in flight: the synthesiser, a process of its own, works on one while another is filtered and written here. */
const IN_FLIGHT = 4;

/** Writes a whole corpus into the folder `root` and returns its manifest, which is written last. */
export async function synthesiseCorpus(
  host: Host,
  root: string,
  options: SynthesisOptions,
): Promise<Manifest> {
  const preset: CorpusPreset = { ...CORPUS_PRESETS[options.preset], ...options.change };
  const clips = plan(preset, options.seed);
  const dialogues = new Map<string, Clip[]>();
  for (const clip of clips) dialogues.set(clip.dialogue, [...(dialogues.get(clip.dialogue) ?? []), clip]);
  for (const [dialogue, [{ session }]] of dialogues) {
    for (const folder of ["wav", "ForcedAlignment"]) {
      await host.makeDirectory(`${root}/Session${session}/sentences/${folder}/${dialogue}`);
    }
    await host.makeDirectory(`${root}/Session${session}/dialog/EmoEvaluation/Categorical`);
    await host.makeDirectory(`${root}/Session${session}/dialog/transcriptions`);
  }

  const durations = new Map<string, number>();
  await inParallel(clips, IN_FLIGHT, async (clip) => {
    const { samples, times } = await synthesiseClip(clip, options);
    const sentences = `${root}/Session${clip.session}/sentences`;
    await writeWav16(host, `${sentences}/wav/${clip.dialogue}/${clip.id}.wav`, samples, SAMPLE_RATE);
    // IEMOCAP lacks two alignments: here the first turns of session 3 lack theirs.
    if (clip.session !== 3 || !clip.id.endsWith("000")) {
      const words = normalizeTranscript(written(clip.clauses)).split(" ");
      const path = `${sentences}/ForcedAlignment/${clip.dialogue}/${clip.id}.wdseg`;
      await writeWhole(host, path, alignmentFile(words, times));
    }
    durations.set(clip.id, samples.length / SAMPLE_RATE);
    options.onClip?.(durations.size, clips.length);
  });
  for (const [dialogue, turns] of dialogues) await writeDialogue(host, root, dialogue, turns, durations);
  await writeExtras(host, root, clips, preset, options.seed);

  const { files, bytes, sha256 } = await hashSessions(host, root);
  const manifest: Manifest = {
    synthetic: true,
    format: 1,
    preset: options.preset,
    seed: options.seed,
    clips: clips.filter((clip) => clip.label !== undefined).length,
    utterances: clips.length,
    seconds: Math.round([...durations.values()].reduce((a, b) => a + b, 0)),
    files,
    bytes,
    sha256,
  };
  await writeWhole(host, `${root}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

/** A clip as samples (N) at 16 kHz, and when each of its words begins and the last ends, in seconds. */
async function synthesiseClip(
  clip: Clip,
  { synthesise, seed }: SynthesisOptions,
): Promise<{ samples: Float32Array; times: number[] }> {
  const { request, positions } = requestFor(clip);
  const speech = await synthesise(request);
  const dry = resample(
    Float32Array.from(speech.samples, (s) => s / 32_768),
    speech.sampleRate,
    SAMPLE_RATE,
  );
  const times = wordTimes(speech, positions);
  const spans = clip.spans.map(({ from, to, prosody }) => ({
    from: from === 0 ? 0 : Math.round(times[from] * SAMPLE_RATE),
    to: to === positions.length ? dry.length : Math.round(times[to] * SAMPLE_RATE),
    prosody,
  }));
  const samples = simulateRecording(dry, spans, clip.speaker, random(seed, clip.id, "recording"));
  return { samples, times };
}

/** The files of a dialogue, with the irregularities of the release: hidden `._` copies, folders of single raters, CR line ends. */
async function writeDialogue(
  host: Host,
  root: string,
  dialogue: string,
  clips: readonly Clip[],
  durations: ReadonlyMap<string, number>,
): Promise<void> {
  const session = `${root}/Session${clips[0].session}`;
  let clock = 1;
  const turns = random(dialogue, "turns")
    .shuffled(clips)
    .map(({ id, code, label, clauses, tag, wordless }): Turn => {
      const start = clock;
      const end = start + durations.get(id)!;
      clock = end + 0.4;
      const parts = [tag, wordless ? undefined : written(clauses)];
      return { id, code, label, start, end, text: parts.filter((part) => part !== undefined).join(" ") };
    });
  const odd = dialogue.endsWith("F_impro01");
  const transcripts = transcriptFile(dialogue, turns);
  const evaluations = `${session}/dialog/EmoEvaluation`;
  await writeWhole(host, `${evaluations}/${dialogue}.txt`, evaluationFile(turns));
  await writeWhole(
    host,
    `${session}/dialog/transcriptions/${dialogue}.txt`,
    odd ? transcripts.replaceAll("\n", "\r\n") : transcripts,
  );
  const oneRater = turns.map(({ id }) => `${id} :Neutral state; ()\n`).join("");
  await writeWhole(host, `${evaluations}/Categorical/${dialogue}_e1_cat.txt`, oneRater);
  if (odd) {
    const hidden = "\0\x05\x16\x07Mac OS X";
    await writeWhole(host, `${evaluations}/._${dialogue}.txt`, hidden);
    await writeWhole(host, `${session}/sentences/wav/${dialogue}/._${clips[0].id}.wav`, hidden);
  }
}

async function writeExtras(
  host: Host,
  root: string,
  clips: readonly Clip[],
  preset: CorpusPreset,
  seed: number,
): Promise<void> {
  const truth = clips.map(({ id, label, code, state, type, stress, partial, scripted, wordless }) =>
    JSON.stringify({ id, label, code, state, type, stress, partial, scripted, wordless }),
  );
  const lines = [...textCorpus(preset.lines, preset.keywords, random(seed, "text"), preset.few)];
  const pieces = wordPieces(vocabulary(preset.keywords, preset.few));
  await writeWhole(host, `${root}/truth.jsonl`, `${truth.join("\n")}\n`);
  await writeWhole(host, `${root}/text.txt`, `${lines.join("\n")}\n`);
  await writeWhole(host, `${root}/vocab.txt`, `${pieces.join("\n")}\n`);
}

/** Runs `work` on all items, `width` at a time. After a failure starts no more, and throws once those in flight have ended. */
export async function inParallel<T>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  let failure: { error: unknown } | undefined;
  const lane = async () => {
    for (const item of rest) {
      await work(item).catch((error) => {
        failure ??= { error };
      });
      if (failure !== undefined) return;
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  if (failure !== undefined) throw failure.error;
}
