/** n-gram language models: ARPA files, what they say, and decoding that weighs them in. */
import assert from "node:assert/strict";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { currentHost } from "../src/host/current.ts";
import { prefixBeamSearch } from "../src/io/beam.ts";
import { decodeBeam, decodeGreedy } from "../src/io/decode.ts";
import { LanguageModel, readLanguageModel } from "../src/io/language_model.ts";
import { findLanguageModel } from "../src/io/language_model_files.ts";
import { parseArpa, readArpa } from "../src/io/ngram_model.ts";
import { CtcVocabulary } from "../src/io/vocabulary.ts";
import { openModelFolder, withLanguageModel } from "../src/speech/system/folder.ts";
import { openRecognizer } from "../src/speech/recognition.ts";
import { testDevice } from "./device.ts";
import { clip, ctcModel, folder, notebook, scratch } from "./model_folders.ts";
import { readWav } from "../src/io/audio.ts";
import { temporary } from "./temporary.ts";
import { runHere } from "./verb.ts";
import { verb as predict } from "../tools/predict.ts";

const host = await currentHost();
const root = fileURLToPath(new URL("..", import.meta.url));

/** As lmplz writes it, with what KenLM's documentation and SRILM's add: a header, and backoffs that are left out. */
const ARPA = `written by hand

\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.3
-1.0\t</s>
-0.7\tab\t-0.2
-0.9\tba\t-0.1
-1.1\tb

\\2-grams:
-0.4\t<s> ab\t-0.05
-0.2\tab ba\t-0.6
-0.5\tba </s>
-0.8\tba ab

\\3-grams:
-0.1\t<s> ab ba

\\end\\
`;

test("an ARPA model gives the longest n-gram that it has, and backs off with the weights of the contexts", () => {
  const model = parseArpa(ARPA);
  assert.equal(model.order, 3);
  assert.deepEqual(model.words, ["ab", "b", "ba"]);
  const near = (context: string[], word: string, expected: number) =>
    assert.ok(Math.abs(model.logProbability(context, word) - expected) < 1e-12, `${context} ${word}`);
  near([], "ab", -0.7);
  near(["<s>"], "ab", -0.4);
  near(["<s>", "ab"], "ba", -0.1);
  near(["ab", "ab"], "ba", -0.2); // no "ab ab ba", and no weight of "ab ab"
  near(["<s>", "ab"], "b", -0.05 - 0.2 - 1.1);
  near(["x", "y", "ba"], "</s>", -0.5);
  near(["ba"], "zz", -0.1 - 1.5);
  const unknown = parseArpa(
    ARPA.replace("<unk>", "<UNK>\t-0.5")
      .replace("ngram 2=4", "ngram 2=5")
      .replace("-0.8\t", "-0.1\tba <UNK>\n-0.8\t"),
  );
  assert.deepEqual(unknown.words, model.words);
  assert.equal(unknown.logProbability(["ba"], "zz"), -0.1);
  assert.equal(unknown.logProbability(["zz"], "ab"), -0.5 - 0.7);
  near(["b"], "</s>", -1); // no backoff stands for 0
  for (const [prefix, known] of [
    ["a", true],
    ["ab", true],
    ["aba", false],
    ["c", false],
  ] as const)
    assert.equal(model.hasPrefix(prefix), known, prefix);
  assert.equal(model.has("<s>"), false);
});

test("what is no ARPA model is refused in one line, with the line at fault", async () => {
  const lines = ARPA.split("\n");
  const wrong: readonly [string, RegExp][] = [
    ["hello", /^it has no line \\data\\, as ARPA files do$/],
    [lines.slice(0, -4).join("\n"), /^it ends without \\end\\: it is cut off$/],
    [ARPA.replace("-0.2\tab ba\t-0.6\n", ""), /^it holds 3 2-grams but says that they are 4$/],
    [
      ARPA.replace("-0.7\tab\t-0.2", "x\tab\t-0.2"),
      /^line 12: expected a number, 1 word and at most one number more$/,
    ],
    [
      ARPA.replace("-0.5\tba </s>", "-0.5\tba"),
      /^line 19: expected a number, 2 words and at most one number more$/,
    ],
    [ARPA.replace("\\3-grams:", "\\4-grams:"), /^line 22: expected \\3-grams:, not \\4-grams:$/],
    [ARPA.replace("ngram 3=1\n", ""), /^line 21: there is no "ngram 3=" with their number$/],
    [
      `iARPA\n${ARPA}`,
      /^it is IRSTLM's iARPA, whose numbers are others: compile-lm --text=yes makes ARPA of it$/,
    ],
    [ARPA.replace("ngram 2=4", "ngram 3=4"), /^line 5: expected "ngram 2=" and a number$/],
    [
      ARPA.replace(/\n\\3-grams:[\s\S]*?\n\n/, "\n"),
      /^line 22: it ends after 2-grams, but says that it has 3-grams$/,
    ],
  ];
  for (const [text, message] of wrong) assert.throws(() => parseArpa(text), { message });
  const odd = ARPA.replaceAll("\n", "\r\n").replace("-1.1\tb", "  -inf b\u00a0c -inf ");
  assert.equal(parseArpa(odd).logProbability([], "b\u00a0c"), -99);
  await temporary(async (own) => {
    const path = join(own, "lm.arpa");
    writeFileSync(path, "hello");
    const refused = async (bytes: string | Uint8Array, why: string) => {
      writeFileSync(path, bytes);
      await assert.rejects(readArpa(host, path), { message: `Cannot read ${path}: ${why}` });
    };
    await refused("hello", "it has no line \\data\\, as ARPA files do");
    await refused(Uint8Array.of(0x5c, 0xff, 0xfe), "it is no UTF-8 text");
    const binary = "in a binary format of KenLM, which is not read: an ARPA file is, as lmplz writes it";
    await refused("mmap lm http://kheafield.com/code format version 5", `it is ${binary}`);
    const zipped = gzipSync(ARPA);
    await refused(zipped.subarray(0, 60), "it is gzipped, and damaged");
    writeFileSync(path, zipped);
    assert.equal((await readArpa(host, path)).order, 3);
  });
});

const letters = new CtcVocabulary({ "<pad>": 0, "|": 1, A: 2, B: 3 });
const weights = { alpha: 0.7, beta: 0.4, unkScoreOffset: -1 };

/** What a text is worth, from the definition. */
function worth(lm: LanguageModel, ids: readonly number[]): number {
  const { alpha, beta, unkScoreOffset } = lm.weights;
  const words = letters
    .decode(ids)
    .toLowerCase()
    .split(" ")
    .filter((word) => word !== "");
  const said = [...words.keys()].map((i) => {
    const log10 = lm.ngrams.logProbability(["<s>", ...words.slice(0, i)], words[i]);
    return alpha * Math.LN10 * (log10 + (lm.ngrams.has(words[i]) ? 0 : unkScoreOffset)) + beta;
  });
  const end = alpha * Math.LN10 * lm.ngrams.logProbability(["<s>", ...words], "</s>");
  return said.reduce((sum, each) => sum + each, end);
}

test("a search with a language model finds the best text by the definition, over all its labellings", () => {
  const lm = new LanguageModel(parseArpa(ARPA), weights);
  const V = letters.size;
  const logits = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), {
    minLength: 5 * V,
    maxLength: 5 * V,
  });
  fc.assert(
    fc.property(logits, (values) => {
      const logProbs = Float32Array.from(values, (x, i) => {
        const row = values.slice(i - (i % V), i - (i % V) + V);
        return x - Math.log(row.reduce((sum, y) => sum + Math.exp(y), 0));
      });
      // Without a scorer, and wide enough, the search is exact: decode.test.ts. AB, AB| and |AB|| are the same text.
      const sums = new Map<string, { p: number; ids: readonly number[] }>();
      for (const { ids, logProbability } of prefixBeamSearch(logProbs, V, letters.blank, 10_000)) {
        const text = letters.decode(ids);
        sums.set(text, { p: (sums.get(text)?.p ?? 0) + Math.exp(logProbability), ids });
      }
      const scores = new Map([...sums].map(([text, { p, ids }]) => [text, Math.log(p) + worth(lm, ids)]));
      const best = Math.max(...scores.values());
      const found = prefixBeamSearch(logProbs, V, letters.blank, 10_000, lm.scorer(letters));
      const texts = found.map(({ ids }) => letters.decode(ids));
      assert.equal(new Set(texts).size, texts.length);
      assert.ok(Math.abs((scores.get(texts[0]) ?? 0) - best) < 1e-6, texts[0]);
      const { p } = sums.get(texts[0])!;
      assert.ok(
        Math.abs(Math.exp(found[0].logProbability) - p) < 1e-6,
        `${found[0].logProbability} for ${p}`,
      );
    }),
    { numRuns: 60 },
  );
});

test("where speech follows, the begin of a known word is not judged as a whole one, nor the sentence as ended", () => {
  const lm = new LanguageModel(parseArpa(ARPA), { ...weights, unkScoreOffset: -10 });
  // A with 0.6, B with 0.4: of the model's words "a" begins one, "b" is one.
  const logProbs = Float32Array.of(0.001, 0.001, 0.598, 0.4).map(Math.log);
  const best = (isEnd?: boolean) =>
    decodeBeam(logProbs, letters, { secondsPerFrame: 0.02, languageModel: lm, isEnd }).text;
  assert.equal(best(), "B");
  assert.equal(best(true), "B");
  assert.equal(best(false), "A");
});

test("a prefix is worth what pyctcdecode makes it", () => {
  const ngrams = parseArpa(ARPA);
  const worthOf = (text: string, given?: ConstructorParameters<typeof LanguageModel>[1]) => {
    const scorer = new LanguageModel(ngrams, given).scorer(letters);
    const ids = letters.encode(text);
    let state = scorer.start;
    for (const id of ids) state = scorer.extend(state, id);
    return [scorer.score(state), scorer.final(state)];
  };
  const near = (got: number[], open: number, final: number) =>
    assert.ok(
      Math.abs(got[0] - open) < 1e-9 && Math.abs(got[1] - final) < 1e-9,
      `${got} for ${[open, final]}`,
    );
  const ln = (log10: number) => 0.5 * Math.LN10 * log10;
  near(worthOf(""), 0, ln(-0.3 - 1));
  near(worthOf("A"), 0, ln(-0.3 - 1.5 - 10) + 1.5 + ln(-1)); // the beginning of a word, which is none by itself
  near(worthOf("AB"), 0, ln(-0.4) + 1.5 + ln(-0.05 - 0.2 - 1));
  near(worthOf("AB "), ln(-0.4) + 1.5, ln(-0.4) + 1.5 + ln(-0.05 - 0.2 - 1));
  near(worthOf("AB BA"), ln(-0.4) + 1.5, ln(-0.4 - 0.1) + 3 + ln(-0.6 - 0.5));
  near(worthOf("BBB"), -10, ln(-0.3 - 1.5 - 10) + 1.5 + ln(-1));
  near(worthOf("BBBBBBBBB"), -15, ln(-0.3 - 1.5 - 10) + 1.5 + ln(-1)); // nine letters, half as many again as usual
  const own = { alpha: 1, beta: 0.25, unkScoreOffset: -2, scoreBoundary: false };
  near(worthOf("AB", own), 0, Math.LN10 * -0.7 + 0.25);
  near(worthOf("BB", own), -2, Math.LN10 * (-1.5 - 2) + 0.25);
  assert.deepEqual(new LanguageModel(ngrams, { alpha: undefined }).weights.alpha, 0.5);
});

/** A model of single words, all as likely. */
const words = (...all: string[]) =>
  parseArpa(
    `\\data\\\nngram 1=${all.length + 2}\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n${all.map((word) => `-1\t${word}\n`).join("")}\n\\end\\\n`,
  );

test("characters are taken in the case of more of the words, and never of another alphabet", () => {
  const lower = new CtcVocabulary({ "<pad>": 0, "|": 1, a: 2, b: 3 });
  const known = (vocabulary: CtcVocabulary, ...all: string[]) => {
    const scorer = new LanguageModel(words(...all)).scorer(vocabulary);
    return scorer.score(scorer.extend(scorer.extend(scorer.start, 2), 3)) === 0; // "ab" begins a word
  };
  assert.ok(known(letters, "ab", "ba", "iPhone", "[NOISE]"));
  assert.ok(known(letters, "AB", "BA"));
  assert.ok(known(lower, "AB", "BA", "a"));
  assert.ok(known(lower, "ab", "AAA"));
  assert.throws(() => new LanguageModel(words("да")).scorer(letters), {
    message: "Cannot weigh a language model in: its words have none of the vocabulary's characters",
  });
});

test("the search goes by the model from the first frame on, and follows no token below exp(-5)", () => {
  const scorer = new LanguageModel(words("ab"), { beta: 0 }).scorer(letters);
  const rows = (...given: readonly (readonly number[])[]) => Float32Array.from(given.flat(), Math.log);
  const textOf = (logProbs: Float32Array, width: number) =>
    letters.decode(prefixBeamSearch(logProbs, letters.size, letters.blank, width, scorer)[0].ids);
  assert.equal(textOf(rows([0.05, 0.05, 0.4, 0.5], [0.05, 0.025, 0.025, 0.9]), 1), "AB");
  const rare = (p: number) => rows([0.001, 0.001, p, 0.998 - p], [0.05, 0.025, 0.025, 0.9]);
  assert.equal(textOf(rare(0.008), 8), "AB");
  assert.equal(textOf(rare(0.005), 8), "B");
});

/** Frames in which the named token has probability p, and `other` most of the rest. */
const frames = (text: string, doubts: Readonly<Record<number, string>> = {}): Float32Array =>
  Float32Array.from(
    [...text].flatMap((c, t) =>
      letters.tokens.map((token) => {
        const id = c === "-" ? "<pad>" : c;
        if (token === id) return Math.log(0.6);
        return Math.log(token === doubts[t] ? 0.36 : 0.02);
      }),
    ),
  );

test("decoding with a language model writes its words, with the times and confidences of the speech", () => {
  const times = { secondsPerFrame: 0.02 };
  const heard = frames("AB|BB", { 4: "A" });
  assert.equal(decodeGreedy(heard, letters, times).text, "AB B");
  const languageModel = new LanguageModel(parseArpa(ARPA), { alpha: 0.5, beta: 0 });
  const { text, words } = decodeBeam(heard, letters, { ...times, languageModel });
  assert.equal(text, "AB BA");
  const [, { start, end, characters }] = words;
  assert.deepEqual(
    [start, end].map((x) => Math.round(100 * x)),
    [6, 10],
  );
  assert.ok(Math.abs(characters[1].confidence - 0.36) < 1e-6);
  const silent = decodeBeam(frames("----"), letters, { ...times, languageModel });
  assert.equal(silent.text, "");
  const spaceless = new CtcVocabulary({ "<pad>": 0, A: 1 });
  assert.throws(() => languageModel.scorer(spaceless), {
    message: "Cannot weigh a language model in: the vocabulary has no space between words",
  });
});

const attrs = { alpha: 0.6, beta: 1, unk_score_offset: -8, score_boundary: false };

test("a language model is found as pyctcdecode's folder, by itself or in a model folder, and as a file", async () => {
  const own = folder("lm-own", { "language_model/attrs.json": attrs, "language_model/3-gram.arpa": ARPA });
  const expected = { alpha: 0.6, beta: 1, unkScoreOffset: -8, scoreBoundary: false };
  const arpa = `${own}/language_model/3-gram.arpa`;
  for (const path of [own, `${own}/language_model`]) {
    const found = await findLanguageModel(host, path);
    assert.equal(found.path, arpa);
    assert.deepEqual((await readLanguageModel(host, found)).weights, expected);
  }
  assert.deepEqual(await findLanguageModel(host, arpa), { path: arpa, weights: {} });
  const named = folder("lm-named", { "attrs.json": { file: "a.arpa" }, "a.arpa": ARPA, "b.arpa": ARPA });
  assert.equal((await findLanguageModel(host, named)).path, `${named}/a.arpa`);
  const two = folder("lm-two", { "a.arpa": ARPA, "b.arpa": ARPA });
  const binary = folder("lm-binary", { "attrs.json": attrs, "kenlm.bin": "" });
  const empty = folder("lm-empty", { "x.txt": "" });
  for (const [path, lacks] of [
    [two, "it holds 2 ARPA files, expected one"],
    [
      binary,
      "kenlm.bin is in a binary format of KenLM, which is not read: an ARPA file is, as lmplz writes it",
    ],
    [empty, "it holds no ARPA file"],
    [folder("lm-other", { "pytorch_model.bin": "" }), "it holds no ARPA file"],
    [folder("lm-lost", { "attrs.json": { file: "a.arpa" } }), "attrs.json names a.arpa, which is not there"],
    [`${scratch}/nowhere`, "there is no such file or folder"],
  ])
    await assert.rejects(findLanguageModel(host, path), {
      message: `Cannot take ${path} as a language model: ${lacks}`,
    });
  const odd = folder("lm-odd", { "attrs.json": { alpha: "half" }, "a.arpa": ARPA });
  await assert.rejects(findLanguageModel(host, odd), /attrs\.json: alpha is "half" but should be a number/);
  const outside = folder("lm-outside", { "attrs.json": { file: "../a.arpa" } });
  await assert.rejects(
    findLanguageModel(host, outside),
    /attrs\.json: file is "\.\.\/a\.arpa" but should be the name of a file beside it/,
  );
});

test("a CTC model is recognised with its own language model, with another, or with none", async () => {
  const path = await ctcModel("lm-ctc", 32, {
    ...notebook,
    "preprocessor_config.json": { feature_extractor_type: "Wav2Vec2FeatureExtractor", sampling_rate: 16000 },
    "language_model/attrs.json": { alpha: 20, beta: 60 },
    "language_model/lm.arpa": ARPA,
  });
  const { samples } = await readWav(host, clip);
  const device = await testDevice();
  const textOf = async (options: { lm?: string; languageModel?: boolean }) => {
    const model = await openModelFolder(host, path);
    const chosen = "lm" in options ? await withLanguageModel(host, model, options.lm) : model;
    const recognizer = await openRecognizer(host, device, chosen);
    const [{ transcript }] = await recognizer.recognize([samples], { languageModel: options.languageModel });
    recognizer.dispose();
    return transcript?.text ?? "";
  };
  const greedy = await textOf({ lm: undefined });
  assert.equal(await textOf({ languageModel: false }), greedy);
  const own = await textOf({});
  // So heavy a model lets hardly anything but its words through.
  const known = (text: string) => text.split(" ").filter((word) => ["ab", "ba", "b"].includes(word)).length;
  assert.ok(known(own) > known(greedy), `${own} | ${greedy}`);
  const other = folder("lm-light", {
    "attrs.json": { alpha: 0, beta: 0, unk_score_offset: 0 },
    "a.arpa": ARPA,
  });
  assert.notEqual(await textOf({ lm: other }), own);
  device.dispose();
});

test("a model folder whose language model cannot be read says so, and a model without CTC takes none", async () => {
  const path = await ctcModel("lm-unread", 32, {
    ...notebook,
    "language_model/attrs.json": {},
    "language_model/kenlm.bin": "",
  });
  const model = await openModelFolder(host, path);
  assert.equal(model.languageModel, undefined);
  const note = `${path}/language_model is not used: kenlm.bin is in a binary format of KenLM`;
  assert.ok(
    model.notes.some((line) => line.startsWith(note)),
    model.notes.join("\n"),
  );
  const { vocabulary: _, ...speechless } = model;
  await assert.rejects(withLanguageModel(host, speechless, path), {
    message: `Cannot weigh a language model in with ${path}: it has no CTC head that writes words`,
  });
  await model.weights.close();
});

test("predict and evaluate --lm take a language model or leave it out, and say which", async () => {
  const own = folder("lm-demo", {
    "language_model/attrs.json": { alpha: 20, beta: 60 },
    "language_model/lm.arpa": ARPA,
  });
  cpSync(`${root}weights/demo`, own, { recursive: true });
  const recognised = async (...args: string[]) => {
    const { json, error } = await runHere(predict, clip, "--model", own, "--json", ...args);
    assert.equal(error, undefined);
    return [json.languageModel, json.files[0].transcript];
  };
  const [path, words] = await recognised();
  assert.equal(path, `${own}/language_model/lm.arpa`);
  const [none, greedy] = await recognised("--lm", "none");
  assert.equal(none, undefined);
  assert.notEqual(words, greedy);
  const light = folder("lm-light", {
    "attrs.json": { alpha: 0, beta: 0, unk_score_offset: 0 },
    "a.arpa": ARPA,
  });
  assert.equal((await recognised("--lm", light))[0], `${light}/a.arpa`);
  const { error } = await runHere(predict, clip, "--model", own, "--lm", `${own}/vocab.json`);
  assert.equal(error?.message, `Cannot read ${own}/vocab.json: it has no line \\data\\, as ARPA files do`);
  const broken = folder("lm-broken", { "language_model/lm.arpa": "hello" });
  cpSync(`${root}weights/demo`, broken, { recursive: true });
  const { error: refused } = await runHere(predict, clip, "--model", broken);
  assert.equal(
    refused?.message,
    `Cannot read ${broken}/language_model/lm.arpa: it has no line \\data\\, as ARPA files do; predict and evaluate --lm none decode without it`,
  );
});
