import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { prefixBeamSearch } from "../src/io/beam.ts";
import { forcedAlign, decodeBeam as beam, decodeGreedy as greedy } from "../src/io/decode.ts";
import { CtcVocabulary } from "../src/io/vocabulary.ts";

const vocabulary = new CtcVocabulary({ "<pad>": 0, "<unk>": 1, "|": 2, A: 3, B: 4 });

/** Frames of the published encoders, every 20 ms. */
const times = { secondsPerFrame: 0.02 };
const decodeGreedy = (logProbs: Float32Array, words: CtcVocabulary) => greedy(logProbs, words, times);
const decodeBeam = (logProbs: Float32Array, words: CtcVocabulary) => beam(logProbs, words, times);

/** Rows in which the named token has probability p and the others share the rest. */
function frames(text: string, p = 0.9, tokens: readonly string[] = vocabulary.tokens): Float32Array {
  const V = tokens.length;
  return Float32Array.from(
    [...text].flatMap((c) => {
      const id = c === "-" ? tokens.indexOf("<pad>") : tokens.indexOf(c);
      return Array.from({ length: V }, (_, v) => Math.log(v === id ? p : (1 - p) / (V - 1)));
    }),
  );
}

/** Sums the probability of every labelling over all V^T paths. */
function exhaustive(logProbs: Float32Array, V: number, blank: number): Map<string, number> {
  const T = logProbs.length / V;
  const sums = new Map<string, number>();
  for (let code = 0; code < V ** T; code++) {
    const ids: number[] = [];
    let p = 0;
    let previous = blank;
    for (let t = 0, rest = code; t < T; t++, rest = Math.floor(rest / V)) {
      const v = rest % V;
      p += logProbs[t * V + v];
      if (v !== blank && v !== previous) ids.push(v);
      previous = v;
    }
    sums.set(ids.join(), (sums.get(ids.join()) ?? 0) + Math.exp(p));
  }
  return sums;
}

const sizes = fc.record({ T: fc.integer({ min: 1, max: 5 }), V: fc.integer({ min: 2, max: 4 }) });
const problem = sizes.chain(({ T, V }) =>
  fc.record({
    V: fc.constant(V),
    blank: fc.nat(V - 1),
    logits: fc.array(fc.double({ min: -4, max: 4, noNaN: true }), { minLength: T * V, maxLength: T * V }),
  }),
);

function logSoftmax(logits: number[], V: number): Float32Array {
  return Float32Array.from(logits, (x, i) => {
    const row = logits.slice(i - (i % V), i - (i % V) + V);
    return x - Math.log(row.reduce((sum, y) => sum + Math.exp(y), 0));
  });
}

test("prefixBeamSearch() equals the sum over all paths, whatever the blank", () => {
  fc.assert(
    fc.property(problem, ({ V, blank, logits }) => {
      const logProbs = logSoftmax(logits, V);
      const truth = exhaustive(logProbs, V, blank);
      const found = prefixBeamSearch(logProbs, V, blank, 10_000);
      assert.equal(found.length, truth.size);
      for (const { ids, logProbability } of found) {
        const expected = truth.get(ids.join())!;
        assert.ok(Math.abs(Math.exp(logProbability) - expected) < 1e-9, `${ids}: ${logProbability}`);
      }
      assert.ok(Math.abs(Math.exp(found[0].logProbability) - Math.max(...truth.values())) < 1e-9);
    }),
    { numRuns: 150, seed: 1 },
  );
});

test("prefixBeamSearch() never finds more than there is when the beam is narrow", () => {
  fc.assert(
    fc.property(problem, fc.integer({ min: 1, max: 4 }), ({ V, blank, logits }, width) => {
      const logProbs = logSoftmax(logits, V);
      const truth = exhaustive(logProbs, V, blank);
      const found = prefixBeamSearch(logProbs, V, blank, width);
      assert.ok(found.length <= width);
      assert.equal(new Set(found.map(({ ids }) => ids.join())).size, found.length);
      for (const { ids, logProbability } of found) {
        assert.ok(Math.exp(logProbability) < truth.get(ids.join())! + 1e-9);
      }
    }),
    { numRuns: 200, seed: 1 },
  );
});

test("prefixBeamSearch() refuses frames and beams without content", () => {
  assert.throws(() => prefixBeamSearch(new Float32Array(6).fill(Number.NEGATIVE_INFINITY), 3, 0, 4), {
    message: "Cannot decode: frame 0 has no possible token",
  });
  const nan = Float32Array.of(0, -1, Number.NaN, Number.NaN);
  assert.throws(() => prefixBeamSearch(nan, 2, 0, 4), {
    message: "Cannot decode: frame 1 has no possible token",
  });
  assert.throws(() => prefixBeamSearch(frames("A"), 5, 0, 0), {
    message: "Cannot search with a beam of 0: at least 1 expected",
  });
});

for (const [name, decode] of [
  ["decodeGreedy", decodeGreedy],
  ["decodeBeam", decodeBeam],
] as const) {
  test(`${name}() gives words and characters with times and confidences`, () => {
    const { text, words, ids } = decode(frames("-AA-B|||-BB--A-A", 0.9), vocabulary);
    assert.equal(text, "AB BAA");
    assert.deepEqual(ids, [3, 4, 2, 4, 3, 3]);
    const near = (value: number, expected: number) =>
      assert.ok(Math.abs(value - expected) < 1e-6, `${value}`);
    assert.deepEqual(
      words.map((word) => word.text),
      ["AB", "BAA"],
    );
    near(words[0].start, 0.02);
    near(words[0].end, 0.1);
    near(words[1].start, 0.18);
    near(words[1].end, 0.32);
    near(words[1].characters[0].start, 0.18);
    near(words[1].characters[0].end, 0.22);
    near(words[1].characters[2].start, 0.3);
    for (const { confidence, characters } of words) {
      near(confidence, 0.9);
      for (const character of characters) near(character.confidence, 0.9);
    }
  });

  test(`${name}() keeps doubled letters apart only where a blank parts them`, () => {
    assert.equal(decode(frames("AA"), vocabulary).text, "A");
    assert.equal(decode(frames("A-A"), vocabulary).text, "AA");
  });

  test(`${name}() lets labels that are no text leave no trace, as transformers does`, () => {
    const own = new CtcVocabulary({ "<pad>": 0, "<unk>": 1, "|": 2, A: 3, B: 4 }, {}, { outputs: 6 });
    // "u" is <unk>, "?" an output without a token.
    const tokens = ["<pad>", "u", "|", "A", "B", "?"];
    for (const [path, text] of [
      ["AuA", "A"],
      ["A?uA", "A"],
      ["Au-A", "AA"],
      ["A-uA", "AA"],
      ["uAuBu", "AB"],
      ["Au|?B", "A B"],
      ["u?", ""],
    ]) {
      const result = decode(frames(path, 0.9, tokens), own);
      assert.equal(result.text, text, path);
      assert.equal(own.decode(result.ids), text, path);
    }
  });

  test(`${name}() answers silence, no frames and stray delimiters with empty text`, () => {
    for (const text of ["", "----", "||-|"]) {
      const result = decode(frames(text), vocabulary);
      assert.equal(result.text, "");
      assert.deepEqual(result.words, []);
    }
    assert.equal(decode(frames("|-A|-|B|"), vocabulary).text, "A B");
  });

  test(`${name}() takes the blank from the vocabulary`, () => {
    const other = new CtcVocabulary({ A: 0, B: 1, "|": 2, "<pad>": 3 });
    assert.equal(decode(frames("AA-AB|B", 0.9, other.tokens), other).text, "AAB B");
  });

  test(`${name}() refuses a broken frame`, () => {
    assert.throws(() => decode(new Float32Array(7), vocabulary), {
      message: "Cannot decode: 7 log-probabilities are not whole frames of 5",
    });
  });
}

test("decodeGreedy() averages a character over its frames and a word over its characters", () => {
  const logProbs = Float32Array.from([...frames("A", 0.9), ...frames("A", 0.5), ...frames("B", 0.6)]);
  const [word] = decodeGreedy(logProbs, vocabulary).words;
  assert.ok(Math.abs(word.characters[0].confidence - 0.7) < 1e-6);
  assert.ok(Math.abs(word.confidence - Math.sqrt(0.7 * 0.6)) < 1e-6);
});

test("decodeBeam() finds what is likelier in sum though no single path is", () => {
  const V = 5;
  const row = [0.5, 0.05, 0.05, 0.4, 0];
  const logProbs = Float32Array.from([...row, ...row], Math.log);
  assert.equal(logProbs.length, 2 * V);
  assert.equal(decodeGreedy(logProbs, vocabulary).text, ""); // 0.25
  assert.equal(decodeBeam(logProbs, vocabulary).text, "A"); // 0.4·0.4 + 0.4·0.5 + 0.5·0.4
});

test("forcedAlign() finds the likeliest of all paths that spell the labels", () => {
  fc.assert(
    fc.property(
      problem,
      fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }),
      ({ V, blank, logits }, wanted) => {
        const ids = wanted.map((id) => id % V).filter((id) => id !== blank);
        const logProbs = logSoftmax(logits, V);
        const T = logProbs.length / V;
        const needed = ids.length + ids.filter((id, i) => i > 0 && ids[i - 1] === id).length;
        if (needed > T) {
          assert.throws(() => forcedAlign(logProbs, V, blank, ids), /no path of \d frames spells them$/);
          return;
        }
        let best = Number.NEGATIVE_INFINITY;
        for (let code = 0; code < V ** T; code++) {
          const path = Array.from({ length: T }, (_, t) => Math.floor(code / V ** t) % V);
          const spelled = path.filter((v, t) => v !== blank && v !== path[t - 1]);
          if (spelled.join() !== ids.join()) continue;
          best = Math.max(
            best,
            path.reduce((sum, v, t) => sum + logProbs[t * V + v], 0),
          );
        }
        const path = new Array<number>(T).fill(blank);
        const runs = forcedAlign(logProbs, V, blank, ids);
        assert.deepEqual(
          runs.map((run) => run.id),
          ids,
        );
        for (const { id, begin, end } of runs) path.fill(id, begin, end);
        const score = path.reduce((sum, v, t) => sum + logProbs[t * V + v], 0);
        assert.ok(Math.abs(score - best) < 1e-6, `${score}, best is ${best}`);
      },
    ),
    { numRuns: 200, seed: 1 },
  );
});
