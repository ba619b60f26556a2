/** Reads the parts of a reference case; test/reference/README.md describes its form. */
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { isObject } from "../io/config.ts";
import { readF32, type Safetensors, openSafetensors } from "../io/safetensors.ts";
import { anyObject, finite, object, parse, readJsonAs, readOptionalJsonAs } from "../io/schema.ts";

/** What a case.json may say; beside it something about each file of outputs, by its name. */
const caseSchema = v.pipe(
  anyObject,
  v.looseObject({
    /** Files in clips/, and what PyTorch decodes from each. */
    audio: v.optional(v.array(v.string())),
    decoded: v.optional(v.array(v.string())),
    /** Of one step. */
    loss_f32: v.optional(finite),
    grad_norm_f32: v.optional(finite),
    /** AdamW's steps on the one batch of the case. */
    train_trajectory: v.optional(
      object({
        lr: finite,
        weight_decay: finite,
        loss_f64: v.array(finite),
        grad_norm_f64: v.array(finite),
      }),
    ),
  }),
);

export type CaseInfo = v.InferOutput<typeof caseSchema>;

/** The case.json of a folder; a case may have none. */
export const readCase = (host: Host, folder: string): Promise<CaseInfo> =>
  readOptionalJsonAs(host, `${folder}/case.json`, caseSchema);

const attribute = v.optional(finite);
const names = v.array(v.string());

/**
 * A case of an `ops` folder: an operation, whose record reads the attributes, or three steps of an optimiser, which has no
 * `op`.
 */
const opSchema = object({
  case: v.string(),
  file: v.string(),
  attrs: v.pipe(
    anyObject,
    v.looseObject({
      op: v.optional(v.string()),
      ...{ lr: attribute, eps: attribute, momentum: attribute, weight_decay: attribute, max_norm: attribute },
      betas: v.optional(v.tuple([finite, finite])),
    }),
  ),
  inputs: names,
  outputs: names,
});

export type OpCase = Readonly<v.InferOutput<typeof opSchema>>;

const opsSchema = object({ cases: v.array(opSchema) });

export const readOpCases = async (host: Host, folder: string): Promise<OpCase[]> =>
  (await readJsonAs(host, `${folder}/index.json`, opsSchema)).cases;

/** An optimiser's attributes that are numbers. */
export type NumberName = "lr" | "eps" | "momentum" | "weight_decay" | "max_norm";

/** An attribute. Throws where there is none. */
export function numberOf(op: OpCase, name: NumberName): number {
  const value = op.attrs[name];
  if (value === undefined)
    throw new Error(`Cannot validate ${op.case}: it lacks the attribute ${name}, a number`);
  return value;
}

const outputsSchema = object({ attention_mask_passed: v.optional(v.boolean(), true) });

/** Whether transformers was given the attention mask where it computed the file of outputs. */
export function maskPassed(info: CaseInfo, folder: string, outputs: string): boolean {
  const own = info[outputs];
  if (!isObject(own)) return true;
  return parse(outputsSchema, own, `${folder}/case.json (${outputs})`).attention_mask_passed;
}

/** Tensors of one file of a case, read as needed. */
export class CaseTensors {
  readonly file: Safetensors;
  readonly path: string;

  private constructor(file: Safetensors, path: string) {
    this.file = file;
    this.path = path;
  }

  static async open(host: Host, path: string): Promise<CaseTensors> {
    return new CaseTensors(await openSafetensors(host, path), path);
  }

  has(name: string): boolean {
    return this.file.tensors.has(name);
  }
  get names(): string[] {
    return [...this.file.tensors.keys()];
  }
  shape(name: string): readonly number[] {
    const entry = this.file.tensors.get(name);
    if (!entry) throw new Error(`Cannot use ${this.path}: it holds no ${name}`);
    return entry.shape;
  }
  /** Values as f32; integers exactly up to 2^24. */
  async read(name: string): Promise<Float32Array> {
    this.shape(name);
    return readF32(this.file, name);
  }
  async integers(name: string): Promise<number[]> {
    return Array.from(await this.read(name));
  }
  /** A (B, T) tensor as B lists. */
  async rows(name: string): Promise<number[][]> {
    const [B, T] = this.shape(name);
    const flat = await this.integers(name);
    return Array.from({ length: B }, (_, b) => flat.slice(b * T, (b + 1) * T));
  }
  close(): Promise<void> {
    return this.file.close();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The folders of a case, or of the cases that lie side by side in a folder. Throws where there is none. */
export async function findCases(host: Host, operand: string): Promise<string[]> {
  const folder = operand.replace(/(?<=.)\/+$/, "");
  if ((await host.kind(folder)) !== "directory")
    throw new Error(`Cannot validate ${folder}: it is no folder`);
  const isCase = (names: readonly string[]) => names.includes("index.json") || names.includes("config.json");
  const names = await host.list(folder);
  if (isCase(names)) return [folder];
  const found: string[] = [];
  for (const path of names.map((name) => `${folder}/${name}`))
    if ((await host.kind(path)) === "directory" && isCase(await host.list(path))) found.push(path);
  if (found.length === 0)
    throw new Error(
      `Cannot validate ${folder}: it holds neither config.json nor index.json, nor folders that do`,
    );
  return found;
}

/** Whether a case is of single operations: its index.json lists them. */
export const isOperatorCase = async (host: Host, folder: string): Promise<boolean> =>
  (await host.kind(`${folder}/index.json`)) === "file";

/** Files of a case folder by what stands before and after the first dot of their names. */
export async function filesOf(host: Host, folder: string, stem: string): Promise<string[]> {
  const names = await host.list(folder);
  return names.filter(
    (n) =>
      n.endsWith(".safetensors") &&
      (n === `${stem}.safetensors` || n.startsWith(`${stem}.`) || n.startsWith(`${stem}_`)),
  );
}
