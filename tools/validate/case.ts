/** Reads the parts of a reference case; test/reference/README.md describes its form. */
import type { Host } from "../../src/host/host.ts";
import { readF32, type Safetensors, openSafetensors } from "../../src/io/safetensors.ts";

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
}

/** Files of a case folder by what stands before and after the first dot of their names. */
export async function filesOf(host: Host, folder: string, stem: string): Promise<string[]> {
  const names = await host.list(folder);
  return names.filter(
    (n) =>
      n.endsWith(".safetensors") &&
      (n === `${stem}.safetensors` || n.startsWith(`${stem}.`) || n.startsWith(`${stem}_`)),
  );
}
