/** The model card in every model folder. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { type CardFacts, modelCard } from "../src/speech/training/model_card.ts";
import { provenance, type TrainingCorpus } from "../src/speech/training/provenance.ts";

const own: TrainingCorpus = {
  ...{
    name: "IEMOCAP_full_release",
    identity: "abc",
    system: "both-cmgi",
    preset: "safe",
    heldOut: "Session5",
  },
  ...{ split: "def", dev: 0.1, seed: 3, trainedOn: { a: "1", b: "2", c: "3" }, selectedBy: { d: "4" } },
};
const facts: CardFacts = {
  config: {
    ...trainConfig({ preset: "safe", system: "both-cmgi", data: "/home/me/IEMOCAP_full_release", fold: 5 }),
    ...{ seed: 3, from: { hubert: "/home/me/hubert-large-ll60k", bert: "/home/me/runs/a/model" } },
  },
  ...{ stage: 2, parameters: 431_000_000 },
  record: provenance({ corpus: own }, [
    ["hubert-large-ll60k", undefined],
    ["a/model", provenance({ corpus: { ...own, name: "mini", heldOut: "Session1", trainedOn: { z: "9" } } })],
  ]),
  at: { epoch: 4, dev: { loss: 0.71234567, ua: 0.78125, wa: 0.7751, wer: 0.1361, utterances: 1 } },
};
const card = modelCard(facts);

test("modelCard() says corpus, fold, split, seed, recipe and the dev set's figures, and what began the training", () => {
  for (const row of [
    "| corpus | IEMOCAP_full_release |",
    "| corpus, hash of its utterances | `abc` |",
    "| held out for the test | Session5 |",
    "| split, hash of its utterances | `def` |",
    "| trained on | 3 utterances |",
    "| epoch chosen by | 1 utterance |",
    "| hubert began as | hubert-large-ll60k |",
    "| bert began as | a/model |",
    "| before that, trained on | 1 utterance of mini, Session1 held out |",
    "| not known what it was trained on | hubert-large-ll60k |",
    "| UA, mean recall of the emotions, % | 78.13 |",
    "| WER, % | 13.61 |",
    "| loss | 0.71235 |",
  ])
    assert.ok(card.includes(row), row);
  assert.match(card, /^# both-cmgi: Session5 of IEMOCAP_full_release held out, seed 3$/m);
  assert.match(card, /Preset `safe`, seed 3, stage 2; the model after epoch 4\./);
  const recipe = /```json\n(.*?)\n```/s.exec(card)?.[1] ?? "";
  assert.deepEqual(JSON.parse(recipe), JSON.parse(JSON.stringify(facts.config.stage2)));
  assert.ok(!card.includes("/home/me"), "no path");
  assert.equal(modelCard(facts), card);
});

test("modelCard() begins with the front matter that Hugging Face reads", () => {
  const [, matter] = /^---\n(.*?)\n---\n/s.exec(card) ?? [];
  for (const line of [
    /^pipeline_tag: audio-classification$/m,
    /^- speech-emotion-recognition$/m,
    /^- name: "both-cmgi: Session5 of IEMOCAP_full_release held out, seed 3"$/m,
    /^ {4}- \{type: accuracy, name: "UA, mean recall of the emotions, %", value: 78\.13\}$/m,
    /^ {4}- \{type: wer, name: "WER, %", value: 13\.61\}$/m,
  ])
    assert.match(matter, line);
  assert.doesNotMatch(matter, /^license/m);
});

test("modelCard() of a checkpoint within the training has no figures, and one of stage 0 no emotions", () => {
  const within = modelCard({ ...facts, at: undefined });
  assert.match(within, /a checkpoint within the training/);
  assert.match(within, /None: no dev set was evaluated/);
  assert.doesNotMatch(within, /model-index/);
  const text = modelCard({
    ...{ config: facts.config, stage: 0, parameters: 1_500_000 },
    record: provenance({ text: "mini" }),
    at: { epoch: 1, dev: { loss: 2, perplexity: 7.4 } },
  });
  assert.match(text, /^pipeline_tag: fill-mask$/m);
  assert.match(text, /\| masked language modelling on the text of \| mini \|/);
  assert.match(text, /1\.50 M parameters/);
  assert.doesNotMatch(text, /emotion-recognition|WER/);
});
