/** A file to whose end a run writes. */
import type { Host } from "../host/host.ts";
import { joinBytes } from "../host/join_bytes.ts";
import { writeWhole } from "../io/write_whole.ts";

/** How many bytes at the start of `bytes` are whole records: lines, or events. */
type Whole = (bytes: Uint8Array) => number;

const NEWLINE = 10;
export const wholeLines: Whole = (bytes) => bytes.lastIndexOf(NEWLINE) + 1;

/** Records are collected and reach the disk together. */
export class GrowingFile {
  readonly path: string;
  readonly #host: Host;
  readonly #whole: Whole;
  #pending: Uint8Array[] = [];
  /** Bytes on the disk: known after measure() or cut(). */
  length = 0;

  constructor(host: Host, path: string, whole: Whole) {
    this.#host = host;
    this.path = path;
    this.#whole = whole;
  }

  get empty(): boolean {
    return this.length === 0 && this.#pending.length === 0;
  }

  /** Finds out how long the file is; records are added behind that. */
  async measure(): Promise<void> {
    if ((await this.#host.kind(this.path)) !== "file") return;
    const file = await this.#host.open(this.path);
    this.length = file.size;
    await file.close();
  }

  add(bytes: Uint8Array): void {
    this.#pending.push(bytes);
  }

  async flush(): Promise<void> {
    if (this.#pending.length === 0) return;
    const all = joinBytes(this.#pending);
    this.#pending = [];
    await this.#host.append(this.path, all);
    this.length += all.length;
  }

  /**
   * Cuts off what lies beyond `length` bytes, and a record that is cut short by that. Returns how many bytes of `length`
   * are not there any more: somebody else shortened the file.
   */
  async cut(length: number): Promise<number> {
    const there = (await this.#host.kind(this.path)) === "file";
    const bytes = there ? await this.#host.readBytes(this.path) : new Uint8Array(0);
    const kept = this.#whole(bytes.subarray(0, length));
    if (bytes.length > kept) await writeWhole(this.#host, this.path, bytes.subarray(0, kept));
    this.length = kept;
    return length - kept;
  }
}
