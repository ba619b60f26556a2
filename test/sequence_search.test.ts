/** Greedy and beam search of an attention decoder, against every sequence that there is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { beamSearch, greedySearch, type Step } from "../src/io/sequence_search.ts";
import { hash, uniform } from "../src/nn/random.ts";

const [V, START, END] = [4, 4, 3];

/** Log probabilities after a prefix, the same each time; of `sharpness` 0 all are alike. */
function after(input: number, prefix: readonly number[], sharpness = 2): number[] {
  const next = uniform(hash(`${input}: ${prefix.join()}`));
  const scores = Array.from({ length: V }, () => sharpness * (2 * next() - 1));
  const total = Math.log(scores.reduce((sum, s) => sum + Math.exp(s), 0));
  return scores.map((s) => Math.fround(s - total));
}

/** A model whose state is the prefix itself; fails where parents and tokens are not what they should be. */
function model(sharpness?: number): { step: Step; calls: () => number } {
  let states: { input: number; prefix: number[] }[] = [];
  let calls = 0;
  const step: Step = async (tokens, parents, inputs) => {
    states = tokens.map((token, row) => {
      if (calls === 0) {
        assert.equal(token, START);
        assert.equal(parents[row], inputs[row]);
        return { input: inputs[row], prefix: [] };
      }
      const { input, prefix } = states[parents[row]];
      assert.equal(input, inputs[row]);
      return { input, prefix: [...prefix, token] };
    });
    calls++;
    const rows = states.flatMap(({ input, prefix }) => after(input, prefix, sharpness));
    return { logProbs: Float32Array.from(rows), positions: states.map(({ prefix }) => 10 * prefix.length) };
  };
  return { step, calls: () => calls };
}

interface Every {
  readonly ids: number[];
  readonly score: number;
  readonly tokens: number;
  readonly ended: boolean;
}

/** Every sequence of at most `most` tokens. */
function every(input: number, most: number, prefix: number[] = [], score = 0): Every[] {
  if (prefix.length === most) return [{ ids: prefix, score, tokens: most, ended: false }];
  return after(input, prefix).flatMap((p, token) =>
    token === END
      ? [{ ids: prefix, score: score + p, tokens: prefix.length + 1, ended: true }]
      : every(input, most, [...prefix, token], score + p),
  );
}

const maxLengths = [4, 1, 5, 3];
const given = { start: START, end: END, maxLengths };

for (const lengthPenalty of [0, 1])
  test(`a beam as wide as there are sequences finds the best of them, by length penalty ${lengthPenalty}`, async () => {
    const found = await beamSearch(model().step, { ...given, width: 400, lengthPenalty });
    for (const [input, most] of maxLengths.entries()) {
      const rank = ({ score, tokens }: Every) => score / tokens ** lengthPenalty;
      const all = every(input, most).sort((a, b) => rank(b) - rank(a));
      assert.equal(found[input].length, all.length);
      for (const [i, { ids, logProbability, ended }] of found[input].entries()) {
        assert.deepEqual({ ids, ended }, { ids: all[i].ids, ended: all[i].ended });
        assert.ok(Math.abs(logProbability - all[i].score) < 1e-12);
      }
    }
  });

test("a narrow beam finds sequences with their own probabilities, no worse than greedy search, and stops early", async () => {
  const greedy = await greedySearch(model().step, given);
  for (const width of [1, 2, 3]) {
    const found = await beamSearch(model().step, { ...given, width });
    for (const [input, list] of found.entries()) {
      assert.ok(list.length <= width);
      for (const { ids, logProbability, logProbabilities, positions, ended } of list) {
        const steps = [...ids.map((id, i) => after(input, ids.slice(0, i))[id])];
        assert.deepEqual(logProbabilities, steps);
        assert.deepEqual(
          positions,
          ids.map((_, i) => 10 * i),
        );
        const end = ended ? after(input, [...ids])[END] : 0;
        const sum = steps.reduce((a, b) => a + b, 0) + end;
        assert.ok(Math.abs(logProbability - sum) < 1e-12);
        assert.equal(ended, ids.length < maxLengths[input]);
      }
      assert.ok(list[0].logProbability >= greedy[input].logProbability - 1e-12);
    }
  }
  const long = model();
  await beamSearch(long.step, { ...given, maxLengths: [1000], width: 2 });
  assert.ok(long.calls() < 50, `${long.calls()} steps`);
});

test("greedy search takes the likeliest token until the end or the greatest length", async () => {
  const found = await greedySearch(model().step, given);
  for (const [input, { ids, ended }] of found.entries()) {
    const want: number[] = [];
    let stopped = false;
    while (want.length < maxLengths[input] && !stopped) {
      const p = after(input, want);
      const best = p.indexOf(Math.max(...p));
      stopped = best === END;
      if (!stopped) want.push(best);
    }
    assert.deepEqual({ ids, ended }, { ids: want, ended: stopped });
  }
});

test("equal scores keep the order of tokens: the same result every time", async () => {
  const search = () => beamSearch(model(0).step, { ...given, maxLengths: [2], width: 3 });
  const found = await search();
  assert.deepEqual(await search(), found);
  assert.deepEqual(
    found[0].map(({ ids }) => ids),
    [[], [0], [1]],
  );
  assert.deepEqual((await greedySearch(model(0).step, { ...given, maxLengths: [2] }))[0].ids, [0, 0]);
});

test("what cannot be searched is refused", async () => {
  const { step } = model();
  await assert.rejects(beamSearch(step, { ...given, width: 0 }), {
    message: "Cannot search with a beam of 0: at least 1 expected",
  });
  await assert.rejects(beamSearch(step, { ...given, width: 1, lengthPenalty: -1 }), /lengthPenalty is -1/);
  await assert.rejects(greedySearch(step, { ...given, maxLengths: [0] }), {
    message: "Cannot search: maxLengths[0] is 0 but should be a whole number from 1",
  });
  const wrong: Step = async () => ({ logProbs: Float32Array.of(0, Number.NaN, 0, 0) });
  for (const search of [greedySearch, beamSearch])
    await assert.rejects(search(wrong, { ...given, maxLengths: [2], width: 1 }), {
      message: "Cannot search: the model's log probabilities are not finite",
    });
});
