/** A miniature IEMOCAP for tests of training: sessions of tones, with the text files that stage 0 reads. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { currentHost } from "../src/host/current.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { uniform } from "./reference.ts";

const CODES = ["ang", "hap", "sad", "neu"];
const WORDS = ["yes", "no", "we", "go", "so", "oh"];

export interface TinyRelease {
  readonly root: string;
  remove(): Promise<void>;
}

export interface TinyOptions {
  /** Turns of each dialogue; there are two dialogues a session. */
  readonly turns?: number;
  /** Shortest and longest clip, in seconds. */
  readonly seconds?: readonly [number, number];
  /** Numbers of the sessions. */
  readonly sessions?: readonly number[];
  /** Sessions whose clips are not there. */
  readonly silent?: readonly number[];
  /** Seeds samples and transcripts. */
  readonly seed?: number;
}

export async function tinyRelease({
  turns = 8,
  seconds = [0.5, 1.5],
  sessions = [1, 2, 3],
  silent = [],
  seed = 11,
}: TinyOptions = {}): Promise<TinyRelease> {
  const host = await currentHost();
  const root = await mkdtemp(join(tmpdir(), "wavegate-tiny-"));
  const next = uniform(seed);
  const phrase = () =>
    Array.from({ length: 1 + Math.floor(3 * next()) }, () => WORDS[Math.floor(6 * next())]);
  for (const session of sessions) {
    for (const take of ["01", "02"]) {
      const dialogue = `Ses${String(session).padStart(2, "0")}F_impro${take}`;
      const base = join(root, `Session${session}`);
      const wavs = join(base, "sentences/wav", dialogue);
      const [ratings, transcripts] = [
        join(base, "dialog/EmoEvaluation"),
        join(base, "dialog/transcriptions"),
      ];
      for (const folder of [wavs, ratings, transcripts]) await mkdir(folder, { recursive: true });
      const rated: string[] = [];
      const said: string[] = [];
      for (let turn = 0; turn < turns; turn++) {
        const id = `${dialogue}_${turn % 2 ? "M" : "F"}00${turn}`;
        const label = Math.floor(4 * next());
        rated.push(`[${turn}.0000 - ${turn + 1}.0000]\t${id}\t${CODES[label]}\t[2.5000, 2.5000, 2.5000]\n`);
        said.push(`${id} [00${turn}.0000-00${turn + 1}.0000]: ${phrase().join(" ")}.`);
        const length = Math.round(16_000 * (seconds[0] + (seconds[1] - seconds[0]) * next()));
        const tone = (0.02 + 0.03 * label) * (1 + 0.2 * next());
        const samples = Float32Array.from(
          { length },
          (_, t) => 0.3 * Math.sin(tone * t) + 0.05 * (next() - 0.5),
        );
        if (!silent.includes(session)) await writeWav16(host, join(wavs, `${id}.wav`), samples);
      }
      await writeFile(join(ratings, `${dialogue}.txt`), rated.join("\n"));
      await writeFile(join(transcripts, `${dialogue}.txt`), said.join("\n"));
    }
  }
  const vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ...WORDS];
  await writeFile(join(root, "vocab.txt"), `${vocabulary.join("\n")}\n`);
  await writeFile(
    join(root, "text.txt"),
    `${Array.from({ length: 80 }, () => phrase().join(" ")).join("\n")}\n`,
  );
  return { root, remove: () => rm(root, { recursive: true, force: true }) };
}

/** Arguments of `crossvalidate` for the shortest trainings that there are: the first folds of a system of one stage, on nano. */
export const acousticFolds = (data: string, folds: number, out: string): string[] => [
  ...["--systems", "acoustic", "--preset", "nano", "--data", data],
  ...["--folds", `${folds}`, "--out", out],
];
