/** A stand-in for IEMOCAP with the figures of its baselines beside it, which `evaluate` shows next to a model's. */
import type { Host } from "../../host/host.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { readIemocap } from "../corpora/iemocap.ts";
import type { Manifest } from "../corpora/manifest.ts";
import { startSpeech } from "../synthetic/synthesiser_process.ts";
import { type MakeOptions, makeCorpus } from "../synthetic/synthesise_corpus.ts";
import { claimCorpus } from "../synthetic/unfinished.ts";
import { type Baselines, type BaselinesOptions, measureBaselines } from "./baselines.ts";

export interface StandInOptions extends Pick<MakeOptions, "preset" | "seed" | "onClip" | "change"> {
  /** The script that speaks, see startSpeech(). */
  readonly synthesiser: URL;
  readonly signal?: AbortSignal;
  /** Told of every clip whose features were measured. */
  readonly onMeasured?: BaselinesOptions["onClip"];
}

/**
 * Makes a corpus in the new folder `out`, or nothing: a failure and an abort leave no file behind. Equal presets and seeds
 * give equal bytes. Throws the signal's reason where that was aborted, and what claimCorpus() throws.
 */
export async function makeStandIn(
  host: Host,
  out: string,
  { synthesiser, signal, onClip, onMeasured, ...options }: StandInOptions,
): Promise<{ manifest: Manifest; baselines: Baselines }> {
  const corpus = await claimCorpus(host, out);
  const speech = startSpeech(host, synthesiser);
  /** Ends the work at the next clip where the signal is aborted. */
  const interruptible = (told: typeof onClip) => (done: number, total: number) => {
    signal?.throwIfAborted();
    told?.(done, total);
  };
  try {
    const { synthesise } = speech;
    const manifest = await makeCorpus(host, corpus.path, {
      ...options,
      synthesise,
      onClip: interruptible(onClip),
    });
    const baselines = await measureBaselines(host, await readIemocap(host, corpus.path), {
      onClip: interruptible(onMeasured),
    });
    await writeWhole(host, `${corpus.path}/oracle.json`, `${JSON.stringify(baselines, null, 2)}\n`);
    await corpus.publish();
    return { manifest, baselines };
  } catch (error) {
    await corpus.discard();
    // Ctrl-C reaches the synthesiser too: whatever failed, that is why.
    signal?.throwIfAborted();
    throw error;
  } finally {
    speech.close();
    corpus.release();
  }
}
