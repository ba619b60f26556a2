import type { Device } from "../../gpu/device.ts";
import { decodeGreedy } from "../../io/decode.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import { type HubertForCTC, secondsPerFrame } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import { ctcLoss, type Reduction } from "../../ops/ctc.ts";
import { logSoftmax } from "../../ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { type DevResult, type Losses, refuseTooFew, type Task } from "../../train/task.ts";
import { type Edits, totalEdits, wer, wordEdits } from "../metrics/wer.ts";
import type { Augmentation } from "./augment.ts";
import { SpeechTask, type SpeechTaskOptions, speechInput } from "./speech_task.ts";
import { type Batch, boundTargets, type Reader } from "./examples.ts";

/** Options of CtcTask. */
export interface CtcTaskOptions extends SpeechTaskOptions {
  readonly device: Device;
  readonly model: HubertForCTC;
  readonly reader: Reader & { readonly vocabulary: CtcVocabulary };
  readonly ctcReduction: Reduction & ("mean" | "sum");
  readonly augment: Augmentation;
}

/** Trains a HubertForCTC. */
export class CtcTask extends SpeechTask<CtcTaskOptions> implements Task<Batch> {
  losses(batch: Batch, mode: Mode): Losses {
    return { loss: this.#forward(batch, mode, this.options.ctcReduction).loss, parts: {} };
  }

  #forward(batch: Batch, mode: Mode, reduction: Reduction) {
    const { device, model, reader } = this.options;
    const { logits, frames } = model.forward(speechInput(device, model.hubert.config, batch, mode), mode);
    const loss = device.at({ part: "losses" }, () =>
      ctcLoss(logits, boundTargets(batch.targets, frames), frames, {
        ...{ blank: reader.vocabulary.blank, reduction, zeroInfinity: true },
      }),
    );
    return { logits, frames, loss };
  }

  async evaluate(signal?: AbortSignal): Promise<DevResult | undefined> {
    const { device, dev, reader, model } = this.options;
    if (dev.length === 0) return undefined;
    const { config } = model.hubert;
    const found: Edits[] = [];
    let loss = 0;
    for await (const batch of this.devBatches(signal)) {
      const output = scope(device, () => {
        const { logits, frames, loss } = this.#forward(batch, {}, "mean");
        return { logProbs: logSoftmax(logits), frames, loss };
      });
      const [values, [own]] = await Promise.all([output.logProbs.read(), output.loss.read()]);
      const [, T, V] = output.logProbs.shape;
      output.logProbs.release();
      output.loss.release();
      for (const [b, n] of output.frames.entries()) {
        const row = values.subarray(b * T * V, (b * T + n) * V);
        const { text } = decodeGreedy(row, reader.vocabulary, { secondsPerFrame: secondsPerFrame(config) });
        found.push(wordEdits({ reference: batch.utterances[b].words, hypothesis: text }));
      }
      loss += own * batch.utterances.length;
    }
    refuseTooFew(dev.length - found.length, dev.length, "the dev set", this.items);
    return {
      ...{ loss: loss / found.length, wer: wer(totalEdits(found)) },
      ...{ utterances: found.length, of: dev.length },
    };
  }
}
