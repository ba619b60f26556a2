import assert from "node:assert/strict";
import { test } from "node:test";
import { LABELS, type Label, type Utterance } from "../src/speech/corpora/corpus.ts";
import { ceilings } from "../src/speech/synthetic/ceilings.ts";
import { fitLda, fitNaiveBayes } from "../src/speech/baselines/classifiers.ts";
import { FEATURES, acousticFeatures } from "../src/speech/baselines/features.ts";
import { besideBaseline, formatBesideBaseline } from "../src/speech/evaluate/beside_baseline.ts";
import { bootstrap, wilson } from "../src/speech/evaluate/intervals.ts";
import { meanAndDeviation, score } from "../src/speech/metrics/metrics.ts";
import { type Answer, answersCsv, scoreAnswers, formatReport } from "../src/speech/evaluate/report.ts";
import { alignWords, totalEdits, wer, wordEdits } from "../src/speech/metrics/wer.ts";

const near = (actual: number, expected: number, tolerance = 1e-6) =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${actual} is not within ${tolerance} of ${expected}`);

test("score() gives UA, WA and F1 as computed by hand", () => {
  // Class 0: 3 of 4 right; class 1: 1 of 2; class 2: 0 of 1; class 3 does not occur.
  const truth = [0, 0, 0, 0, 1, 1, 2];
  const predicted = [0, 0, 0, 1, 1, 0, 0];
  const { ua, wa, perClass, confusion, macroF1 } = score(truth, predicted, 4);
  near(ua, (0.75 + 0.5 + 0) / 3);
  near(wa, 4 / 7);
  assert.deepEqual(confusion, [
    [3, 1, 0, 0],
    [1, 1, 0, 0],
    [1, 0, 0, 0],
    [0, 0, 0, 0],
  ]);
  near(perClass[0].precision, 3 / 5);
  near(perClass[0].f1, (2 * 0.6 * 0.75) / 1.35);
  assert.deepEqual(perClass[3], { precision: 0, recall: 0, f1: 0, support: 0 });
  near(macroF1, ((2 * 0.6 * 0.75) / 1.35 + 0.5 + 0) / 3);
});

test("score() names the utterance whose class does not exist", () => {
  assert.throws(() => score([0, 4], [0, 1], 4), /utterance 1 has label 4 and prediction 1, expected 0 to 3/);
  assert.throws(() => score([0], [], 4), /1 labels but 0 predictions/);
  assert.throws(() => score([], [], 4), /no utterances/);
});

test("meanAndDeviation() divides by one less than the count", () => {
  assert.deepEqual(meanAndDeviation([1, 2, 3]), { mean: 2, deviation: 1 });
  assert.deepEqual(meanAndDeviation([5]), { mean: 5, deviation: 0 });
});

test("alignWords() counts substitutions, deletions and insertions apart", () => {
  const words = (text: string) => text.split(" ");
  assert.deepEqual(alignWords(words("THE CAT SAT ON THE MAT"), words("THE CAT SIT ON MAT NOW")), {
    substitutions: 1,
    deletions: 1,
    insertions: 1,
    correct: 4,
    length: 6,
  });
  assert.deepEqual(alignWords(["A", "B"], []), {
    substitutions: 0,
    deletions: 2,
    insertions: 0,
    correct: 0,
    length: 2,
  });
});

test("wer() adds edits before dividing and counts words said where there are none", () => {
  const edits = [
    wordEdits({ reference: "ONE TWO THREE FOUR", hypothesis: "ONE TWO THREE FOUR" }),
    wordEdits({ reference: "FIVE", hypothesis: "NINE" }),
    wordEdits({ reference: "", hypothesis: "OH NO" }),
  ];
  near(wer(totalEdits(edits)), 3 / 5);
  assert.ok(Number.isNaN(wer(wordEdits({ reference: "", hypothesis: "" }))));
});

test("wilson() agrees with the published example of 81 of 263", () => {
  // Newcombe 1998, table I: 0.2553 to 0.3662.
  const { low, high } = wilson(81, 263);
  near(low, 0.2553, 5e-5);
  near(high, 0.3662, 5e-5);
  near(wilson(0, 10).low, 0);
  near(wilson(10, 10).high, 1);
  assert.throws(() => wilson(3, 2), /3 correct of 2/);
});

test("bootstrap() resamples whole groups", () => {
  // Ten groups of ten equal values: the mean's interval is that of ten draws, not of a hundred.
  const groups = Array.from({ length: 100 }, (_, i) => `dialogue ${Math.floor(i / 10)}`);
  const value = groups.map((_, i) => Math.floor(i / 10) % 2);
  const mean = (indices: readonly number[]) => indices.reduce((s, i) => s + value[i], 0) / indices.length;
  const { low, high } = bootstrap(groups, mean, { seed: 3 });
  near(low, 0.2, 0.11);
  near(high, 0.8, 0.11);
  assert.deepEqual(bootstrap(groups, mean, { seed: 3 }), { low, high });
  const single = bootstrap(
    groups.map((_, i) => String(i)),
    mean,
    { seed: 3 },
  );
  assert.ok(single.high - single.low < 0.25);
});

test("ceilings() of the joint table are 71, 67.5 and 85 %", () => {
  const exact = ceilings({ state: 0, keyword: 0 }, 0);
  near(exact.audio, 0.71, 1e-9);
  near(exact.text, 0.675, 1e-9);
  near(exact.both, 0.85, 1e-9);
  const misread = ceilings({ state: 0.1, keyword: 0.1 }, 0);
  near(misread.audio, 0.65, 0.005);
  near(misread.text, 0.63, 0.005);
  near(misread.both, 0.79, 0.01);
  const mixed = ceilings();
  assert.ok(mixed.aligned - mixed.both > 0.04, "alignment items are worth five points");
});

test("fitLda() finds classes that differ along one direction of correlated features", () => {
  // x1 = t + class, x2 = t: neither alone tells the class, their difference does.
  const samples = Array.from({ length: 60 }, (_, i) => [
    Math.sin(i) * 5 + (i % 2),
    Math.sin(i) * 5 + 0.01 * Math.cos(i),
  ]);
  const labels = samples.map((_, i) => i % 2);
  const classify = fitLda(samples, labels, 2);
  const right = samples.filter((x, i) => classify(x)[1] > classify(x)[0] === (labels[i] === 1));
  assert.equal(right.length, samples.length);
});

test("fitNaiveBayes() adds one to every count and ignores unknown words", () => {
  const classify = fitNaiveBayes(
    [
      ["good", "day"],
      ["bad", "day"],
    ],
    [0, 1],
    2,
  );
  const [a, b] = classify(["good", "unheard"]);
  near(a - b, Math.log(2 / 5) - Math.log(1 / 5), 1e-12);
});

test("acousticFeatures() measures the pitch of a pulse train and survives silence", () => {
  const speech = Float32Array.from({ length: 16_000 }, (_, i) => {
    const phase = (i * 125) / 16_000;
    return 0.3 * Math.exp(-8 * (phase % 1)) * Math.sin(2 * Math.PI * 6 * phase);
  });
  const features = acousticFeatures(speech);
  assert.equal(features.length, FEATURES.length);
  near(Math.exp(features[0]), 125, 3);
  near(features[1], 0, 0.05);
  assert.deepEqual(
    acousticFeatures(new Float32Array(8_000)),
    FEATURES.map(() => 0),
  );
});

function answer(id: string, label: Label, best: Label, words: string, hypothesis?: string): Answer {
  const utterance: Utterance & { label: Label } = {
    id,
    wav: `${id}.wav`,
    text: words,
    words,
    label,
    speaker: id.endsWith("F") ? "01F" : "01M",
    session: "Session1",
    dialogue: id.slice(0, 2),
    improvised: true,
    seconds: 3,
  };
  return { utterance, hypothesis, probabilities: LABELS.map((one) => (one === best ? 0.7 : 0.1)) };
}

test("scoreAnswers() brings figures, intervals and parts together", () => {
  const answers = [
    answer("d1F", "angry", "angry", "GO AWAY", "GO AWAY"),
    answer("d1M", "happy", "sad", "SO GLAD", "SO GLAD YES"),
    answer("d2F", "sad", "sad", "HE IS GONE", "HE GONE"),
    answer("d2M", "neutral", "neutral", "", ""),
  ];
  const result = scoreAnswers(answers);
  near(result.ua.value, 0.75);
  near(result.wa.value, 0.75);
  near(result.wer!.value, 2 / 7);
  near(result.majority, 0.25);
  assert.ok(result.ua.interval.low <= 0.75 && result.ua.interval.high >= 0.75);
  assert.equal(result.slices["speaker 01F"].wa, 1);
  assert.equal(result.slices["2 to 4 s"].count, 4);
  const text = formatReport(result);
  assert.match(text, /UA\s+75\.0 %/);
  assert.match(text, /0 substituted, 1 deleted, 1 inserted of 7/);
  assert.ok(
    text.split("\n").every((line) => line.length <= 80),
    "fits 80 columns",
  );
  assert.equal(JSON.parse(JSON.stringify(result)).confusion[1][2], 1);
});

test("scoreAnswers() gives the means of gates by word errors, and answersCsv() each", () => {
  const gated = (id: string, hypothesis: string, acoustic: number): Answer => ({
    ...answer(id, "sad", "sad", "HE IS GONE", hypothesis),
    gates: { acoustic, text: 1 - acoustic },
  });
  const answers = [
    gated("d1F", "HE IS GONE", 0.5),
    gated("d1M", "HE IS GONE", 0.25),
    gated("d2F", "A B C", 0.875),
  ];
  const result = scoreAnswers(answers);
  assert.deepEqual(result.slices["no word errors"].gates, { acoustic: 0.375, text: 0.625 });
  assert.deepEqual(result.slices["WER 50 % and over"].gates, { acoustic: 0.875, text: 0.125 });
  const lines = formatReport(result).split("\n");
  assert.ok(lines.some((line) => /^part .* WER +gate s +gate t$/.test(line)));
  assert.ok(lines.some((line) => /^WER 50 % and over .* 0\.875 +0\.125$/.test(line)));
  assert.ok(lines.every((line) => line.length <= 80));
  const [header, , second] = answersCsv(answers).split("\n");
  assert.match(header, /,reference,hypothesis,gate_acoustic,gate_text$/);
  assert.match(second, /,0\.25,0\.75$/);
  // One answer without gates: no mean of the rest is given for all.
  const mixed = scoreAnswers([...answers, answer("d2M", "sad", "sad", "HE IS GONE", "HE IS GONE")]);
  assert.equal(mixed.slices["no word errors"].gates, undefined);
});

test("scoreAnswers() leaves WER out for a system that recognises no words", () => {
  const result = scoreAnswers([answer("d1F", "angry", "angry", "GO AWAY")]);
  assert.equal(result.wer, undefined);
  assert.doesNotMatch(formatReport(result), /^WER/m);
});

test("answersCsv() quotes what would break a row", () => {
  const csv = answersCsv([answer("d1F", "angry", "sad", 'SAY "NO", NOW', "SAY NO")]);
  const [header, row] = csv.trimEnd().split("\n");
  assert.equal(header, "id,label,prediction,p_angry,p_happy,p_sad,p_neutral,reference,hypothesis");
  assert.equal(row, 'd1F,angry,sad,0.1,0.1,0.7,0.1,"SAY ""NO"", NOW",SAY NO');
});

test("besideBaseline() takes the baseline that is best on the utterances that both answered", () => {
  // A dialogue holds one utterance of each class; the model is wrong on every third, the baselines on all of some classes.
  const answers = Array.from({ length: 44 }, (_, i) => {
    const label = LABELS[i % 4];
    const id = `${String(Math.floor(i / 4)).padStart(2, "0")}-${i % 4}F`;
    return answer(id, label, i % 3 === 0 ? LABELS[(i + 1) % 4] : label, "A");
  });
  const baseline = (wrong: readonly Label[], from: number) => {
    const said = answers
      .slice(from)
      .map(({ utterance: { id, label } }) => [id, wrong.includes(label) ? "neutral" : label]);
    return { folds: { Session1: 0.5 }, ua: 0, deviation: 0, wa: 0, predictions: Object.fromEntries(said) };
  };
  const [worse, better] = [baseline(["angry", "happy"], 0), baseline(["angry"], 4)];
  const unknown = { ...worse, predictions: undefined };
  const others = { unigrams: worse, bigrams: unknown, lda: worse, ldaBySpeaker: worse };
  const baselines = { utterances: 44, majority: 0.25, features: [], lateFusion: better, ...others };
  const found = besideBaseline(answers, baselines);
  assert.equal(found?.baseline, "both: product of posteriors");
  assert.deepEqual([found.utterances, found.dialogues], [40, 10]);
  near(found.value, scoreAnswers(answers.slice(4)).ua.value - 0.75, 1e-12);
  near(found.difference?.value ?? 0, found.value, 1e-12);
  const right = (i: number) => i % 3 !== 0;
  const only = (own: (i: number) => boolean, other: (i: number) => boolean) =>
    Array.from({ length: 40 }, (_, i) => i + 4).filter((i) => own(i) && !other(i)).length;
  const baselineRight = (i: number) => LABELS[i % 4] !== "angry";
  assert.equal(found.mcnemar.onlyFirst, only(right, baselineRight));
  assert.equal(found.mcnemar.onlySecond, only(baselineRight, right));
  assert.match(
    formatBesideBaseline(found),
    /^against both: product of posteriors: UA -\d+\.\d points \(95 % [-+]\d+\.\d to [-+]\d+\.\d, paired bootstrap of 10 dialogues p = [\d.]+; McNemar p = [\d.]+\)$/,
  );
  const few = besideBaseline(answers.slice(4, 12), baselines);
  assert.equal(few?.difference, undefined);
  assert.match(formatBesideBaseline(few!), /\(2 dialogues are too few to resample; McNemar p = /);
  const silent = { lateFusion: unknown, unigrams: unknown, lda: unknown, ldaBySpeaker: unknown };
  assert.equal(besideBaseline(answers, { ...baselines, ...silent }), undefined);
});
