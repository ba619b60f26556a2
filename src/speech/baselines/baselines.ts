/**
 * Baselines of a corpus: scores of classifiers without a neural network, to compare a model's with. All are measured by
 * leave-one-session-out cross-validation.
 */
import * as v from "valibot";
import { type Corpus, LABELS, type Label, type Utterance } from "../corpora/corpus.ts";
import { folds } from "../corpora/folds.ts";
import { type Manifest, readManifest } from "../corpora/manifest.ts";
import { ALIGNMENT } from "../synthetic/plan.ts";
import { STATES } from "../synthetic/prosody.ts";
import type { Host } from "../../host/host.ts";
import { readWav } from "../../io/audio.ts";
import { integer, number, object, readJsonAs, readJsonLinesAs, record } from "../../io/schema.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { type Ceilings, ceilings } from "../synthetic/ceilings.ts";
import { fitLda, fitNaiveBayes } from "./classifiers.ts";
import { FEATURES, acousticFeatures } from "./features.ts";
import { argmax, gather, meanAndDeviation, percent, score } from "../metrics/metrics.ts";

/** A sum of rounded shares may be a little more than 1. */
const share = number("a share from 0 to 1", (x) => x >= 0 && x <= 1 + 1e-9);

/** UA of every held-out session, their mean and standard deviation, and WA over all utterances. */
const baselineSchema = object({
  folds: record(share),
  ua: share,
  deviation: share,
  wa: share,
  /** The answer to every utterance, by its id; absent in files of version 0.2. */
  predictions: v.optional(record(v.picklist(LABELS))),
});

const ceilingsSchema = object({ audio: share, text: share, both: share, aligned: share });

const schema = object({
  utterances: integer(1),
  majority: share,
  /** Acoustic: linear discriminant analysis of handcrafted features. */
  lda: baselineSchema,
  /** The same with features standardised by speaker, for which a speaker needs several clips. */
  ldaBySpeaker: baselineSchema,
  /** Text: naive Bayes on the reference transcripts, of words, and of words and pairs of words. */
  unigrams: baselineSchema,
  bigrams: baselineSchema,
  /** Both: the product of the posteriors of ldaBySpeaker and unigrams. */
  lateFusion: baselineSchema,
  /** Names of the acoustic features. */
  features: v.array(v.string()),
  /** Of a synthetic corpus only: recall of the prosody states by LDA, mean and each, and the ceilings of its joint table. */
  synthetic: v.optional(
    object({
      states: share,
      statesFound: object({ tense: share, bright: share, low: share, flat: share }),
      ceilings: ceilingsSchema,
      /** Where one state in ten and one keyword in ten are misrecognised. */
      ceilingsMisread: ceilingsSchema,
    }),
  ),
});

/** Scores of one baseline. */
export type Baseline = Readonly<v.InferOutput<typeof baselineSchema>>;
/** All baselines of a corpus. */
export type Baselines = Readonly<v.InferOutput<typeof schema>>;

/** Where the baselines of a synthetic corpus lie in its folder. */
const FILE = "baselines.json";
/** The same in corpora that version 0.1 made. */
const FORMER_FILE = "oracle.json";

/**
 * The baselines beside a synthetic corpus, from baselines.json, else from oracle.json; undefined where there is neither.
 * Throws one line where a figure is missing.
 */
export async function readBaselines(host: Host, root: string): Promise<Baselines | undefined> {
  for (const path of [`${root}/${FILE}`, `${root}/${FORMER_FILE}`])
    if ((await host.kind(path)) === "file") return await readJsonAs(host, path, schema);
  return undefined;
}

/** Writes baselines.json into the folder of a corpus. */
export const writeBaselines = (host: Host, root: string, baselines: Baselines): Promise<void> =>
  writeWhole(host, `${root}/${FILE}`, `${JSON.stringify(baselines, null, 2)}\n`);

/** The keys of a line of truth.jsonl that are read here. */
const truthSchema = object({ id: v.string(), state: v.picklist(STATES) });

type Labelled = Utterance & { readonly label: Label };
/** Trains on the utterances with these indices; returns the log posteriors of any utterance. */
type Fit = (train: readonly number[]) => (i: number) => number[];

/** Options of measureBaselines(). */
export interface BaselinesOptions {
  /** Told how many of all clips are analysed. */
  readonly onClip?: (done: number, total: number) => void;
  /** Told of every file that cannot be read; its utterance is left out. Without it such a file is an error. */
  readonly onProblem?: (id: string, message: string) => void;
}

/** Measures the baselines; reads every wav file. Throws where a class or a second session is missing. */
export async function measureBaselines(
  host: Host,
  corpus: Corpus,
  { onClip, onProblem }: BaselinesOptions = {},
): Promise<Baselines> {
  const labelled = corpus.utterances.filter((u): u is Labelled => u.label !== undefined);
  const data: Labelled[] = [];
  const raw: number[][] = [];
  for (const [i, utterance] of labelled.entries()) {
    try {
      raw.push(acousticFeatures((await readWav(host, utterance.wav)).samples));
      data.push(utterance);
    } catch (error) {
      if (!onProblem) throw error;
      onProblem(utterance.id, (error as Error).message);
    }
    onClip?.(i + 1, labelled.length);
  }
  const missing = LABELS.filter((label) => !data.some((u) => u.label === label));
  if (missing.length > 0) {
    throw new Error(`Cannot measure baselines: no utterance of ${corpus.root} is ${missing.join(" or ")}`);
  }
  const bySpeaker = standardise(raw, data);
  const truth = data.map((u) => LABELS.indexOf(u.label));
  const unigrams = data.map((u) => u.words.split(" "));
  const bigrams = unigrams.map((tokens) => tokens.concat(tokens.slice(1).map((t, i) => `${tokens[i]} ${t}`)));
  const acoustic = ldaFit(bySpeaker, truth, LABELS.length);
  const text = bayesFit(unigrams, truth);
  const late: Fit = (train) => {
    const [a, b] = [acoustic(train), text(train)];
    return (i) => a(i).map((p, k) => p + b(i)[k]);
  };
  const manifest = await readManifest(host, corpus.root);
  return {
    utterances: data.length,
    majority: Math.max(...LABELS.map((_, k) => truth.filter((t) => t === k).length)) / data.length,
    lda: baseline(data, truth, ldaFit(raw, truth, LABELS.length)),
    ldaBySpeaker: baseline(data, truth, acoustic),
    unigrams: baseline(data, truth, text),
    bigrams: baseline(data, truth, bayesFit(bigrams, truth)),
    lateFusion: baseline(data, truth, late),
    features: [...FEATURES],
    synthetic: manifest && (await syntheticFigures(host, corpus.root, manifest, data, bySpeaker)),
  };
}

/** What only a corpus allows whose prosody states are known. */
async function syntheticFigures(
  host: Host,
  root: string,
  { preset }: Manifest,
  data: readonly Labelled[],
  features: number[][],
): Promise<Baselines["synthetic"]> {
  const path = `${root}/truth.jsonl`;
  const truth = new Map((await readJsonLinesAs(host, path, truthSchema)).map(({ id, state }) => [id, state]));
  const states = data.map(({ id }) => {
    const state = truth.get(id);
    if (state === undefined) throw new RangeError(`Cannot use ${path}: it lacks the clip ${id}`);
    return STATES.indexOf(state);
  });
  const found = crossValidate(data, ldaFit(features, states, STATES.length)).predicted;
  const scores = score(states, found, STATES.length);
  const recalls = STATES.map((state, k) => [state, scores.perClass[k].recall]);
  const alignment = preset === "nano" ? 0 : ALIGNMENT;
  return {
    states: scores.ua,
    statesFound: Object.fromEntries(recalls),
    ceilings: ceilings({ state: 0, keyword: 0 }, alignment),
    ceilingsMisread: ceilings({ state: 0.1, keyword: 0.1 }, alignment),
  };
}

function ldaFit(features: number[][], labels: readonly number[], classes: number): Fit {
  return (train) => {
    const classify = fitLda(gather(features, train), gather(labels, train), classes);
    return (i) => classify(features[i]);
  };
}

function bayesFit(texts: string[][], labels: readonly number[]): Fit {
  return (train) => {
    const classify = fitNaiveBayes(gather(texts, train), gather(labels, train), LABELS.length);
    return (i) => classify(texts[i]);
  };
}

/** The prediction for every utterance by the fit that was not trained on its session; `tests`: indices by session. */
function crossValidate(
  data: readonly Labelled[],
  fit: Fit,
): { predicted: number[]; tests: Map<string, number[]> } {
  const index = new Map(data.map((u, i) => [u.id, i]));
  const predicted = new Array<number>(data.length);
  const tests = new Map<string, number[]>();
  for (const { name, train, test } of folds(data, { dev: 0 })) {
    const posteriors = fit(train.map((u) => index.get(u.id)!));
    const held = test.map((u) => index.get(u.id)!);
    tests.set(name, held);
    for (const i of held) predicted[i] = argmax(posteriors(i));
  }
  return { predicted, tests };
}

function baseline(data: readonly Labelled[], truth: readonly number[], fit: Fit): Baseline {
  const { predicted, tests } = crossValidate(data, fit);
  const perFold = [...tests].map(([name, held]) => {
    return [name, score(gather(truth, held), gather(predicted, held), LABELS.length).ua] as const;
  });
  const { mean, deviation } = meanAndDeviation(perFold.map(([, ua]) => ua));
  const all = [...tests.values()].flat().sort((a, b) => a - b);
  const { wa } = score(gather(truth, all), gather(predicted, all), LABELS.length);
  const predictions = Object.fromEntries(all.map((i) => [data[i].id, LABELS[predicted[i]]]));
  return { folds: Object.fromEntries(perFold), ua: mean, deviation, wa, predictions };
}

/** Features (N, F) with mean 0 and deviation 1 within each speaker. */
function standardise(features: readonly number[][], data: readonly Labelled[]): number[][] {
  const speakers = new Map<string, number[]>();
  data.forEach(({ speaker }, i) => {
    speakers.set(speaker, [...(speakers.get(speaker) ?? []), i]);
  });
  const out = features.map((row) => row.slice());
  for (const members of speakers.values()) {
    for (let f = 0; f < FEATURES.length; f++) {
      const { mean, deviation } = meanAndDeviation(members.map((i) => features[i][f]));
      for (const i of members) out[i][f] = (features[i][f] - mean) / (deviation || 1);
    }
  }
  return out;
}

/** Names of the baselines in texts. */
const NAMES = {
  lda: "acoustic: LDA of the features",
  ldaBySpeaker: "acoustic: the same, by speaker",
  unigrams: "text: naive Bayes",
  bigrams: "text: the same with bigrams",
  lateFusion: "both: product of posteriors",
} as const;

/** The baselines and their names. */
export const rowsOf = (baselines: Baselines): [name: string, Baseline][] =>
  Object.entries(NAMES).map(([key, name]) => [name, baselines[key as keyof typeof NAMES]]);

/** The figures alone, without the answer to every utterance. */
export const figuresOf = (baselines: Baselines): Baselines => ({
  ...baselines,
  ...Object.fromEntries(
    Object.keys(NAMES).map((key) => [
      key,
      { ...baselines[key as keyof typeof NAMES], predictions: undefined },
    ]),
  ),
});

/** The baselines of a corpus as text. */
export function formatBaselines(baselines: Baselines): string {
  const lines = [
    `${baselines.utterances} utterances, majority class ${percent(baselines.majority)}`,
    "",
    `${"each session held out in turn".padEnd(34)}UA              WA`,
    ...rowsOf(baselines).map(([name, { ua, deviation, wa }]) => {
      return `  ${name.padEnd(32)}${`${percent(ua)} ± ${(100 * deviation).toFixed(1)}`.padEnd(16)}${percent(wa)}`;
    }),
  ];
  if (baselines.synthetic !== undefined) {
    const { states, statesFound, ceilings: best, ceilingsMisread: misread } = baselines.synthetic;
    const each = STATES.map((state) => `${state} ${percent(statesFound[state])}`).join(", ");
    const row = (name: string, c: Ceilings) =>
      `  ${name.padEnd(32)}acoustic ${percent(c.audio)}, text ${percent(c.text)}, both ${percent(c.both)}, word by word ${percent(c.aligned)}`;
    lines.push(
      "",
      "synthetic speech: best UA possible",
      row("every state and keyword known", best),
      row("one in ten of each misread", misread),
      `  prosody states found by LDA: ${percent(states)} (${each})`,
    );
  }
  return lines.join("\n");
}

/** UA of the baselines on one session held out, and over all, as text. */
export function formatSessionBaselines(baselines: Baselines, session: string): string {
  const lines = rowsOf(baselines).map(([name, { folds, ua }]) => {
    const held = percent(folds[session] ?? Number.NaN);
    return `  ${name.padEnd(34)}UA ${held} on this session, ${percent(ua)} over all`;
  });
  return ["baselines on the same corpus:", ...lines].join("\n");
}
