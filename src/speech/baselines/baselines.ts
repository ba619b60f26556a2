/**
 * What a corpus allows: figures that need no network, against which a network's are read. Every one is
 * measured with a session held out, over all sessions.
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
import { type Ceilings, ceilings } from "../synthetic/ceilings.ts";
import { fitLda, fitNaiveBayes } from "./classifiers.ts";
import { FEATURES, handFeatures } from "./features.ts";
import { argmax, meanAndDeviation, score } from "../metrics/metrics.ts";

/** Of utterances, or a mean of such shares; a sum of rounded ones may be a little more than 1. */
const share = number("a share from 0 to 1", (x) => x >= 0 && x <= 1 + 1e-9);

/** UA of every held-out session, their mean and deviation, and WA over all utterances. */
const baselineSchema = object({ folds: record(share), ua: share, deviation: share, wa: share });

const ceilingsSchema = object({ audio: share, text: share, both: share, aligned: share });

const schema = object({
  utterances: integer(1),
  majority: share,
  /** Acoustic only: linear discriminants on hand features. */
  lda: baselineSchema,
  /** The same with features standardised by speaker, which needs more than one clip of a speaker. */
  ldaBySpeaker: baselineSchema,
  /** Words only, from the true transcript. */
  unigrams: baselineSchema,
  bigrams: baselineSchema,
  /** The posteriors of ldaBySpeaker and unigrams multiplied. */
  lateFusion: baselineSchema,
  features: v.array(v.string()),
  /** Only for a generated corpus: share of prosody states found by LDA, and the table's ceilings. */
  synthetic: v.optional(
    object({
      states: share,
      statesFound: object({ tense: share, bright: share, low: share, flat: share }),
      ceilings: ceilingsSchema,
      /** With one state in ten and one keyword in ten misread. */
      ceilingsMisread: ceilingsSchema,
    }),
  ),
});

export type Baseline = Readonly<v.InferOutput<typeof baselineSchema>>;
export type Baselines = Readonly<v.InferOutput<typeof schema>>;

/** The oracle.json beside a generated corpus; undefined where there is none. Throws one line where it lacks a figure. */
export async function readBaselines(host: Host, root: string): Promise<Baselines | undefined> {
  const path = `${root}/oracle.json`;
  return (await host.kind(path)) === "file" ? await readJsonAs(host, path, schema) : undefined;
}

/** What a line of truth.jsonl says that is measured here. */
const truthSchema = object({ id: v.string(), state: v.picklist(STATES) });

type Labelled = Utterance & { readonly label: Label };
/** Trains on some of the utterances, by index; the result gives log posteriors of any one. */
type Fit = (train: readonly number[]) => (i: number) => number[];

export interface BaselinesOptions {
  readonly onClip?: (done: number, total: number) => void;
  /** Told of every file that cannot be read; its utterance is left out. Without it such a file is an error. */
  readonly onProblem?: (id: string, message: string) => void;
}

/** Measures the baselines; reads every wav. Throws where a class or a second session is missing. */
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
      raw.push(handFeatures((await readWav(host, utterance.wav)).samples));
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
  const voice = ldaFit(bySpeaker, truth, LABELS.length);
  const words = bayesFit(unigrams, truth);
  const late: Fit = (train) => {
    const [a, b] = [voice(train), words(train)];
    return (i) => a(i).map((p, k) => p + b(i)[k]);
  };
  const manifest = await readManifest(host, corpus.root);
  return {
    utterances: data.length,
    majority: Math.max(...LABELS.map((_, k) => truth.filter((t) => t === k).length)) / data.length,
    lda: baseline(data, truth, ldaFit(raw, truth, LABELS.length)),
    ldaBySpeaker: baseline(data, truth, voice),
    unigrams: baseline(data, truth, words),
    bigrams: baseline(data, truth, bayesFit(bigrams, truth)),
    lateFusion: baseline(data, truth, late),
    features: [...FEATURES],
    synthetic: manifest && (await generated(host, corpus.root, manifest, data, bySpeaker)),
  };
}

async function generated(
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
  const found = holdOut(data, ldaFit(features, states, STATES.length)).predicted;
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
    const classify = fitLda(pick(features, train), pick(labels, train), classes);
    return (i) => classify(features[i]);
  };
}

function bayesFit(texts: string[][], labels: readonly number[]): Fit {
  return (train) => {
    const classify = fitNaiveBayes(pick(texts, train), pick(labels, train), LABELS.length);
    return (i) => classify(texts[i]);
  };
}

/** The answer to every utterance by the fit that did not see its session. */
function holdOut(data: readonly Labelled[], fit: Fit): { predicted: number[]; tests: Map<string, number[]> } {
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
  const { predicted, tests } = holdOut(data, fit);
  const perFold = [...tests].map(([name, held]) => {
    return [name, score(pick(truth, held), pick(predicted, held), LABELS.length).ua] as const;
  });
  const { mean, deviation } = meanAndDeviation(perFold.map(([, ua]) => ua));
  const { wa } = score(truth, predicted, LABELS.length);
  return { folds: Object.fromEntries(perFold), ua: mean, deviation, wa };
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

function pick<T>(list: readonly T[], indices: readonly number[]): T[] {
  return indices.map((i) => list[i]);
}

/** The figures as a table of text. */
export function baselinesText(baselines: Baselines): string {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const rows: [string, Baseline][] = [
    ["voice: LDA on hand features", baselines.lda],
    ["voice: the same, by speaker", baselines.ldaBySpeaker],
    ["words: naive Bayes", baselines.unigrams],
    ["words: with bigrams", baselines.bigrams],
    ["both: posteriors multiplied", baselines.lateFusion],
  ];
  const lines = [
    `${baselines.utterances} utterances, majority class ${percent(baselines.majority)}`,
    "",
    `${"each session held out in turn".padEnd(34)}UA              WA`,
    ...rows.map(([name, { ua, deviation, wa }]) => {
      return `  ${name.padEnd(32)}${`${percent(ua)} ± ${(100 * deviation).toFixed(1)}`.padEnd(16)}${percent(wa)}`;
    }),
  ];
  if (baselines.synthetic !== undefined) {
    const { states, statesFound, ceilings: best, ceilingsMisread: misread } = baselines.synthetic;
    const each = STATES.map((state) => `${state} ${percent(statesFound[state])}`).join(", ");
    const row = (name: string, c: Ceilings) =>
      `  ${name.padEnd(32)}voice ${percent(c.audio)}, words ${percent(c.text)}, both ${percent(c.both)}, word by word ${percent(c.aligned)}`;
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
