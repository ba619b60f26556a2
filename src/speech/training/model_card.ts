/**
 * README.md of a model folder: a model card as Hugging Face reads them. Equal runs write equal cards: they name no time and no
 * path.
 */
import type { SavePoint } from "../../train/task.ts";
import { type StageNumber, stageOf, type TrainConfig } from "../recipes/config.ts";
import { partsOf, pretrains, systemOf } from "../recipes/systems.ts";
import { NOTHING_HELD_OUT } from "../corpora/unlabelled.ts";
import { LABELS } from "../system/labels.ts";
import type { Provenance } from "./provenance.ts";
import { folderName } from "./run_provenance.ts";

/** Name of the card in a model folder. */
export const CARD_FILE = "README.md";

/** What a card tells of. */
export interface CardFacts {
  readonly config: TrainConfig;
  readonly stage: StageNumber;
  /** What the model was trained on. */
  readonly record?: Provenance;
  /** Number of its parameters. */
  readonly parameters: number;
  /** Absent for a checkpoint within the training. */
  readonly at?: SavePoint;
}

/** The card as Markdown with YAML front matter. */
export function modelCard(facts: CardFacts): string {
  return [
    frontMatter(facts),
    `# ${titleOf(facts)}`,
    purpose(facts),
    data(facts),
    recipe(facts),
    figures(facts),
    limits(facts),
  ]
    .filter((part) => part !== "")
    .join("\n\n")
    .concat("\n");
}

type Own = Provenance["corpora"][number] | undefined;

/** The corpus of the model's own training; stage 0 has none with recordings. */
const ownCorpus = ({ record, stage }: CardFacts): Own => (stage === 0 ? undefined : record?.corpora[0]);

/** A model of stage 0 and one of stage 1 are parts of the system. */
function titleOf(facts: CardFacts): string {
  const { config, stage } = facts;
  const last = Math.max(...systemOf(config.system).stages);
  const part = stage === last ? "" : `, stage ${stage}`;
  const own = ownCorpus(facts);
  return own
    ? `${config.system}${part}: ${own.heldOut === NOTHING_HELD_OUT ? `all of ${own.name}` : `${own.heldOut} of ${own.name} held out`}, seed ${config.seed}`
    : `${config.system}${part}: seed ${config.seed}`;
}

function frontMatter(facts: CardFacts): string {
  const { config, stage, at } = facts;
  const { hubert, ctc, bert } = partsOf(config.system, stage);
  const own = pretrains(config.system);
  const task = own
    ? { ctc: "automatic-speech-recognition", units: "feature-extraction" }[own]
    : stage === 0
      ? "fill-mask"
      : hubert
        ? "audio-classification"
        : "text-classification";
  const wav2vec2 = systemOf(config.system).encoder === "wav2vec2";
  const tags = [
    ...(stage === 0 || own ? [] : ["emotion-recognition"]),
    ...(hubert ? [...(own ? [] : ["speech-emotion-recognition"]), wav2vec2 ? "wav2vec2" : "hubert"] : []),
    ...(ctc ? ["automatic-speech-recognition"] : []),
    ...(bert ? ["bert"] : []),
  ];
  const corpus = ownCorpus(facts);
  const measured = shownFigures(at);
  const index =
    corpus && own !== "units" && measured.length > 0
      ? [
          "model-index:",
          `- name: ${quoted(titleOf(facts))}`,
          "  results:",
          `  - task: {type: ${task}, name: "${own ? "Speech recognition" : "Speech emotion recognition"}"}`,
          `    dataset: {name: ${quoted(corpus.name)}, type: ${quoted(corpus.name.toLowerCase())}, split: "dev, which chose the epoch"}`,
          "    metrics:",
          ...measured.map(
            ({ type, name, percent }) => `    - {type: ${type}, name: ${quoted(name)}, value: ${percent}}`,
          ),
        ]
      : [];
  return [
    "---",
    "# license: to be added; it follows from the corpus and from the checkpoints that the training began with",
    ...["language:", "- en", "library_name: wavegate", `pipeline_tag: ${task}`],
    ...["tags:", ...tags.map((tag) => `- ${tag}`)],
    ...(stage === 0 || (own && !ctc)
      ? []
      : ["metrics:", ...(own ? [] : ["- accuracy"]), ...(ctc ? ["- wer"] : [])]),
    ...index,
    "---",
  ].join("\n");
}

/** A string of YAML. */
const quoted = (text: string): string => JSON.stringify(text);

function purpose({ config, stage, parameters }: CardFacts): string {
  const { hubert, ctc, bert } = partsOf(config.system, stage);
  const size = `${(parameters / 1e6).toFixed(parameters < 1e7 ? 2 : 0)} M parameters`;
  if (stage === 0)
    return `BERT after masked language modelling, ${size}: stage 0 of the system \`${config.system}\`.`;
  const own = pretrains(config.system);
  if (own) {
    const from = stage === 1 ? "of MFCC" : "of the features of the model of stage 1";
    const learned = {
      ctc: "recognises characters by a CTC head: `HubertForCTC` of transformers",
      units: `pretrained by masked prediction of clusters ${from}: \`HubertModel\` of transformers`,
    }[own];
    return `A speech encoder, ${learned}. ${size}; stage ${stage} of the system \`${config.system}\` of Wavegate. \`wavegate train --hubert DIR\` begins with it.`;
  }
  const sources = [
    ...(hubert ? ["speech"] : []),
    ...(bert ? [ctc ? "the words that it recognises" : "the true words"] : []),
  ];
  const words = ctc ? " It recognises words by a CTC head." : "";
  return `Recognises one of four emotions, ${LABELS.join(", ")}, from ${sources.join(" and ")}.${words} ${size}; stage ${stage} of the system \`${config.system}\` of Wavegate. \`wavegate predict --model DIR\` uses it.`;
}

function data(facts: CardFacts): string {
  const { record, config } = facts;
  const own = ownCorpus(facts);
  const count = (clips: Readonly<Record<string, string>>) => {
    const n = Object.keys(clips).length;
    return `${n} utterance${n === 1 ? "" : "s"}`;
  };
  const others = record?.corpora.filter((each) => each !== own) ?? [];
  const rows: [string, string][] = [
    ...(own
      ? ([
          ["corpus", own.name],
          ["corpus, hash of its utterances", `\`${own.identity}\``],
          ["held out for the test", own.heldOut],
          ...(own.split === undefined ? [] : [["split, hash of its utterances", `\`${own.split}\``]]),
          ["trained on", count(own.trainedOn)],
          ["epoch chosen by", count(own.selectedBy)],
        ] as [string, string][])
      : []),
    ...(record?.text ?? []).map((name): [string, string] => [
      "masked language modelling on the text of",
      name,
    ]),
    ...(["hubert", "bert"] as const).flatMap((part): [string, string][] => {
      const folder = config.from[part];
      return folder === undefined || !partsOf(config.system, facts.stage)[part]
        ? []
        : [[`${part} began as`, folderName(folder)]];
    }),
    ...others.map((each): [string, string] => [
      "before that, trained on",
      `${count(each.trainedOn)} of ${each.name}, ${each.heldOut} held out`,
    ]),
    ...(record?.unknown ?? []).map((name): [string, string] => ["not known what it was trained on", name]),
  ];
  const lines = rows.map(([name, value]) => `| ${cell(name)} | ${cell(value)} |`);
  return `## Data\n\n${["| | |", "| --- | --- |", ...lines].join("\n")}\n\n\`training.json\` names every utterance; \`wavegate evaluate\` refuses to test on them.`;
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replace(/\s+/g, " ");

function recipe({ config, stage, at }: CardFacts): string {
  const { preset, seed } = config;
  const when = at === undefined ? "a checkpoint within the training" : `the model after epoch ${at.epoch}`;
  return `## Recipe\n\nPreset \`${preset}\`, seed ${seed}, stage ${stage}; ${when}.\n\n\`\`\`json\n${JSON.stringify({ ...stageOf(config, stage), units: config.units }, null, 1)}\n\`\`\``;
}

/** UA, WA and WER of the dev set. */
function shownFigures(at: SavePoint | undefined) {
  const names = {
    ua: { type: "accuracy", name: "UA, mean recall of the emotions, %" },
    wa: { type: "accuracy", name: "WA, accuracy, %" },
    wer: { type: "wer", name: "WER, %" },
    accuracy: { type: "accuracy", name: "right units of masked frames, %" },
  } as const;
  return Object.entries(names).flatMap(([key, { type, name }]) => {
    const value = at?.dev?.[key];
    return value === undefined || !Number.isFinite(value)
      ? []
      : [{ type, name, percent: (100 * value).toFixed(2) }];
  });
}

function figures({ at, stage, config }: CardFacts): string {
  const shown = shownFigures(at);
  const loss = at?.dev?.loss;
  const rows = [
    ...shown.map(({ name, percent }) => `| ${name} | ${percent} |`),
    ...(loss === undefined ? [] : [`| loss | ${Number(loss.toPrecision(5))} |`]),
  ];
  const test =
    stage === 0
      ? ""
      : `\n\nOf the dev set, which chose the epoch and whose speakers the model may have heard: on new speakers expect less.${pretrains(config.system) ? "" : " What was held out for the test was not used; `wavegate evaluate --model DIR --data CORPUS` measures it."}`;
  return rows.length === 0
    ? "## Figures\n\nNone: no dev set was evaluated where this was saved."
    : `## Figures\n\n${["| dev set | |", "| --- | ---: |", ...rows].join("\n")}${test}`;
}

const limits = ({ config }: CardFacts): string => `## Limits

It knows the voices, the words and the way of speaking of its corpus. IEMOCAP is acted US English by ten speakers; a
generated corpus is a single synthesiser and no human voice.${pretrains(config.system) ? "" : GUESS}`;

const GUESS = ` An emotion named by it is a guess about a recording, not a
fact about a person: do not judge people by it.`;
