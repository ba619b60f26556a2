/** Tests of differences, resampling by sums and calibration, beside what SciPy 1.17, statsmodels 0.15 and scikit-learn 1.9 give. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { random } from "../src/speech/corpora/random.ts";
import { bootstrap, bootstrapSums, percentiles } from "../src/speech/evaluate/intervals.ts";
import { holm, mcnemar, pairedBootstrap } from "../src/speech/evaluate/significance.ts";
import { calibrationOf } from "../src/speech/metrics/calibration.ts";
import { argmax } from "../src/speech/metrics/metrics.ts";

const near = (got: number, want: number, tolerance: number, what = "") =>
  assert.ok(Math.abs(got - want) <= tolerance, `${what} is ${got}, expected ${want} ± ${tolerance}`);

test("mcnemar() is statsmodels' exact test below 25 discordant utterances and its chi-square from there on", () => {
  // statsmodels.stats.contingency_tables.mcnemar, exact=True, then exact=False with correction=True
  const exact = [
    [0, 0, 1],
    [1, 5, 0.21875],
    [3, 10, 0.09228515625],
    [12, 12, 1],
    [4, 20, 0.001543879508972168],
  ];
  const chi = [
    [5, 20, 0.005110260660855866],
    [12, 13, 1],
    [40, 25, 0.08247788747320971],
    [121, 59, 5.450094825427117e-6],
    [300, 180, 5.585662939600216e-8],
  ];
  for (const [b, c, p] of exact) {
    assert.equal(mcnemar(b, c).method, "exact binomial");
    near(mcnemar(b, c).p, p, 1e-14, `p of ${b} and ${c}`);
  }
  for (const [b, c, p] of chi) {
    assert.equal(mcnemar(b, c).method, "chi-square with continuity correction");
    near(mcnemar(b, c).p / p, 1, 1e-6, `p of ${b} and ${c} beside statsmodels'`);
    assert.equal(mcnemar(c, b).p, mcnemar(b, c).p);
  }
  // As many on each side: nothing speaks for a difference.
  assert.equal(mcnemar(40, 40).p, 1);
  assert.throws(() => mcnemar(1.5, 2), /^RangeError: Cannot test 1\.5 and 2: expected whole numbers from 0$/);
});

test("holm() is statsmodels' multipletests", () => {
  assert.deepEqual(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]);
  assert.deepEqual(holm([0.4, 0.001, 0.02, 0.9, 0.02]), [0.8, 0.005, 0.08, 0.9, 0.08]);
  assert.deepEqual(holm([]), []);
});

test("calibrationOf() gives NumPy's ECE and scikit-learn's Brier score", () => {
  const weights = (i: number) => [0, 1, 2, 3].map((k) => 1 + ((i * 7 + k * k * 5) % 11));
  const rows = Array.from({ length: 60 }, (_, i) => weights(i));
  const probabilities = rows.map((row) => row.map((w) => w / row.reduce((a, b) => a + b)));
  const truth = rows.map((_, i) => Math.floor((i * 5 + 1) / 3) % 4);
  const { ece, brier, bins } = calibrationOf(truth, probabilities);
  near(ece, 0.19730775368051467, 1e-12, "ECE");
  near(brier, 0.8248535345434739, 1e-12, "the Brier score");
  assert.equal(
    bins.reduce((n, bin) => n + bin.count, 0),
    60,
  );
  for (const { low, high, confidence } of bins) assert.ok(low < confidence && confidence <= high);
});

test("calibrationOf() puts a probability on a bound into the bin below it, and certainty into the last", () => {
  const { bins, ece, brier } = calibrationOf(
    [0, 1, 0],
    [
      [0.4, 0.3, 0.2, 0.1],
      [1, 0, 0, 0],
      [1, 0, 0, 0],
    ],
    10,
  );
  assert.deepEqual(
    bins.map(({ low, count, accuracy }) => [low, count, accuracy]),
    [
      [0.3, 1, 1],
      [0.9, 2, 0.5],
    ],
  );
  near(ece, (0.6 + 2 * 0.5) / 3, 1e-15, "ECE");
  near(brier, (0.36 + 0.09 + 0.04 + 0.01 + 2) / 3, 1e-15, "the Brier score");
  assert.throws(() => calibrationOf([], []), /^RangeError: Cannot calibrate: there are no answers$/);
});

/** Clusters of `n` utterances, of which one system has `c` right and another `d`. */
const clusters = Array.from({ length: 40 }, (_, k) => {
  const n = 5 + ((k * 7) % 11);
  return { n, c: (k * 13) % (n + 1), d: (k * 17) % (n + 1) };
});
const groups = clusters.flatMap(({ n }, k) => new Array<string>(n).fill(`d${k}`));
const rightOf = (key: "c" | "d") =>
  clusters.flatMap((one) => Array.from({ length: one.n }, (_, i) => Number(i < one[key])));
const share = ([count, correct]: Float64Array) => correct / count;

test("bootstrapSums() draws the resamples of bootstrap()", () => {
  const right = rightOf("c");
  const options = { draws: 300, seed: 4 };
  const mean = (indices: readonly number[]) => indices.reduce((n, i) => n + right[i], 0) / indices.length;
  const sums = right.map((r) => [1, r]);
  assert.deepEqual(
    percentiles(bootstrapSums(groups, sums, share, options)),
    bootstrap(groups, mean, options),
  );
});

test("bootstrapSums() and pairedBootstrap() come near to SciPy's percentile intervals of 200,000 resamples", () => {
  const [first, second] = (["c", "d"] as const).map((key) => rightOf(key).map((r) => [1, r]));
  const one = percentiles(bootstrapSums(groups, first, share, { draws: 20_000 }));
  near(one.low, 0.32626, 0.004, "the lower bound");
  near(one.high, 0.51887, 0.004, "the upper bound");
  const { value, interval, p } = pairedBootstrap(groups, first, second, share, { draws: 20_000 });
  near(value, -0.11691542288557213, 1e-15, "the difference");
  near(interval.low, -0.25183, 0.004, "the lower bound");
  near(interval.high, 0.02452, 0.004, "the upper bound");
  near(p, 2 * 0.05305, 0.01, "p");
});

test("pairedBootstrap() finds p below 0.05 in about one of twenty pairs that do not differ", () => {
  let found = 0;
  for (let k = 0; k < 200; k++) {
    const draw = random("null", k);
    const rows = () => Array.from({ length: 120 }, () => [1, Number(draw.uniform() < 0.6)]);
    const dialogues = Array.from({ length: 120 }, (_, i) => `d${i % 40}`);
    found += Number(pairedBootstrap(dialogues, rows(), rows(), share, { draws: 400 }).p < 0.05);
  }
  assert.ok(found >= 3 && found <= 21, `${found} of 200`);
});

test("pairedBootstrap() of a system and itself is no difference", () => {
  const rows = rightOf("c").map((r) => [1, r]);
  assert.deepEqual(pairedBootstrap(groups, rows, rows, share), {
    value: 0,
    interval: { low: 0, high: 0 },
    p: 1,
  });
});

test("argmax() and calibrationOf() agree on ties: the first class is the answer", () => {
  assert.equal(argmax([0.5, 0.5]), 0);
  assert.equal(calibrationOf([0], [[0.5, 0.5]]).bins[0].accuracy, 1);
});
