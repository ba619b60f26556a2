/**
 * The ranks that train one model together: processes with a share of each update's micro-batches. All of them come to the
 * same calls in the same order; rank 0 writes.
 */
import type { Communicator } from "../host/mpi.ts";

/** A process alone. */
const ALONE: Communicator = {
  ...{ rank: 0, size: 1, library: "" },
  allreduce: async (from, into) => into.set(from),
  alltoall: async (from, into) => into.set(from),
  allgather: async (from, into) => into.set(from),
  abort() {},
  close() {},
};

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** JSON has no NaN, which some figures may be. */
const pack = (_key: string, value: unknown) =>
  typeof value === "number" && !Number.isFinite(value) ? { $number: `${value}` } : value;
const unpack = (_key: string, value: unknown) =>
  typeof value === "object" && value !== null && "$number" in value ? Number(value.$number) : value;

/** What a rank tells the others. */
interface Message {
  /** What it is about. */
  readonly about: string;
  /** Absent where it is undefined. */
  readonly value?: unknown;
  readonly notes: readonly string[];
}

/** Ranks came to different places of the program. */
class LostStepError extends Error {}

/** The processes that train together, by MPI or alone. */
export class Ranks {
  /** By which gradients are exchanged. */
  readonly communicator: Communicator;
  /** Told on rank 0 what others have to say. */
  onNote: ((line: string) => void) | undefined;
  #notes: string[] = [];

  /** Without a communicator this process is alone. */
  constructor(communicator: Communicator = ALONE) {
    this.communicator = communicator;
  }

  /** Of this process. */
  get rank(): number {
    return this.communicator.rank;
  }

  /** How many there are. */
  get size(): number {
    return this.communicator.size;
  }

  /** Whether this process writes and speaks for all. */
  get first(): boolean {
    return this.rank === 0;
  }

  /** A line for rank 0, which hears it at the next gather(). */
  note(line: string): void {
    if (this.first) this.onNote?.(line);
    else this.#notes.push(`rank ${this.rank}: ${line}`);
  }

  /** The values of all ranks, in their order, on all of them; as JSON, with NaN and infinities. `about` names what they are. */
  async gather<T>(about: string, value: T): Promise<T[]> {
    if (this.size === 1) return [value];
    const message: Message = { about, value, notes: this.#notes };
    this.#notes = [];
    const own = encoder.encode(JSON.stringify(message, pack));
    const lengths = new Uint32Array(this.size);
    await this.communicator.allgather(
      new Uint8Array(Uint32Array.of(own.length).buffer),
      new Uint8Array(lengths.buffer),
    );
    const longest = Math.max(...lengths);
    const sent = new Uint8Array(longest);
    sent.set(own);
    const all = new Uint8Array(longest * this.size);
    await this.communicator.allgather(sent, all);
    const messages = Array.from(
      lengths,
      (length, rank): Message =>
        JSON.parse(decoder.decode(all.subarray(rank * longest, rank * longest + length)), unpack),
    );
    if (this.first) for (const { notes } of messages) for (const line of notes) this.onNote?.(line);
    const other = messages.findIndex((each) => each.about !== about);
    if (other >= 0)
      throw new LostStepError(
        `Cannot go on: rank ${this.rank} tells of ${about}, rank ${other} of ${messages[other].about}`,
      );
    return messages.map((each) => each.value as T);
  }

  /** Whether it is so on any rank. */
  async any(about: string, flag: boolean): Promise<boolean> {
    return (await this.gather(about, flag)).includes(true);
  }

  /** What `make` gives on rank 0, on all ranks; it runs there alone. Where it throws, `asError` makes an error of the message. */
  async fromFirst<T>(
    about: string,
    make: () => Promise<T>,
    kindOf: (error: Error) => string,
    asError: (kind: string, message: string) => Error,
  ): Promise<T> {
    if (this.size === 1) return make();
    let failure: Error | undefined;
    const own = this.first
      ? await make().then(
          (value) => ({ value, kind: undefined, message: "" }),
          (error: Error) => {
            failure = error;
            return { value: undefined, kind: kindOf(error), message: error.message };
          },
        )
      : undefined;
    const [shared] = await this.gather(about, own);
    if (shared?.kind === undefined) return shared?.value as T;
    throw failure ?? asError(shared.kind, shared.message);
  }

  /** Throws on all ranks, in one line, where a value is not the same text on all of them. */
  async agree(what: string, value: string): Promise<void> {
    const all = await this.gather(what, value);
    const other = all.findIndex((each) => each !== all[0]);
    if (other < 0) return;
    throw new Error(
      `Cannot train on ${this.size} ranks: ${what} of rank ${other} is ${all[other]}, of rank 0 ${all[0]}, but should be the same`,
    );
  }
}

/** The first micro-batch of `rank`, and that of the next one, of an update of `count`. */
export function shareOf(count: number, { rank, size }: Pick<Ranks, "rank" | "size">): [number, number] {
  // Blocks of 2^k: their sums are those of one process.
  const block = 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(count / size))));
  return [Math.min(count, rank * block), Math.min(count, (rank + 1) * block)];
}

/** A line where an update of `count` micro-batches leaves ranks with less to do than others; undefined where it does not. */
export function unequalShares(count: number, size: number): string | undefined {
  const shares = Array.from({ length: size }, (_, rank) => shareOf(count, { rank, size })).map(
    ([from, to]) => to - from,
  );
  const [least, most] = [Math.min(...shares), Math.max(...shares)];
  if (least === most) return undefined;
  const idle = shares.filter((n) => n === 0).length;
  const rest = idle > 0 ? `${idle} of ${size} ranks have none` : `the last rank has ${least}`;
  return `an update's ${count} micro-batches (accumulate) are ${most} a rank, ${rest}: ${size}, ${2 * size}, ${4 * size} … would be equal shares`;
}
