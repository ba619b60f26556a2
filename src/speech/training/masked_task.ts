import type { Device } from "../../gpu/device.ts";
import {
  type HubertForPretraining,
  type MaskedPrediction,
  maskedPrediction,
} from "../../models/hubert_pretraining.ts";
import { frameCount } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { uniformStream } from "../../train/seeds.ts";
import { type DevResult, type Losses, refuseTooFew, type Task } from "../../train/task.ts";
import { SpeechTask, type SpeechTaskOptions } from "./speech_task.ts";
import type { Batch } from "./examples.ts";
import { maskSpans } from "./spec_augment.ts";
import type { Units } from "./units.ts";

/** A batch with the units of each recording's frames. */
export interface UnitBatch extends Batch {
  /** Absent until prepare(). */
  readonly units?: readonly Uint16Array[];
}

/** Options of MaskedTask. */
export interface MaskedTaskOptions extends SpeechTaskOptions {
  readonly device: Device;
  readonly model: HubertForPretraining;
  readonly units: Units;
  /** Share of the frames that would be masked if spans did not overlap, and frames of a span. */
  readonly mask: { readonly probability: number; readonly length: number };
  /** What unmasked frames count beside masked ones; 0 in HuBERT. */
  readonly unmaskedWeight: number;
}

/** Fewest spans of a recording, as in fairseq. */
const MIN_SPANS = 2;

/** Trains a HubertForPretraining. */
export class MaskedTask extends SpeechTask<MaskedTaskOptions> implements Task<UnitBatch> {
  /** The batch with its units. They depend on no weight that is trained. */
  async prepare(batch: UnitBatch): Promise<UnitBatch> {
    const units: Uint16Array[] = [];
    for (const [b, { id }] of batch.utterances.entries()) {
      const from = b * batch.samples;
      const samples = () => batch.audio.subarray(from, from + batch.lengths[b]);
      units.push(await this.options.units.of(id, samples));
    }
    return { ...batch, units };
  }

  losses(batch: UnitBatch, mode: Mode): Losses {
    const { loss, masked } = this.#predict(batch, mode);
    return { loss, parts: loss === masked ? {} : { masked } };
  }

  #predict(
    { audio, samples, lengths, units, utterances }: UnitBatch,
    mode: Mode,
  ): MaskedPrediction & { logits: Tensor; targets: number[] } {
    const { device, model, mask, unmaskedWeight } = this.options;
    const { config } = model.hubert;
    if (!units) throw new Error("Cannot predict the units of a batch that prepare() was not given");
    const [B, T] = [lengths.length, frameCount(config, samples)];
    const frames = lengths.map((n) => frameCount(config, n));
    const { training } = mode;
    const drawn = training && (() => training.next() / 2 ** 32);
    // Equal masks of the dev set in every epoch.
    const next = drawn ?? uniformStream("masks", ...utterances.map(({ id }) => id));
    const masked = spans(frames, T, mask, next);
    const clusters = frames.flatMap((n, b) =>
      Array.from({ length: T }, (_, t) => (t < n ? units[b][t] : -100)),
    );
    const { logits } = model.forward(
      {
        ...{ audio: Tensor.from(device, audio, [B, samples]), lengths },
        keepFrames: Tensor.from(
          device,
          Uint32Array.from(masked, (m) => 1 - m),
          [B, T],
        ),
      },
      mode,
    );
    return device.at({ part: "losses" }, () => ({
      ...maskedPrediction(logits, clusters, masked, unmaskedWeight),
      ...{ logits, targets: clusters.map((cluster, i) => (masked[i] ? cluster : -100)) },
    }));
  }

  /** Loss and share of right units of the masked frames, over all of them. */
  async evaluate(signal?: AbortSignal): Promise<DevResult | undefined> {
    const { device, dev } = this.options;
    if (dev.length === 0) return undefined;
    let [loss, right, frames, read] = [0, 0, 0, 0];
    for await (const loaded of this.devBatches(signal)) {
      const batch = await this.prepare(loaded);
      const { targets, ...output } = scope(device, () => this.#predict(batch, {}));
      const { masked, logits } = output;
      const [[own], values] = await Promise.all([masked.read(), logits.read()]);
      for (const tensor of new Set(Object.values(output))) tensor.release();
      const K = values.length / targets.length;
      const wanted = [...targets.entries()].filter(([, cluster]) => cluster >= 0);
      for (const [i, cluster] of wanted)
        if (likeliest(values.subarray(i * K, (i + 1) * K)) === cluster) right++;
      loss += own * wanted.length;
      frames += wanted.length;
      read += loaded.utterances.length;
    }
    refuseTooFew(dev.length - read, dev.length, "the dev set", this.items);
    const counts = { utterances: read, of: dev.length };
    return { loss: loss / frames, accuracy: right / frames, ...counts };
  }
}

const likeliest = (row: Float32Array): number =>
  row.reduce((best, value, i) => (value > row[best] ? i : best), 0);

/**
 * A mask (B, T), 1 = masked, with spans as SpecAugment's. A recording of few frames has shorter spans, so that each has some that
 * are masked and some that are not; one of a single frame has none, unless all are such.
 */
export function spans(
  frames: readonly number[],
  T: number,
  { probability, length }: MaskedTaskOptions["mask"],
  next: () => number,
): Uint8Array {
  const mask = new Uint8Array(frames.length * T);
  for (const [b, n] of frames.entries()) {
    const own = Math.min(length, n >> 1);
    if (own === 0) continue;
    mask.set(maskSpans([n], T, { probability, length: own, minimum: MIN_SPANS }, next), b * T);
  }
  if (!mask.includes(1)) mask[0] = 1;
  return mask;
}
