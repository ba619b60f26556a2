/** Recognises a recording, and compares every stage with what PyTorch computed. */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { readWav } from "../../io/audio.ts";
import { object, readJsonAs } from "../../io/schema.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { CaseTensors, readCase } from "../../validate/case.ts";
import { distance } from "../../validate/compare.ts";
import type { Recognizer } from "../system/recognizer.ts";
import { readStage } from "./models.ts";

/** Largest relative L2 error with which a stage passes. */
const LIMIT = 1e-4;

/** The folder with PyTorch's tensors: MODEL/reference or MODEL itself; undefined where neither has them. */
export async function findReference(host: Host, model: string): Promise<string | undefined> {
  for (const candidate of [`${model}/reference`, model])
    if ((await host.kind(`${candidate}/outputs.safetensors`)) === "file") return candidate;
  return undefined;
}

/** A stage beside PyTorch's. */
export interface ComparedStage {
  /** As in the case: "conv.0", "cmgi.logits". */
  readonly name: string;
  readonly shape: readonly number[];
  /** ‖got − want‖ / ‖want‖. */
  readonly relL2: number;
  readonly pass: boolean;
}

/** The result of compareRecording(). */
export interface ComparedRecording {
  /** Name of the recording in MODEL/clips. */
  readonly file: string;
  /** Length of the recording. */
  readonly seconds: number;
  /** Seconds of the first pass, which compiles kernels. */
  readonly cold: number;
  /** Seconds of the second pass. */
  readonly warm: number;
  /** Dispatches of the second pass. */
  readonly dispatches: number;
  readonly stages: readonly ComparedStage[];
  /** The words recognised here. */
  readonly words?: string;
  /** The words decoded from PyTorch's logits. */
  readonly wanted: string;
  /** Whether the words are equal and every stage passes. */
  readonly pass: boolean;
}

/** Recognises the recording in `model`/clips that the case in `reference` names. Throws where it names none. */
export async function compareRecording(
  host: Host,
  recognizer: Recognizer,
  model: string,
  reference: string,
): Promise<ComparedRecording> {
  const { audio, decoded } = await readCase(host, reference);
  if (!audio?.length || !decoded?.length)
    throw new Error(
      `Cannot compare with ${reference}: its case.json names no audio, nor what PyTorch decoded`,
    );
  const [file] = audio;
  const { samples, seconds } = await readWav(host, `${model}/clips/${file}`);
  await using expected = await ReferenceTensors.open(host, reference);
  const seen = new Map<string, Tensor>();
  const observe = (name: string, t: Tensor) => {
    if (expected.has(name) && !seen.has(name)) seen.set(name, t.keep());
  };
  const { recorder } = recognizer.device;
  const start = performance.now();
  // PyTorch's words are those of its logits alone.
  const greedy = { languageModel: false };
  const [{ transcript }] = await recognizer.recognize([samples], { ...greedy, observe });
  const between = performance.now();
  const before = recorder.dispatches;
  await recognizer.recognize([samples], greedy);
  const [cold, warm] = [between - start, performance.now() - between].map((ms) => ms / 1000);
  const dispatches = recorder.dispatches - before;
  const stages: ComparedStage[] = [];
  for (const [name, tensor] of seen) {
    const got = await readStage(tensor, expected.shape(name));
    const { relL2 } = distance(got ?? [], await expected.read(name));
    stages.push({ name, shape: tensor.shape, relL2, pass: relL2 <= LIMIT });
    tensor.release();
  }
  const [words, wanted] = [transcript?.text, decoded[0]];
  const pass = words === wanted && stages.every((s) => s.pass);
  return { file, seconds, cold, warm, dispatches, stages, words, wanted, pass };
}

/** PyTorch's tensors of a case: in float64 where stored, else in float32; probabilities are computed from the logits. */
class ReferenceTensors {
  readonly #files: readonly CaseTensors[];

  private constructor(files: readonly CaseTensors[]) {
    this.#files = files;
  }
  static async open(host: Host, folder: string): Promise<ReferenceTensors> {
    const files: CaseTensors[] = [];
    for (const name of ["outputs_f64", "outputs", "inputs"]) {
      const path = `${folder}/${name}.safetensors`;
      if ((await host.kind(path)) === "file") files.push(await CaseTensors.open(host, path));
    }
    return new ReferenceTensors(files);
  }
  #of(name: string): [file: CaseTensors | undefined, source: string] {
    const sources = name === "probabilities" ? ["cmgi.logits", "logits"] : [name];
    for (const source of sources) {
      const file = this.#files.find((f) => f.has(source));
      if (file) return [file, source];
    }
    return [undefined, name];
  }
  has(name: string): boolean {
    return this.#of(name)[0] !== undefined;
  }
  shape(name: string): readonly number[] {
    const [file, source] = this.#of(name);
    return file?.shape(source) ?? [];
  }
  async read(name: string): Promise<ArrayLike<number>> {
    const [file, source] = this.#of(name);
    const values = (await file?.read(source)) ?? new Float32Array();
    if (name !== "probabilities") return values;
    const e = Array.from(values, Math.exp);
    const total = e.reduce((a, b) => a + b, 0);
    return e.map((v) => v / total);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}

const clipsSchema = v.array(
  object({
    file: v.string(),
    text: v.string(),
    label: v.optional(v.string()),
    note: v.optional(v.string()),
  }),
);

/** A recording of a model folder: its name in clips/, its reference transcript, its label where it has one, what to know of it. */
export type Clip = Readonly<v.InferOutput<typeof clipsSchema>[number]>;

/** The recordings in `model`/clips, as clips.json lists them. Throws where that is no such list. */
export const readClips = (host: Host, model: string): Promise<Clip[]> =>
  readJsonAs(host, `${model}/clips/clips.json`, clipsSchema);
