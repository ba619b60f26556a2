/** Folders of models as people have them, made for a test and gone after it; and a clip for them to hear. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { editCheckpoint } from "./checkpoint.ts";
import { normal } from "./reference.ts";

export type Json = Record<string, unknown>;

const root = fileURLToPath(new URL("..", import.meta.url));
export const reference = `${root}test/reference`;
export const scratch = mkdtempSync(join(tmpdir(), "wavegate-models-"));
after(() => rmSync(scratch, { recursive: true }));
export const clip = `${root}weights/default/clips/Ses05F_impro01_M003.wav`;

/** A folder with the files given, text or JSON. */
export function folder(name: string, files: Readonly<Record<string, unknown>>): string {
  const path = join(scratch, name);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), typeof content === "string" ? content : JSON.stringify(content));
  }
  return path;
}

export const configOf = (name: string): Json =>
  JSON.parse(readFileSync(`${reference}/${name}/config.json`, "utf8"));
export const extractor = {
  feature_extractor_type: "Wav2Vec2FeatureExtractor",
  sampling_rate: 16000,
  feature_size: 1,
};

/** Letters as Hugging Face's fine-tuning notebook writes them: <s> and </s> are added behind [PAD]. */
export const LETTERS = [..."abcdefghijklmnopqrstuvwxyz'|", "[UNK]", "[PAD]"];
export const notebook = {
  "vocab.json": Object.fromEntries(LETTERS.map((token, id) => [token, id])),
  "added_tokens.json": { "<s>": 30, "</s>": 31 },
  "tokenizer_config.json": {
    ...{ tokenizer_class: "Wav2Vec2CTCTokenizer", pad_token: "[PAD]", unk_token: "[UNK]" },
    ...{ bos_token: "<s>", eos_token: "</s>", word_delimiter_token: "|", do_lower_case: false },
  },
};

/** A HubertForCTC with a random head of `outputs`. */
export async function ctcModel(
  name: string,
  outputs: number,
  files: Readonly<Record<string, unknown>>,
): Promise<string> {
  const config = { ...configOf("hubert-tiny-stable"), vocab_size: outputs, pad_token_id: 29 };
  const path = folder(name, { "config.json": config, ...files });
  await editCheckpoint(
    `${reference}/hubert-tiny-stable/model.safetensors`,
    `${path}/model.safetensors`,
    (tensors) => {
      const width = tensors.get("lm_head.weight")?.shape[1] ?? 0;
      const [weight, bias] = [normal(outputs * width, 3, 1), normal(outputs, 4, 1)];
      // Outputs that are no text win where random ones for letters would.
      for (const [special, letter] of [
        [28, 23],
        [31, 19],
        [39, 1],
      ] as const) {
        if (special >= outputs) continue;
        const row = weight.subarray(letter * width, (letter + 1) * width);
        weight.set(row, special * width);
        bias[special] = bias[letter] + 1;
      }
      const tensor = (shape: number[], values: Float32Array<ArrayBuffer>) => ({
        ...{ dtype: "F32" as const, shape },
        data: new Uint8Array(values.buffer),
      });
      tensors.set("lm_head.weight", tensor([outputs, width], weight));
      tensors.set("lm_head.bias", tensor([outputs], bias));
    },
  );
  return path;
}

/** The utterance of the clip, and a corpus of it alone. */
export const utterance = {
  id: "a",
  wav: clip,
  words: "SO TIRED",
  label: "sad",
  seconds: 1.24,
  dialogue: "d",
} as never;
export const data = {
  examined: { utterances: [utterance], problems: [], notForTraining: new Set() },
  fold: { name: "Session1", train: [utterance], dev: [], test: [] },
} as never;
