/** The corpora beside IEMOCAP, in the naming of their releases: layout, labels, speakers, folds, and what is refused. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, test } from "node:test";
import { readBaselines } from "../src/speech/baselines/baselines.ts";
import { speakerGroups } from "../src/speech/corpora/clips.ts";
import { type Corpus, labelLine, problemLine } from "../src/speech/corpora/corpus.ts";
import { FILE_NAMES } from "../src/speech/corpora/file_names.ts";
import { folds, holdOutSpeaker, requireSessions, speakersOf } from "../src/speech/corpora/folds.ts";
import { heardLine } from "../src/speech/corpora/held_out.ts";
import { readCorpus } from "../src/speech/corpora/read.ts";
import { baselineNote } from "../src/speech/crossvalidate/baselines_beside.ts";
import type { Plan } from "../src/speech/crossvalidate/plan.ts";
import { currentHost } from "../src/host/current.ts";
import { parseCsv } from "../src/io/csv.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { verb as corpusVerb } from "../tools/corpus.ts";
import { verb as crossvalidateVerb } from "../tools/crossvalidate.ts";
import { verb as evaluateVerb } from "../tools/evaluate.ts";
import { verb as trainVerb } from "../tools/train.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const scratch = await mkdtemp(join(tmpdir(), "wavegate-corpora-"));
after(() => rm(scratch, { recursive: true }));

/** Half a second. */
await writeWav16(
  host,
  join(scratch, "tone.wav"),
  Float32Array.from({ length: 8000 }, (_, t) => 0.1 * Math.sin(0.05 * t)),
);
const tone = await readFile(join(scratch, "tone.wav"));

let made = 0;

/** A folder with these files: texts, or "wav" for a short recording that differs from every other. */
async function folder(files: Readonly<Record<string, string | undefined>> | readonly string[]) {
  const root = join(scratch, String(made++));
  const entries = Array.isArray(files) ? files.map((name) => [name, undefined]) : Object.entries(files);
  for (const [i, [name, content]] of entries.entries()) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    if (content !== undefined) await writeFile(join(root, name), content);
    else {
      const bytes = Buffer.from(tone);
      bytes.writeInt16LE(i, bytes.length - 2);
      await writeFile(join(root, name), bytes);
    }
  }
  return root;
}

const two = (n: number) => String(n).padStart(2, "0");
/** Clips of RAVDESS: every actor once with each of the emotions. */
const ravdess = (actors: readonly number[], emotions: readonly number[]) =>
  actors.flatMap((actor) =>
    emotions.map(
      (emotion) => `Actor_${two(actor)}/03-01-${two(emotion)}-01-0${1 + (emotion % 2)}-01-${two(actor)}.wav`,
    ),
  );

const problemsOf = (corpus: Corpus) =>
  corpus.problems.filter(({ kind }) => kind !== "incomplete release").map(problemLine);

test("readCorpus() reads RAVDESS: calm counts as neutral, song and four emotions are left out, groups have both sexes", async () => {
  const actors = Array.from({ length: 24 }, (_, i) => i + 1);
  const root = await folder([
    ...ravdess(actors, [1, 2, 3, 4, 5, 6, 7, 8]),
    "Actor_01/03-02-05-01-01-01-01.wav",
    "audio_speech_actors_01-24/Actor_01/03-01-05-01-02-01-01.wav",
    "Actor_01/take two.wav",
    "Actor_01/._03-01-05-01-02-02-01.wav",
  ]);
  const corpus = await readCorpus(host, `${root}/`);
  assert.equal(corpus.name, "RAVDESS");
  assert.equal(
    labelLine(corpus),
    "angry 24, happy 24, sad 24, neutral 48 = calm 24 + neutral 24; left out: disgust 24, fearful 24, song 1, surprised 24",
  );
  assert.deepEqual(problemsOf(corpus), [
    `03-01-05-01-02-01-01: duplicate id, left out: ${root}/audio_speech_actors_01-24/Actor_01/03-01-05-01-02-01-01.wav`,
    "Actor_01: other name, left out: 1 wav file with no name of RAVDESS, the first take two.wav",
  ]);
  assert.deepEqual(corpus.problems.at(-1), {
    ...{ id: root, kind: "incomplete release" },
    handled: "used as it is: 192 clips, the release has 1440",
  });
  assert.deepEqual(corpus.sessions, ["Group1", "Group2", "Group3", "Group4"]);
  const made = folds(corpus.utterances);
  assert.deepEqual(speakersOf(made[0].test), ["01M", "02F", "09M", "10F", "17M", "18F"]);
  for (const { train, dev, test } of made) {
    assert.equal(speakersOf(test).length, 6);
    assert.equal(speakersOf(dev).length, 2);
    const all = [train, dev, test].flatMap((part) => speakersOf(part));
    assert.equal(new Set(all).size, all.length, "no speaker is in two parts");
  }
  assert.equal(corpus.foldRule, "4 groups of its 24 speakers, women and men dealt out in turn");
  const texts = new Map(corpus.utterances.map((u) => [u.id.split("-")[4], u.words]));
  assert.deepEqual([...texts].sort(), [
    ["01", "KIDS ARE TALKING BY THE DOOR"],
    ["02", "DOGS ARE SITTING BY THE DOOR"],
  ]);
});

test("readCorpus() reads CREMA-D with all ninety-one actors, and the name that its release misspells", async () => {
  const root = await folder([
    "AudioWAV/1001_DFA_ANG_XX.wav",
    "AudioWAV/1002_IEO_HAP_HI.wav",
    "AudioWAV/1040_ITH_SAD_X.wav",
    "AudioWAV/1091_WSI_NEU_LO.wav",
    "AudioWAV/1091_MTI_DIS_MD.wav",
    "AudioWAV/1092_MTI_DIS_MD.wav",
    "AudioWAV/1001_DFA_JOY_XX.wav",
  ]);
  const corpus = await readCorpus(host, root);
  assert.equal(corpus.name, "CREMA-D");
  assert.deepEqual(
    corpus.utterances.map(({ speaker, label, words }) => [speaker, label, words]),
    [
      ["1001M", "angry", "DON'T FORGET A JACKET"],
      ["1002F", "happy", "IT'S ELEVEN O'CLOCK"],
      ["1040M", "sad", "I THINK I HAVE A DOCTOR'S APPOINTMENT"],
      ["1091F", "neutral", "WE'LL STOP IN A COUPLE OF MINUTES"],
    ],
  );
  assert.deepEqual([...corpus.otherLabels], [["disgust", 1]]);
  assert.deepEqual(problemsOf(corpus), [
    "AudioWAV: other name, left out: 2 wav files with no name of CREMA-D, the first 1001_DFA_JOY_XX.wav",
  ]);
  const sexes = Array.from(
    { length: 91 },
    (_, i) => FILE_NAMES["crema-d"].parse(`${1001 + i}_TSI_FEA_XX`)?.sex,
  );
  assert.equal(sexes.filter((sex) => sex === "F").length, 43);
  assert.equal(sexes.filter((sex) => sex === "M").length, 48);
});

test("readCorpus() reads EMO-DB: German sentences, five groups of a woman and a man", async () => {
  const speakers = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"];
  const root = await folder(
    speakers.flatMap((speaker) =>
      ["Wa", "Fb", "Ta", "Nc", "La", "Ea", "Aa"].map((code) => `wav/${speaker}b01${code}.wav`),
    ),
  );
  const corpus = await readCorpus(host, root);
  assert.equal(corpus.name, "EMO-DB");
  assert.equal(
    labelLine(corpus),
    "angry 10 = anger 10, happy 10 = happiness 10, sad 10 = sadness 10, neutral 10; left out: boredom 10, disgust 10, fear 10",
  );
  assert.equal(corpus.utterances[0].words, "WAS SIND DENN DAS FUR TUTEN DIE DA UNTER DEM TISCH STEHEN");
  assert.deepEqual(
    folds(corpus.utterances).map(({ test }) => speakersOf(test)),
    [
      ["03M", "08F"],
      ["09F", "10M"],
      ["11M", "13F"],
      ["12M", "14F"],
      ["15M", "16F"],
    ],
  );
});

test("readCorpus() reads TESS: two actresses, whose dev sets are words", async () => {
  const words = ["back", "bite", "jail", "young"];
  const root = await folder(
    ["OAF", "YAF"].flatMap((who) =>
      words.flatMap((word) => [
        `${who}_angry/${who}_${word}_angry.wav`,
        `${who}_happy/${who}_${word}_happy.wav`,
        `${who}_Sad/${who}_${word}_sad.wav`,
        `${who}_Pleasant_surprise/${who}_${word}_ps.wav`,
        // As the release has it.
        `${who}_neutral/${who === "OAF" && word === "bite" ? "OA" : who}_${word}_neutral.wav`,
      ]),
    ),
  );
  const corpus = await readCorpus(host, root);
  assert.equal(corpus.name, "TESS");
  assert.deepEqual([...corpus.otherLabels], [["pleasant surprise", 8]]);
  assert.deepEqual(problemsOf(corpus), []);
  const [older, younger] = folds(corpus.utterances);
  assert.deepEqual([speakersOf(older.test), speakersOf(older.dev)], [["OAF"], ["YAF"]]);
  assert.deepEqual([older.test.length, older.dev.length, older.train.length], [16, 4, 12]);
  assert.deepEqual(new Set(older.dev.map((u) => u.words)).size, 1);
  assert.deepEqual(speakersOf(younger.test), ["YAF"]);
  const odd = corpus.utterances.find(({ id }) => id === "OA_bite_neutral");
  assert.deepEqual([odd?.speaker, odd?.words], ["OAF", "SAY THE WORD BITE"]);
});

const MELD =
  "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime";
const meldRow = (text: string, speaker: string, emotion: string, dialogue: number, utterance: number) =>
  `1,"${text}",${speaker},${emotion},neutral,${dialogue},${utterance},8,21,"00:16:16,059","00:16:21,731"`;

test("readCorpus() reads MELD with its own split, and says whom the test shares with training", async () => {
  const root = await folder({
    "train_sent_emo.csv": `${MELD}\n${meldRow("Oh, my God!", "Ross", "joy", 0, 0)}\n${meldRow("No.", "Joey", "disgust", 0, 1)}\n${meldRow("She said, “hi”", "Ross", "anger", 1, 0)}\n${meldRow("Gone", "Ross", "sadness", 9, 9)}\n${meldRow("What", "Ross", "bliss", 9, 8)}\n`,
    "dev_sent_emo.csv": `${MELD}\r\n${meldRow("Well?", "Monica", "neutral", 0, 0)}\r\n`,
    "test_sent_emo.csv": `${MELD}\n${meldRow("Yes.", "Ross", "sadness", 0, 0)}\n${meldRow("Mm.", "Mark", "neutral", 0, 1)}\n`,
    "train/train_splits/dia0_utt0.wav": undefined,
    "train/train_splits/dia1_utt0.wav": undefined,
    "dev/dev_splits_complete/dia0_utt0.wav": undefined,
    "test/output_repeated_splits_test/dia0_utt0.wav": undefined,
    "test/output_repeated_splits_test/dia0_utt1.wav": undefined,
    "test/output_repeated_splits_test/final_videos_testdia0_utt1.wav": undefined,
  });
  const corpus = await readCorpus(host, root);
  assert.equal(corpus.name, "MELD");
  assert.deepEqual(requireSessions(corpus.utterances), ["test"]);
  const [fold, ...others] = folds(corpus.utterances);
  assert.deepEqual(
    [fold.train, fold.dev, fold.test].map((part) => part.map(({ id }) => id)),
    [["train_dia0_utt0", "train_dia1_utt0"], ["dev_dia0_utt0"], ["test_dia0_utt0", "test_dia0_utt1"]],
  );
  assert.deepEqual(others, []);
  assert.deepEqual(problemsOf(corpus), [
    "train_dia9_utt9: missing wav, left out",
    'train_dia9_utt8: unknown label, left out: label "bliss"',
  ]);
  assert.throws(() => holdOutSpeaker(corpus.utterances, "Ross"), {
    message: "Cannot hold out speaker Ross: the corpus has a split of its own, whose test is the only fold",
  });
  const { printed, json } = await runHere(corpusVerb, "check", root);
  assert.ok(printed.includes("folds: its own split by dialogues, with speakers on both sides"));
  assert.ok(
    printed.includes(
      "1 of 2 speakers of test are in training too: the corpus's own split is no test on unheard speakers",
    ),
  );
  assert.ok(!printed.some((line) => line.startsWith("speakers of every test are unheard")));
  assert.deepEqual(json.leftOut, { disgust: 1 });
});

test("readCorpus() says how to get the sound of MELD's videos, and which column a table lacks", async () => {
  const tables = (header: string) => ({
    ...{
      "train_sent_emo.csv": `${header}\n`,
      "dev_sent_emo.csv": `${header}\n`,
      "test_sent_emo.csv": `${header}\n`,
    },
  });
  const mute = await folder({ ...tables(MELD), "train_splits/dia0_utt0.mp4": "" });
  await assert.rejects(
    readCorpus(host, mute),
    /it has 1 videos and no sound of them; .* ffmpeg -i \$f -ac 1/,
  );
  const bare = await folder({ ...tables("Utterance,Speaker"), "train_splits/dia0_utt0.wav": undefined });
  await assert.rejects(readCorpus(host, bare), /train_sent_emo\.csv: it lacks the column Emotion$/);
});

test("readCorpus() reads a manifest: relative paths, groups or a split, labels under several names", async () => {
  const clips = { "a/1.wav": undefined, "a/2.wav": undefined, "3.wav": undefined, "4.wav": undefined };
  const grouped = await folder({
    ...clips,
    "manifest.csv":
      '\ufeffPath,Label,Text,Speaker,Group,age\r\na/1.wav,anger,"I said, ""no""",ann,north,30\r\na/2.wav,Joy,Yes!,ann,north,30\r\n3.wav,sad,,bob,south,40\r\n4.wav,fear,Oh,bob,south,40\r\nlost.wav,neutral,Hm,bob,south,40\r\n',
  });
  const corpus = await readCorpus(host, grouped);
  assert.deepEqual(
    [corpus.name, corpus.sessions, corpus.foldRule],
    ["manifest.csv", ["north", "south"], "its groups"],
  );
  assert.deepEqual(
    corpus.utterances.map(({ id, words, label, session }) => [id, words, label, session]),
    [
      ["a/1", "I SAID NO", "angry", "north"],
      ["a/2", "YES", "happy", "north"],
      ["3", "", "sad", "south"],
    ],
  );
  assert.deepEqual(problemsOf(corpus), [
    "3: missing transcript, taken as empty",
    "lost: missing wav, left out",
  ]);
  assert.deepEqual([...corpus.otherLabels], [["fear", 1]]);

  const split = await folder({
    ...clips,
    "manifest.jsonl": ["a/1", "a/2", "3", "4"]
      .map((name, i) =>
        JSON.stringify({ path: `${name}.wav`, label: "sad", split: ["train", "dev", "test", "train"][i] }),
      )
      .join("\n"),
  });
  const own = await readCorpus(host, join(split, "manifest.jsonl"));
  assert.equal(own.transcribed, false);
  const [fold] = folds(own.utterances);
  assert.deepEqual([fold.train.length, fold.dev.length, fold.test.length], [2, 1, 1]);
  assert.equal(
    heardLine(fold),
    "the corpus does not say who speaks: speakers of test may be in training too",
  );

  const speakers = await folder({
    ...clips,
    "manifest.csv": "path,label,speaker\na/1.wav,sad,1\na/2.wav,sad,2\n3.wav,sad,3\n4.wav,sad,1\n",
  });
  const dealt = await readCorpus(host, speakers);
  assert.equal(dealt.foldRule, "3 groups of its 3 speakers, dealt out in turn");
  assert.equal(folds(dealt.utterances).length, 3);
});

test("a damaged manifest is refused in one line", async () => {
  const cases: [name: string, content: string, message: RegExp][] = [
    ["manifest.csv", "", /it lacks the column path; it has none$/],
    ["manifest.csv", "path,label\n", /it has no rows$/],
    ["manifest.csv", "path,text\n", /it lacks the column label; it has path, text$/],
    ["manifest.csv", "path,label\na.wav\n", /row 1 has 1 fields, expected 2$/],
    ["manifest.csv", "path,label,speaker\n,sad,x\n", /row 1 has no path$/],
    [
      "manifest.csv",
      "path,label\na.wav,sad\n",
      /row 1 has no speaker, and without a split folds are made by/,
    ],
    [
      "manifest.csv",
      "path,label,split\na.wav,sad,eval\n",
      /row 1 has the split "eval", expected train, dev or test$/,
    ],
    ["manifest.csv", "path,label,split\na.wav,sad,train\nb.wav,sad,\n", /row 2 has no split$/],
    [
      "manifest.csv",
      "path,label,group,split\na.wav,sad,x,train\n",
      /it has group and split, and either makes the/,
    ],
    ["manifest.csv", 'path,label\n"a.wav,sad\n', /manifest\.csv: a quote in line 2 is not closed/],
    ["manifest.jsonl", '{"path": "a.wav"\n', /manifest\.jsonl, line 1: not JSON/],
    [
      "manifest.jsonl",
      '{"path": {}, "label": "sad"}\n',
      /manifest\.jsonl, line 1: path is \{\} but should be a text/,
    ],
  ];
  for (const [name, content, message] of cases)
    await assert.rejects(readCorpus(host, await folder({ [name]: content })), (error: Error) => {
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  const both = await folder({ "manifest.csv": "path,label\n", "manifest.jsonl": "" });
  await assert.rejects(readCorpus(host, both), /it has manifest\.csv and manifest\.jsonl; name one of them$/);
});

test("readCorpus() refuses a folder of several corpora or none, unless --corpus says which", async () => {
  const mixed = await folder([...ravdess([1, 2], [5]), "AudioWAV/1001_DFA_ANG_XX.wav"]);
  await assert.rejects(readCorpus(host, mixed), {
    name: "RangeError",
    message: `Cannot tell which corpus ${mixed} is, ravdess or crema-d: 2 wav files have names of RAVDESS, 1 wav file has a name of CREMA-D; --corpus NAME says it`,
  });
  const forced = await readCorpus(host, mixed, "crema-d");
  assert.equal(forced.utterances.length, 1);
  assert.deepEqual(problemsOf(forced), [
    "Actor_01: other name, left out: 1 wav file with no name of CREMA-D, the first 03-01-05-01-02-01-01.wav",
    "Actor_02: other name, left out: 1 wav file with no name of CREMA-D, the first 03-01-05-01-02-01-02.wav",
  ]);
  await assert.rejects(
    readCorpus(host, mixed, "tess"),
    /Cannot read TESS from .*: none of its 3 wav files has a name/,
  );
  await assert.rejects(readCorpus(host, join(mixed, "none"), "tess"), /there is no such folder$/);
  const beside = await folder({
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "",
    "Session1/sentences/wav/03-01-05-01-01-01-01.wav": undefined,
    "CREMA-D/1001_DFA_ANG_XX.wav": undefined,
  });
  await assert.rejects(
    readCorpus(host, beside),
    /, iemocap or crema-d: 1 wav file has a name of CREMA-D; --corpus/,
  );
  assert.equal((await readCorpus(host, beside, "iemocap")).name, "IEMOCAP");
  const other = await folder(["clips/hello.wav"]);
  await assert.rejects(
    readCorpus(host, other),
    /expected Session1 .* clips of RAVDESS, CREMA-D, EMO-DB, TESS, manifest\.csv .* found clips with 1 wav files$/,
  );
});

test("speakerGroups() deals each sex out in turn, and makes no empty group", () => {
  const sexes = new Map([..."abcdefg"].map((name, i) => [name, i < 4 ? ("F" as const) : ("M" as const)]));
  assert.deepEqual(Object.fromEntries(speakerGroups(sexes, 2)), {
    ...{ a: "Group1", b: "Group2", c: "Group1", d: "Group2", e: "Group1", f: "Group2", g: "Group1" },
  });
  assert.equal(new Set(speakerGroups(new Map([["x", undefined]]), 5).values()).size, 1);
});

test("parseCsv() takes quotes, line ends of any kind and an empty last field", () => {
  assert.deepEqual(parseCsv('a,"b ""c"", d\n"\r\n1,\r2,3\n\n', "x.csv"), [
    ["a", 'b "c", d\n'],
    ["1", ""],
    ["2", "3"],
  ]);
  assert.deepEqual(parseCsv("a,", "x.csv"), [["a", ""]]);
  assert.throws(() => parseCsv('a\nb "c"', "x.csv"), {
    message: "Cannot read x.csv: a quote in line 2 is not closed, or stands inside a field",
  });
});

test("train, evaluate, crossvalidate and corpus stats take RAVDESS, and words are refused where there are none", async () => {
  const root = await folder(ravdess([1, 2, 3, 4, 5, 6, 7, 8], [1, 3, 4, 5]));
  const run = join(scratch, "run");
  const small = ["--set", "stage1.epochs=1", "--set", "stage1.batch.items=8"];
  const trained = await runHere(
    trainVerb,
    ...["--system", "acoustic", "--preset", "nano", "--data", root, "--corpus", "ravdess", "--fold", "2"],
    ...[...small, "--no-tune", "--out", run],
  );
  assert.equal(trained.error, undefined);
  assert.ok(
    trained.notes.includes(
      "RAVDESS: angry 8, happy 8, sad 8, neutral 8; left out: none; folds are 4 groups of its 8 speakers, women and men dealt out in turn",
    ),
  );
  assert.ok(
    trained.notes.includes(
      "Group2 held out: 8 utterances of speakers 03M, 04F; 20 to learn from, 4 to choose the epoch",
    ),
  );
  const evaluated = await runHere(evaluateVerb, "--model", `${run}/model`, "--data", root);
  assert.equal(evaluated.error, undefined);
  assert.deepEqual([evaluated.json.fold, evaluated.json.report.utterances], ["Group2", 8]);

  const planned = await runHere(
    crossvalidateVerb,
    ...["--systems", "acoustic", "--preset", "nano", "--data", root, "--folds", "all", "--dry-run"],
    ...["--out", join(scratch, "cross")],
  );
  assert.deepEqual(
    (planned.json.plan as { kind: string; fold: string }[])
      .filter(({ kind }) => kind === "train")
      .map(({ fold }) => fold),
    ["Group1", "Group2", "Group3", "Group4"],
  );
  const make = await runHere(corpusVerb, "make", "--corpus", "tess", "--out", join(scratch, "made"));
  assert.match(String(make.error), /Cannot run corpus make with --corpus: it is for corpus check and stats$/);
  const stats = await runHere(corpusVerb, "stats", root);
  assert.deepEqual(Object.keys(stats.json.baselines.lda.folds), ["Group1", "Group2", "Group3", "Group4"]);

  const out = await folder({ "plan.json": "{}" });
  const asked = { data: root, folds: ["Group1", "Group2"] } as unknown as Plan["asked"];
  const line = (folds = asked.folds) =>
    baselineNote(host, out, { asked: { ...asked, folds } } as Plan, new AbortController().signal);
  const [first, second] = ["Group1", "Group2"].map((name) => stats.json.baselines.lda.folds[name]);
  const note = await line();
  assert.ok(note.includes(`analysis of hand features ${(50 * (first + second)).toFixed(1)} % ± `), note);
  assert.ok((await readBaselines(host, out)) !== undefined, "measured once");
  assert.equal(await line(), note);
  assert.equal(await line(["01M"]), "No baselines: they are measured by sessions, and not by speakers.");

  const plain = await folder({
    ...Object.fromEntries(["1.wav", "2.wav"].map((name) => [name, undefined])),
    "manifest.csv": "path,label,speaker\n1.wav,sad,a\n2.wav,angry,b\n",
  });
  const given = ["--data", plain, "--out", join(scratch, "none")];
  for (const { error } of [
    await runHere(trainVerb, "--system", "acoustic-asr", ...given),
    await runHere(crossvalidateVerb, "--systems", "acoustic-asr", ...given),
  ])
    assert.match(
      String(error),
      /Cannot train acoustic-asr on .*: manifest\.csv has no transcripts, and it learns words; the system acoustic needs none$/,
    );
});

test("corpus join makes one corpus of several: groups or a split, relative paths, and no text where one has none", async () => {
  const written = await folder({
    "a.wav": undefined,
    "b.wav": undefined,
    "manifest.csv":
      'path,label,text,speaker,group\na.wav,sad,"Oh, no.",ann,north\nb.wav,fear,Help,bob,south\nb.wav,joy,Yes,bob,south\n',
  });
  const acted = await folder(ravdess([1, 3], [4, 5]));
  const silent = await folder({
    "c.wav": undefined,
    "d.wav": undefined,
    "manifest.csv": "path,label,speaker\nc.wav,angry,cid\nd.wav,neutral,dan\n",
  });
  const rowsOf = async (out: string) =>
    (await readFile(join(out, "manifest.jsonl"), "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  const run = (...args: string[]) => runHere(corpusVerb, "join", ...args);

  const out = join(scratch, "joined", "both");
  const { json, error } = await run(`own=${written}`, `acted=${acted}`, "--out", out);
  assert.equal(error, undefined);
  assert.deepEqual([json.recordings, json.wordless, json.leftOut], [6, [], []]);
  assert.deepEqual((await rowsOf(out))[0], {
    ...{ path: `../../${basename(written)}/a.wav`, label: "sad", text: "Oh, no." },
    ...{ speaker: "own/ann", group: "own/north" },
  });
  const corpus = await readCorpus(host, out);
  assert.deepEqual(corpus.sessions, ["acted/Group1", "acted/Group2", "own/north", "own/south"]);
  assert.deepEqual(corpus.utterances.map(({ label, words }) => [label, words !== ""]).slice(0, 2), [
    ["sad", true],
    ["happy", true],
  ]);
  assert.equal(corpus.transcribed, true);
  assert.equal(folds(corpus.utterances, { dev: 0 }).length, 4);

  const split = join(scratch, "joined", "split");
  const chosen = ["--test", "own/south", "--dev", "acted/Group2", "--without", "silent/Group2"];
  const three = await run(`own=${written}`, `acted=${acted}`, `silent=${silent}`, "--out", split, ...chosen);
  assert.deepEqual(three.json.leftOut, ["silent/Group2"]);
  assert.deepEqual(three.json.wordless, ["silent"]);
  assert.deepEqual(
    (await rowsOf(split)).map((row) => [row.speaker, row.split, "text" in row, "group" in row]),
    [
      ["own/ann", "train", false, false],
      ["own/bob", "test", false, false],
      ["acted/01M", "train", false, false],
      ["acted/01M", "train", false, false],
      ["acted/03M", "dev", false, false],
      ["acted/03M", "dev", false, false],
      ["silent/cid", "train", false, false],
    ],
  );
  const [fold] = folds((await readCorpus(host, split)).utterances);
  assert.deepEqual([fold.train.length, fold.dev.length, fold.test.length], [4, 2, 1]);

  const both = [`own=${written}`, `acted=${acted}`];
  const nameless = await folder({
    "e.wav": undefined,
    "f.wav": undefined,
    "manifest.csv": "path,label,split\ne.wav,sad,train\nf.wav,sad,test\n",
  });
  for (const [args, message] of [
    [both, /Cannot join corpora without --out DIR$/],
    [[both[0], "--out", "x"], /Cannot join one corpus: give two or more$/],
    [[...both, "--out", out], /Cannot write .*both: it exists, and corpus join does not change a corpus$/],
    [[written, `${written}/`, "--out", "x"], /Cannot call .* and .* both \d+: give NAME=/],
    [[`a=${written}`, `b=${written}`, "--out", "x"], /Cannot join: .*a\.wav is in a and in b$/],
    [
      [...both, "--out", "x", "--test", "own/west"],
      /Cannot join: --test names own\/west, and there are own\/north, own\/south, acted\/Group1, acted\/Group2$/,
    ],
    [
      [...both, "--out", "x", "--test", "own", "--dev", "own/north"],
      /Cannot join: own\/north is in --test and in --dev$/,
    ],
    [[...both, "--out", "x", "--dev", "own"], /Cannot join: --dev needs --test/],
    [[...both, "--out", "x", "--test", "own,acted"], /Cannot join: nothing is left to learn from$/],
    [[both[0], `n=${nameless}`, "--out", "x"], /Cannot join: n does not say who speaks in .*e\.wav$/],
  ] as const)
    assert.match(String((await run(...args)).error), message);
  const stats = await runHere(corpusVerb, "stats", written, "--test", "a");
  assert.match(String(stats.error), /Cannot run corpus stats with --test: it is for corpus join$/);
  for (const option of ["--preset=mini", "--seed=3"]) {
    const { error } = await runHere(corpusVerb, "stats", written, option);
    assert.match(String(error), /Cannot run corpus stats with --(preset|seed): it is for corpus make$/);
  }
  const empty = await run(...both, "--out", "x", "--test", "own/north,");
  assert.match(String(empty.error), /Cannot join: --test names "", and there are own\/north/);
  const layout = await run(...both, "--out", "x", "--corpus", "ravdess");
  assert.match(
    String(layout.error),
    /Cannot run corpus join with --corpus: it is for corpus check and stats$/,
  );
});
