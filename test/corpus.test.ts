import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { LABELS, type Utterance } from "../src/speech/corpora/corpus.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { folds } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { LEXICON, PARTS, slicePool, typesByKeyword } from "../src/speech/synthetic/lexicon.ts";
import { hashSessions } from "../src/speech/corpora/manifest.ts";
import { CORPUS_PRESETS, plan } from "../src/speech/synthetic/plan.ts";
import { apportion, sampleProsody, TABLE, TYPES } from "../src/speech/synthetic/prosody.ts";
import { random } from "../src/speech/corpora/random.ts";
import { textCorpus, vocabulary, wordPieces, written } from "../src/speech/synthetic/sentences.ts";
import { requestFor, wordTimes } from "../src/speech/synthetic/synthesis.ts";
import { startSynthesiser } from "../src/speech/synthetic/synthesiser_process.ts";
import { synthesiseCorpus } from "../src/speech/synthetic/synthesise_corpus.ts";
import { simulateRecording } from "../src/speech/synthetic/simulate_recording.ts";
import { claimCorpus } from "../src/speech/synthetic/unfinished.ts";
import { readBaselines } from "../src/speech/baselines/baselines.ts";
import { makeCorpus } from "../src/speech/baselines/make_corpus.ts";
import { currentHost } from "../src/host/current.ts";
import { normalizeTranscript } from "../src/io/text.ts";
import { verb as corpusVerb } from "../tools/corpus.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const synthesiser = new URL("../tools/synthesiser.ts", import.meta.url);
const scratch = await mkdtemp(join(tmpdir(), "corpus-"));
after(() => rm(scratch, { recursive: true, force: true }));

const near = (actual: number, expected: number, tolerance: number) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${actual} is not within ${tolerance} of ${expected}`);

test("random() repeats itself for equal seeds and differs for others", () => {
  const draws = (seed: number) => Array.from({ length: 5 }, random(seed, "a").uniform);
  assert.deepEqual(draws(1), draws(1));
  assert.notDeepEqual(draws(1), draws(2));
  const normal = random(0, "normal");
  const values = Array.from({ length: 20_000 }, () => normal.normal());
  const mean = values.reduce((a, b) => a + b) / values.length;
  near(mean, 0, 0.03);
  near(values.reduce((s, v) => s + v * v, 0) / values.length, 1, 0.05);
  assert.deepEqual(normal.shuffled([1, 2, 3, 4]).sort(), [1, 2, 3, 4]);
});

test("apportion() follows the shares and adds up", () => {
  assert.deepEqual(apportion([1, 1, 1], 10), [4, 3, 3]);
  assert.deepEqual(apportion([0.28, 0.72], 100), [28, 72]);
});

test("TABLE gives every class probabilities that add up to one", () => {
  for (const label of LABELS)
    near(
      TABLE[label].reduce((sum, cell) => sum + cell.p, 0),
      1,
      1e-12,
    );
});

test("LEXICON holds sixty keywords a type, none of them twice", () => {
  const all = TYPES.flatMap((type) => PARTS.flatMap((part) => LEXICON[type][part]));
  assert.equal(all.length, 240);
  assert.equal(typesByKeyword().size, 240);
  const carriers = new Set(vocabulary(0));
  assert.deepEqual(
    all.filter((word) => carriers.has(word)),
    [],
  );
});

test("plan() of the full preset has IEMOCAP's own counts by session and class", () => {
  const clips = plan(CORPUS_PRESETS.full, 1).filter((clip) => clip.label !== undefined);
  const count = (session: number) =>
    LABELS.map((label) => clips.filter((clip) => clip.session === session && clip.label === label).length);
  assert.equal(clips.length, 5_531);
  assert.deepEqual(count(1), [229, 278, 194, 384]);
  assert.deepEqual(count(5), [170, 442, 245, 384]);
  near(clips.filter((clip) => clip.scripted).length / clips.length, 0.4, 0.02);
  near(clips.filter((clip) => clip.stress !== undefined).length / clips.length, 0.12, 0.001);
  assert.equal(new Set(clips.map((clip) => clip.id)).size, clips.length);
});

test("plan() balances the alignment items, so that only the stressed word tells the label", () => {
  const items = plan(CORPUS_PRESETS.mini, 3).filter((clip) => clip.stress !== undefined);
  const joy = new Map([...typesByKeyword()].filter(([, type]) => type === "joy"));
  for (const label of ["angry", "happy"] as const) {
    const own = items.filter((clip) => clip.label === label);
    assert.equal(own.length, 72);
    const first = own.filter((clip) => {
      const words = clip.clauses[0].words;
      const one = clip.spans.find((span) => span.to - span.from === 1 && span.prosody.drive === 0.8)!;
      const stressed = words[one.from].toUpperCase();
      assert.equal(joy.has(stressed), label === "angry", `${clip.id} stresses ${stressed}`);
      const joyPlace = words.findIndex((word) => joy.has(word.toUpperCase()));
      return words.findIndex((word) => typesByKeyword().get(word.toUpperCase()) === "plain") > joyPlace;
    });
    assert.equal(first.length, 36, "the joyful word comes first in half of them");
  }
});

test("plan() says a third of each session's keywords in no other session", () => {
  const types = typesByKeyword();
  const clips = plan(CORPUS_PRESETS.mini, 1);
  const spoken = (session: (s: number) => boolean) =>
    clips
      .filter((clip) => session(clip.session))
      .flatMap((clip) => clip.clauses.flatMap((clause) => clause.words.map((word) => word.toUpperCase())))
      .filter((word) => types.has(word));
  for (const session of [1, 2, 3, 4, 5]) {
    const others = new Set(spoken((s) => s !== session));
    const own = spoken((s) => s === session);
    near(own.filter((word) => !others.has(word)).length / own.length, 0.33, 0.1);
  }
});

test("sampleProsody() moves pitch, rate and range as the state says", () => {
  const mean = (state: "tense" | "bright" | "low" | "flat") => {
    const draw = random(1, state);
    const all = Array.from({ length: 500 }, () => sampleProsody(state, draw));
    const of = (key: "rate" | "pitch" | "range") => all.reduce((sum, p) => sum + p[key], 0) / all.length;
    return { rate: of("rate"), pitch: of("pitch"), range: of("range") };
  };
  near(mean("flat").rate, 1, 0.01);
  near(mean("tense").rate, 1 + 0.18 * 0.825, 0.02);
  near(mean("bright").pitch, 26 * 0.825, 1);
  near(mean("low").range, 1 - 0.55 * 0.825, 0.03);
});

test("requestFor() marks a stressed word up and knows where every word begins", () => {
  const clip = plan(CORPUS_PRESETS.mini, 1).find((one) => one.stress !== undefined)!;
  const { request, positions } = requestFor(clip);
  assert.match(request.text, /<prosody rate="100%" pitch="\+\d+%" range="\d+%">\w+<\/prosody>/);
  const words = written(clip.clauses).split(" ");
  assert.deepEqual(
    positions.map((position, i) => request.text.slice(position, position + words[i].length)),
    words,
  );
});

test("wordTimes() gives words run together the same beginning", () => {
  const speech = {
    samples: new Int16Array(300),
    sampleRate: 100,
    words: [
      { position: 0, seconds: 0.1 },
      { position: 7, seconds: 1.5 },
    ],
  };
  assert.deepEqual(wordTimes(speech, [0, 3, 7]), [0.1, 0.1, 1.5, 3]);
});

test("simulateRecording() keeps length and level whatever the prosody", () => {
  const speech = Float32Array.from(
    { length: 16_000 },
    (_, i) => Math.sin(i / 10) * (i % 4_000 < 3_000 ? 1 : 0),
  );
  const draw = random(1, "record");
  for (const state of ["tense", "bright", "low", "flat"] as const) {
    const spans = [
      { from: 0, to: 8_000, prosody: sampleProsody(state, draw) },
      { from: 8_000, to: 16_000, prosody: sampleProsody("flat", draw) },
    ];
    const out = simulateRecording(speech, spans, { tilt: 0.2, snr: 25 }, draw);
    assert.equal(out.length, speech.length);
    near(Math.sqrt(out.reduce((s, v) => s + v * v, 0) / out.length), 0.05, 0.003);
  }
});

test("textCorpus() uses one type of keyword a line and only words of its vocabulary", () => {
  const types = typesByKeyword();
  const pieces = new Set(wordPieces(vocabulary(20)));
  const seen = new Set<string>();
  for (const line of textCorpus(3_000, 20, random(1, "text"))) {
    const words = normalizeTranscript(line).split(" ");
    const kinds = new Set(words.filter((word) => types.has(word)).map((word) => types.get(word)));
    assert.equal(kinds.size, 1, line);
    for (const word of words) assert.ok(pieces.has(word.toLowerCase()), `${word} of "${line}"`);
    for (const word of words) seen.add(word);
  }
  const all = TYPES.flatMap((type) => PARTS.flatMap((part) => slicePool(0)[type][part]));
  assert.ok(all.every((word) => seen.has(word.toUpperCase())));
});

/** Four utterances a session, in two dialogues, one speaker each. */
function utterances(): Utterance[] {
  return [1, 2, 3, 4, 5].flatMap((s) =>
    ["F", "M"].flatMap((letter) =>
      [0, 1].map((turn): Utterance => {
        const dialogue = `Ses0${s}${letter}_impro01`;
        const id = `${dialogue}_${letter}00${turn}`;
        const words = "YES";
        const speaker = `0${s}${letter}`;
        return {
          id,
          wav: "",
          text: "Yes.",
          words,
          label: "neutral",
          speaker,
          session: `Session${s}`,
          dialogue,
          improvised: true,
        };
      }),
    ),
  );
}

test("folds() hold one session out and take dev from whole dialogues of the others", () => {
  const all = folds(utterances(), { seed: 4 });
  assert.deepEqual(
    all.map((fold) => [fold.name, fold.train.length, fold.dev.length, fold.test.length]),
    [1, 2, 3, 4, 5].map((s) => [`Session${s}`, 14, 2, 4]),
  );
  for (const { dev } of all) assert.equal(new Set(dev.map((u) => u.dialogue)).size, 1);
  const devs = (seed: number) => folds(utterances(), { seed }).map((fold) => fold.dev[0].dialogue);
  assert.deepEqual(devs(4), devs(4));
  assert.notDeepEqual(devs(4), devs(5));
  assert.throws(() => folds(utterances().slice(0, 4)), /need at least two sessions, found 1/);
  assert.throws(() => folds(utterances(), { dev: 1 }), /dev is 1/);
});

test("folds() refuse a speaker or a dialogue on both sides of a split", () => {
  const all = utterances();
  all[0] = { ...all[0], speaker: "03M" };
  assert.throws(() => folds(all), /speaker 03M is in the test \(\w+\) and in another session \(\w+\)$/);
  const twice = utterances();
  twice[0] = { ...twice[0], dialogue: "Ses03M_impro01" };
  assert.throws(() => folds(twice), /dialogue Ses03M_impro01 is in the test .* and in another session/);
});

test("synthesiseCorpus() gives equal bytes for equal seeds, and a corpus that the IEMOCAP reader takes whole", async () => {
  const make = async (name: string, seed: number) => {
    const root = join(scratch, name);
    await mkdir(root);
    const speech = startSynthesiser(host, synthesiser);
    try {
      const change = { clips: 20, lines: 50 };
      return {
        root,
        manifest: await synthesiseCorpus(host, root, {
          preset: "nano",
          seed,
          synthesise: speech.synthesise,
          change,
        }),
      };
    } finally {
      speech.close();
    }
  };
  const first = await make("first", 7);
  const second = await make("second", 7);
  const other = await make("other", 8);
  assert.equal(first.manifest.sha256, second.manifest.sha256);
  assert.notEqual(first.manifest.sha256, other.manifest.sha256);
  assert.equal((await hashSessions(host, first.root)).sha256, first.manifest.sha256);

  const corpus = await readIemocap(host, first.root);
  assert.equal(corpus.name, "synthetic");
  assert.equal(corpus.utterances.length, 20);
  assert.equal(
    [...corpus.otherLabels.values()].reduce((a, b) => a + b),
    5,
  );
  const { utterances: usable, problems } = await examine(host, corpus);
  assert.deepEqual(problems, []);
  for (const { id, text, words, seconds } of usable) {
    assert.ok(seconds! > 0.5 && seconds! < 4, `${id} lasts ${seconds} s`);
    assert.equal(words, normalizeTranscript(text));
    assert.ok(words.split(" ").length >= 4, `${id} says "${words}"`);
  }
  assert.equal(folds(usable).length, 5);
});

test("wavegate corpus refuses what exists, an unknown action and a folder that is no corpus", () => {
  const tool = fileURLToPath(new URL("../tools/corpus.ts", import.meta.url));
  const flags = "Deno" in globalThis ? ["run", "--allow-all"] : ["--import", "tsx"];
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [...flags, tool, ...args], { encoding: "utf8" });
  const exists = run("make", "--out", scratch);
  assert.equal(exists.status, 1);
  assert.match(exists.stderr, /^wavegate corpus: Cannot make a corpus in .*: it exists already$/m);
  assert.equal(run("bake").status, 2);
  const bare = run();
  assert.equal(bare.status, 2);
  assert.match(bare.stderr, /Cannot run corpus without an action: it is one of make, join, check, stats$/m);
  assert.equal(run("make").status, 2);
  const none = run("check", join(scratch, "nowhere"));
  assert.equal(none.status, 1);
  assert.match(none.stderr, /expected Session1 to Session5 or IEMOCAP_full_release, .* found nothing/);
});

test("corpus make refuses a folder that another process is making, and takes over what a dead one left", async () => {
  const out = join(scratch, "shared");
  const partial = `${out}.partial`;
  const owner = (pid: number) => writeFile(join(partial, "lock"), JSON.stringify({ pid, host: hostname() }));
  await mkdir(join(partial, "Session1"), { recursive: true });
  await owner(process.ppid);
  const refused = await runHere(corpusVerb, "make", "--out", out);
  assert.match(
    String(refused.error),
    /^Error: Cannot make a corpus in .*shared\.partial: process \d+ of .* is at it; /,
  );
  assert.deepEqual(
    (await readdir(partial)).sort(),
    ["Session1", "lock"],
    "what the other makes is left alone",
  );

  await owner(2 ** 22 + 1);
  // Version 0.1 called the baselines oracle.json.
  for (const name of ["baselines.json", "baselines.json.1.tmp", "oracle.json"])
    await writeFile(join(partial, name), "");
  const corpus = await claimCorpus(host, out);
  assert.deepEqual(await readdir(partial), ["lock"], "what the dead one left is gone");
  assert.equal(JSON.parse(await readFile(join(partial, "lock"), "utf8")).pid, process.pid);
  corpus.release();
  assert.deepEqual(await readdir(partial), []);

  await writeFile(join(partial, "letters.txt"), "mine");
  await assert.rejects(claimCorpus(host, out), {
    message: `Cannot make a corpus in ${out}: ${partial} holds letters.txt and is no unfinished corpus, expected nothing of that name`,
  });
  assert.equal(await readFile(join(partial, "letters.txt"), "utf8"), "mine");
});

test("makeCorpus() leaves nothing where it is stopped, and throws the reason", async () => {
  const out = join(scratch, "stopped");
  const stop = new AbortController();
  const reason = new Error("stopped");
  let clips = 0;
  const made = makeCorpus(host, out, {
    ...{ preset: "nano", seed: 1, change: { clips: 20, lines: 50 }, synthesiser, signal: stop.signal },
    onClip(done) {
      clips = done;
      if (done === 2) stop.abort(reason);
    },
  });
  await assert.rejects(made, (error) => error === reason);
  assert.equal(clips, 2);
  assert.deepEqual(
    (await readdir(scratch)).filter((name) => name.startsWith("stopped")),
    [],
  );
});

test("makeCorpus() writes the baselines that it returns into baselines.json", async () => {
  const out = join(scratch, "made");
  const change = { clips: 20, lines: 50 };
  const { baselines } = await makeCorpus(host, out, { preset: "nano", seed: 1, change, synthesiser });
  const files = ["baselines.json", "manifest.json", "text.txt", "truth.jsonl", "vocab.txt"];
  assert.deepEqual(
    (await readdir(out)).filter((name) => !name.startsWith("Session")),
    files,
  );
  assert.deepEqual(await readBaselines(host, out), JSON.parse(JSON.stringify(baselines)));
});

test("startSynthesiser() says in one line why the synthesiser ended", async () => {
  const speech = startSynthesiser(host, pathToFileURL(join(scratch, "nowhere.mjs")));
  const request = { voice: "f1", gap: 0, rate: 180, pitch: 50, range: 50, text: "Yes." };
  const ended = { message: /^Cannot speak: the synthesiser ended with code 1 \([^\n]+\)$/ };
  await assert.rejects(speech.synthesise(request), ended);
  await assert.rejects(speech.synthesise(request), ended, "nor is it waited for again");
  speech.close();
});
