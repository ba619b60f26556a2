/** A corpus of many voices: what is drawn, and that it is made whole, again, and after a stop. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { normalizeTranscript } from "../src/io/text.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { readManifest } from "../src/speech/corpora/manifest.ts";
import { random } from "../src/speech/corpora/random.ts";
import { readSpeech, withoutTest } from "../src/speech/corpora/unlabelled.ts";
import { typesByKeyword, LEXICON } from "../src/speech/synthetic/lexicon.ts";
import { makeVoices, planVoices } from "../src/speech/synthetic/make_voices.ts";
import { ALL_VOICES } from "../src/speech/synthetic/speakers.ts";
import { drawVoice, isOther, OTHER_VOICES, reverberate } from "../src/speech/synthetic/voices.ts";
import { WIDE_LEXICON, wideSentence } from "../src/speech/synthetic/wide_sentences.ts";
import { verb as corpusVerb } from "../tools/corpus.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const synthesiser = new URL("../tools/synthesiser.ts", import.meta.url);
const scratch = await mkdtemp(join(tmpdir(), "voices-"));
after(() => rm(scratch, { recursive: true, force: true }));

test("drawVoice() draws thousands of different voices, none near one of the other corpora", () => {
  assert.deepEqual(Object.keys(OTHER_VOICES).sort(), [...ALL_VOICES].sort());
  const voices = Array.from({ length: 3_000 }, (_, i) => drawVoice(i, random(1, "voice", i)));
  assert.equal(new Set(voices.map(({ pitch, formants }) => `${pitch} ${formants}`)).size, 3_000);
  assert.ok(voices.every(({ pitch, formants }) => !isOther(pitch[0], formants)));
  assert.ok(isOther(141, [0, 119, 101, 114]) && !isOther(141, [0, 119, 101, 125]));
  const spread = (of: (voice: (typeof voices)[number]) => number) => {
    const all = voices.map(of).sort((a, b) => a - b);
    return [all[150], all[2_850]];
  };
  const [low, high] = spread(({ pitch }) => pitch[0]);
  assert.ok(low < 85 && high > 190, `${low} to ${high} Hz`);
  const [slow, fast] = spread(({ rate }) => rate);
  assert.ok(slow < 145 && fast > 215, `${slow} to ${fast} words a minute`);
  assert.deepEqual(drawVoice(7, random(1, "voice", 7)), voices[7]);
});

test("wideSentence() has a wide vocabulary without the keywords of the other corpora", () => {
  const keywords = typesByKeyword();
  const draw = random(1, "wide");
  const spoken = new Set<string>();
  for (let i = 0; i < 4_000; i++) {
    const words = normalizeTranscript(wideSentence(draw)).split(" ");
    assert.ok(words.length >= 4 && words.length <= 26, words.join(" "));
    for (const word of words) spoken.add(word);
  }
  assert.deepEqual(
    [...spoken].filter((word) => keywords.has(word)),
    [],
  );
  const all = Object.values(WIDE_LEXICON).flat();
  assert.equal(new Set<string>(all).size, all.length);
  assert.ok(
    spoken.size > 2 * Object.values(LEXICON).flatMap((each) => each.noun).length + 400,
    `${spoken.size}`,
  );
});

test("reverberate() adds a tail that falls by 60 dB in the room's seconds", () => {
  const click = new Float32Array(16_000);
  click[0] = 1;
  const heard = reverberate(click, { seconds: 0.4, wet: 0.3 });
  const energy = (from: number, to: number) => heard.slice(from, to).reduce((sum, x) => sum + x * x, 0);
  assert.equal(heard.length, click.length);
  const fall = 10 * Math.log10(energy(1_600, 4_800) / energy(8_000, 11_200));
  assert.ok(Math.abs(fall - 60) < 8, `${fall} dB in 0.4 s`);
  assert.equal(reverberate(click, { seconds: 0.4, wet: 0 }), click);
});

test("makeVoices() makes equal bytes with any number of processes, and goes on after a stop", async () => {
  const [first, second] = [join(scratch, "first"), join(scratch, "second")];
  const made = await makeVoices(host, first, { seed: 3, utterances: 7, jobs: 2, synthesiser });
  assert.deepEqual([made.voices, made.kept, made.manifest.utterances], [3, 0, 7]);
  assert.deepEqual(await readManifest(host, first), made.manifest);
  assert.deepEqual((await readdir(first)).sort(), ["manifest.json", "manifest.jsonl", "wav"]);

  const stop = new AbortController();
  const reason = new Error("stopped");
  const stopped = makeVoices(host, second, {
    ...{ seed: 3, utterances: 7, synthesiser, signal: stop.signal },
    onClip: (done) => done === 3 && stop.abort(reason),
  });
  await assert.rejects(stopped, (error) => error === reason);
  const half = join(`${second}.partial`, "wav/000/v00002_0.wav.1.tmp");
  await writeFile(half, "half");
  const other = makeVoices(host, second, { seed: 4, utterances: 7, synthesiser });
  await assert.rejects(other, {
    message: `Cannot make a corpus in ${second}: ${second}.partial is begun with --utterances 7 --seed 3; go on with these, or remove it`,
  });
  const again = await makeVoices(host, second, { seed: 3, utterances: 7, synthesiser });
  assert.ok(again.kept >= 3 && again.kept < 7, `${again.kept} of 7 kept`);
  assert.equal(again.manifest.sha256, made.manifest.sha256);
  const listed = (root: string) => readFile(join(root, "manifest.jsonl"), "utf8");
  assert.equal(await listed(second), await listed(first));
  assert.ok(!(await readdir(join(second, "wav/000"))).some((name) => name.endsWith(".tmp")));

  const corpus = await readSpeech(host, first, true);
  const { utterances, problems } = await examine(host, corpus);
  assert.deepEqual(problems, []);
  assert.deepEqual(
    utterances.map(({ text }) => text),
    [...planVoices(3, 7)].map(({ text }) => text),
  );
  const { dev, train, test } = withoutTest(utterances, { dev: 0.3 });
  assert.deepEqual([dev.length + train.length, test.length], [7, 0]);
  const speakers = new Set(dev.map(({ speaker }) => speaker));
  assert.equal(speakers.size, 1);
  assert.ok(train.every(({ speaker }) => !speakers.has(speaker)));
});

test("corpus make says which options are for voices", async () => {
  const out = join(scratch, "refused");
  const { error } = await runHere(corpusVerb, "make", "--out", out, "--utterances", "5");
  assert.match(String(error), /Cannot make nano with --utterances: it is for --preset voices/);
});
