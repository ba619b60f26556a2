/** Makes a synthetic corpus with baselines.json beside it, which `evaluate` shows next to a model's scores. */
import type { Host } from "../../host/host.ts";
import { readIemocap } from "../corpora/iemocap.ts";
import type { Manifest } from "../corpora/manifest.ts";
import { startSynthesiser } from "../synthetic/synthesiser_process.ts";
import { type SynthesisOptions, synthesiseCorpus } from "../synthetic/synthesise_corpus.ts";
import { claimCorpus } from "../synthetic/unfinished.ts";
import { type Baselines, type BaselinesOptions, measureBaselines, writeBaselines } from "./baselines.ts";

/** Options of makeCorpus(). */
export interface MakeCorpusOptions extends Pick<SynthesisOptions, "preset" | "seed" | "onClip" | "change"> {
  /** Script of the synthesiser's process, see startSynthesiser(). */
  readonly synthesiser: URL;
  readonly signal?: AbortSignal;
  /** Told how many of all clips are analysed for the baselines. */
  readonly onMeasured?: BaselinesOptions["onClip"];
}

/**
 * Makes a corpus in the new folder `out`. A failure or an abort leaves no file behind. Equal presets and seeds give equal
 * bytes. Throws the reason of an aborted signal, and what claimCorpus() throws.
 */
export async function makeCorpus(
  host: Host,
  out: string,
  { synthesiser, signal, onClip, onMeasured, ...options }: MakeCorpusOptions,
): Promise<{ manifest: Manifest; baselines: Baselines }> {
  const corpus = await claimCorpus(host, out);
  const process = startSynthesiser(host, synthesiser);
  /** Throws at the next clip where the signal is aborted. */
  const interruptible = (callback: typeof onClip) => (done: number, total: number) => {
    signal?.throwIfAborted();
    callback?.(done, total);
  };
  try {
    const manifest = await synthesiseCorpus(host, corpus.path, {
      ...options,
      synthesise: process.synthesise,
      onClip: interruptible(onClip),
    });
    const baselines = await measureBaselines(host, await readIemocap(host, corpus.path), {
      onClip: interruptible(onMeasured),
    });
    await writeBaselines(host, corpus.path, baselines);
    await corpus.publish();
    return { manifest, baselines };
  } catch (error) {
    await corpus.discard();
    // Ctrl-C reaches the synthesiser too, whose end is then no error of its own.
    signal?.throwIfAborted();
    throw error;
  } finally {
    process.close();
    corpus.release();
  }
}
