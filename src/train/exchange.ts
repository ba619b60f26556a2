/**
 * The sum of all ranks' gradients, in buckets. A bucket is copied to the CPU as soon as the backward pass has all of it, and
 * is exchanged while the GPU goes on; its sum is written back to the GPU while the next one is exchanged.
 *
 * Two ranks: MPI_Allreduce, one addition. More: the order of that sum would be the library's, and another on each. So every
 * rank is sent its part of all ranks' buckets (MPI_Alltoall), adds them up in pairs, and sends the sum to all
 * (MPI_Allgather): as many bytes, 2 (R − 1)/R of a bucket, as the best of the library's ways.
 */
import type { Device } from "../gpu/device.ts";
import { StagedReader } from "../gpu/staged_reader.ts";
import type { Parameter } from "../nn/parameter.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { Optimizer } from "./optimizer.ts";
import { PairwiseSum } from "./pairwise.ts";
import type { Ranks } from "./ranks.ts";

/** Bytes of a bucket: enough for a network's full speed, few enough that the first is on its way early. */
const BUCKET_BYTES = 16 * 2 ** 20;
/** Most buckets that wait on the way to the CPU; on a CPU adapter they take of the memory that the model needs. */
const MOST_READS = { cpu: 2, gpu: 16 };

/** A piece of a parameter in a bucket. In elements. */
interface Segment {
  /** Place of the parameter among the optimiser's. */
  readonly index: number;
  /** First element in the parameter. */
  readonly from: number;
  /** First element in the bucket. */
  readonly at: number;
  readonly count: number;
}

interface Bucket {
  readonly segments: readonly Segment[];
  readonly size: number;
}

/** What an exchange took. */
export interface ExchangeReport {
  /** Bytes of the gradients that were summed. */
  readonly bytes: number;
  /** Seconds within calls to MPI. */
  readonly seconds: number;
  /** Seconds that the update waited for it after its last backward pass was recorded. */
  readonly waited: number;
}

/** Buckets of all parameters, the last first: the backward pass comes to them in about that order. */
function bucketsOf(sizes: readonly number[], most: number): Bucket[] {
  const buckets: { segments: Segment[]; size: number }[] = [];
  for (let index = sizes.length - 1; index >= 0; index--) {
    for (let from = 0; from < sizes[index]; ) {
      if ((buckets.at(-1)?.size ?? most) === most) buckets.push({ segments: [], size: 0 });
      const bucket = buckets[buckets.length - 1];
      const count = Math.min(sizes[index] - from, most - bucket.size);
      bucket.segments.push({ index, from, at: bucket.size, count });
      bucket.size += count;
      from += count;
    }
  }
  return buckets;
}

/** An update's exchange under way. */
interface Round {
  /** Local sums, by the place of their parameters; present until they are copied. */
  readonly own: (Tensor | undefined)[];
  /** 1: the local sum of a parameter is known, 2: it is known to be nothing. */
  readonly ready: Uint8Array;
  /** Sums over all ranks. */
  readonly sums: (Tensor | undefined)[];
  /** Buckets on their way to the CPU, by their places. */
  readonly reads: Promise<Float32Array>[];
  /** Resolves once the next bucket is on its way. */
  wake: () => void;
  cancelled: boolean;
  seconds: number;
}

/** Sums the gradients of an optimiser over all ranks, once an update. */
export class GradientExchange {
  readonly #device: Device;
  readonly #optimizer: Optimizer;
  readonly #ranks: Ranks;
  readonly #parameters: readonly Parameter[];
  readonly #index: ReadonlyMap<Parameter, number>;
  readonly #buckets: readonly Bucket[];
  /** The bucket that holds the last piece of each parameter. */
  readonly #lastBucket: readonly number[];
  readonly #reader: StagedReader;
  readonly #bytes: number;
  #reading = 0;
  #round: Round | undefined;
  #running: Promise<void> = Promise.resolve();

  /** `bucketBytes`: most of a bucket. */
  constructor(device: Device, optimizer: Optimizer, ranks: Ranks, bucketBytes: number = BUCKET_BYTES) {
    this.#device = device;
    this.#optimizer = optimizer;
    this.#ranks = ranks;
    this.#parameters = optimizer.parameters;
    this.#index = new Map(this.#parameters.map((parameter, i) => [parameter, i]));
    const sizes = this.#parameters.map(({ value }) => value.size);
    this.#buckets = bucketsOf(sizes, Math.max(1, bucketBytes >> 2));
    const last = new Array<number>(sizes.length).fill(0);
    for (const [i, { segments }] of this.#buckets.entries())
      for (const { index } of segments) last[index] = i;
    this.#lastBucket = last;
    this.#reader = new StagedReader(device, 4 * Math.max(...this.#buckets.map((each) => each.size)));
    this.#bytes = 4 * sizes.reduce((a, b) => a + b, 0);
  }

  /** Begins an update, before its last backward pass. */
  begin(): void {
    const n = this.#parameters.length;
    this.#round = {
      ...{ own: new Array(n), ready: new Uint8Array(n), sums: new Array(n), reads: [] },
      ...{ wake() {}, cancelled: false, seconds: 0 },
    };
    this.#running = this.#exchange(this.#round);
    this.#running.catch(() => {}); // finish() throws it
  }

  /** Says that nothing more is added to a parameter's gradient on this rank. */
  ready(parameter: Parameter): void {
    const [round, index] = [this.#round, this.#index.get(parameter)];
    if (!round || index === undefined || round.ready[index] !== 0) return;
    round.own[index] = this.#optimizer.takeGradient(parameter);
    round.ready[index] = round.own[index] ? 1 : 2;
    this.#launch(round);
  }

  /** Waits for the sums, which are then the optimiser's. */
  async finish(): Promise<ExchangeReport> {
    const round = this.#round;
    if (!round) throw new Error("Cannot finish an exchange of gradients: none was begun");
    const begin = performance.now();
    for (const parameter of this.#parameters) this.ready(parameter);
    await this.#running;
    const own = [...round.ready.keys()].filter((i) => round.ready[i] === 2);
    const absent = (await this.#ranks.gather("gradients", own)).map((each) => new Set(each));
    for (const [i, sum] of round.sums.entries()) {
      if (!sum) continue;
      // Parameters that no micro-batch reached are left alone, as on one rank.
      if (absent.every((each) => each.has(i))) sum.release();
      else this.#optimizer.putGradient(this.#parameters[i], sum);
    }
    this.#round = undefined;
    const waited = (performance.now() - begin) / 1000;
    return { bytes: this.#bytes, seconds: round.seconds, waited };
  }

  /** Gives up an update that failed. */
  cancel(): void {
    const round = this.#round;
    if (!round) return;
    this.#round = undefined;
    round.cancelled = true;
    round.wake();
    for (const tensor of [...round.own, ...round.sums]) tensor?.release();
  }

  /** Destroys what is kept for reads. */
  dispose(): void {
    this.cancel();
    this.#reader.dispose();
  }

  /** Starts the reads of the buckets that are complete, in their order. */
  #launch(round: Round): void {
    const most = this.#device.info.cpu ? MOST_READS.cpu : MOST_READS.gpu;
    while (!round.cancelled && round.reads.length < this.#buckets.length && this.#reading < most) {
      const place = round.reads.length;
      const bucket = this.#buckets[place];
      if (!bucket.segments.every(({ index }) => round.ready[index] !== 0)) break;
      const read = this.#read(round, place, bucket);
      read.catch(() => {}); // awaited in turn, where it may throw
      round.reads.push(read);
      round.wake();
    }
  }

  /** Copies a bucket to the CPU, behind the work that was recorded so far and before that which comes. */
  async #read(round: Round, place: number, { segments, size }: Bucket): Promise<Float32Array> {
    this.#reading++;
    const pieces = segments.flatMap(({ index, from, at, count }) => {
      const buffer = round.own[index]?.buffer;
      return buffer ? [{ buffer, fromByte: 4 * from, toByte: 4 * at, bytes: 4 * count }] : [];
    });
    const read = this.#reader.read(pieces, 4 * size);
    for (const { index } of segments) {
      if (this.#lastBucket[index] !== place) continue;
      round.own[index]?.release();
      round.own[index] = undefined;
    }
    const values = new Float32Array(await read);
    this.#reading--;
    // x + −0 is x, whatever x is.
    for (const { index, at, count } of segments)
      if (round.ready[index] === 2) values.fill(-0, at, at + count);
    this.#launch(round);
    return values;
  }

  /** The next bucket's values, once its read was launched and is done. */
  async #next(round: Round, place: number): Promise<Float32Array> {
    while (round.reads[place] === undefined) {
      if (round.cancelled) throw new Error("the update was given up");
      await new Promise<void>((resolve) => {
        round.wake = resolve;
      });
    }
    return round.reads[place];
  }

  /** Exchanges bucket after bucket, in the same order on all ranks. */
  async #exchange(round: Round): Promise<void> {
    const { communicator, size: ranks } = this.#ranks;
    const timed = async (call: Promise<void>) => {
      const begin = performance.now();
      await call;
      round.seconds += (performance.now() - begin) / 1000;
    };
    /** The bucket before, of which this rank has its part of all ranks' values. */
    let before: { bucket: Bucket; parts: Float32Array } | undefined;
    const spread = async (own: Float32Array, bucket: Bucket) => {
      const all = new Float32Array(own.length * ranks);
      await timed(communicator.allgather(bytesOf(own), bytesOf(all)));
      this.#write(round, bucket, all);
    };
    for (const [place, bucket] of this.#buckets.entries()) {
      const values = await this.#next(round, place);
      if (ranks <= 2) {
        const sums = new Float32Array(values.length);
        await timed(communicator.allreduce(values, sums));
        this.#write(round, bucket, sums);
        continue;
      }
      const padded = new Float32Array(ranks * Math.ceil(values.length / ranks));
      padded.set(values);
      const parts = new Float32Array(padded.length);
      const swap = timed(communicator.alltoall(padded, parts));
      await Promise.resolve(); // the call has begun on its thread
      const own = before && sumOfParts(before.parts, ranks);
      await swap;
      if (before && own) await spread(own, before.bucket);
      before = { bucket, parts };
    }
    if (before) await spread(sumOfParts(before.parts, ranks), before.bucket);
  }

  /** Writes a bucket's sums to the GPU. */
  #write(round: Round, { segments }: Bucket, values: Float32Array): void {
    if (round.cancelled) return;
    for (const { index, from, at, count } of segments) {
      const { value } = this.#parameters[index];
      round.sums[index] ??= Tensor.empty(this.#device, value.shape);
      const sum = round.sums[index];
      this.#device.recorder.upload(sum.buffer, bytesOf(values.subarray(at, at + count)), 4 * from);
    }
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** The sum of `count` equal parts, in pairs, in the place of the first. */
function sumOfParts(values: Float32Array, count: number): Float32Array {
  const length = values.length / count;
  const sum = new PairwiseSum<Float32Array>((left, right) => {
    for (let i = 0; i < left.length; i++) left[i] += right[i];
    return left;
  });
  for (let i = 0; i < count; i++) sum.add(i, values.subarray(i * length, (i + 1) * length));
  return sum.take() as Float32Array;
}
