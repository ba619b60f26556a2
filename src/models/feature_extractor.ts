/** What a checkpoint wants done to audio before it hears it: the settings of its Wav2Vec2FeatureExtractor. */
import type { Host } from "../host/host.ts";
import { SAMPLE_RATE } from "../io/audio.ts";
import { isObject, readJson } from "../io/config.ts";
import { ConfigReader } from "./config.ts";

export interface FeatureExtractorConfig {
  /** Whether each utterance is brought to zero mean and unit variance. */
  readonly normalize: boolean;
  /** What should be said where two files disagree. */
  readonly note?: string;
}

/**
 * Reads the settings as transformers 5 does: those inside `processor_config.json` come before `preprocessor_config.json`.
 * Without either they are the defaults. Throws one line that names the file for audio that no model here hears.
 */
export async function openFeatureExtractor(host: Host, folder: string): Promise<FeatureExtractorConfig> {
  const [processor, preprocessor] = ["processor_config.json", "preprocessor_config.json"].map(
    (name) => `${folder}/${name}`,
  );
  const outer = await settings(host, processor, false);
  const inner = await settings(host, preprocessor, true);
  const [first, second] = [outer, inner].filter((found) => found !== undefined);
  if (first === undefined) return { normalize: true };
  if (second === undefined || first.normalize === second.normalize) return { normalize: first.normalize };
  return {
    normalize: first.normalize,
    note: `${processor} says do_normalize ${first.normalize}, ${preprocessor} says ${second.normalize}: the first counts, as in transformers`,
  };
}

/** The settings in a file; undefined where it is absent, or holds none and is not `whole` itself. */
async function settings(
  host: Host,
  path: string,
  whole: boolean,
): Promise<{ normalize: boolean } | undefined> {
  if ((await host.kind(path)) !== "file") return undefined;
  const json = await readJson(host, path);
  const key = ["feature_extractor", "audio_processor"].find((name) => isObject(json[name]));
  if (key === undefined && !whole) return undefined;
  const config = key === undefined ? new ConfigReader(json, path) : new ConfigReader(json, path).part(key);
  config.choice("feature_extractor_type", ["Wav2Vec2FeatureExtractor"], "Wav2Vec2FeatureExtractor");
  if (config.number("sampling_rate", SAMPLE_RATE) !== SAMPLE_RATE)
    throw config.complaint("sampling_rate", `${SAMPLE_RATE}`);
  if (config.number("feature_size", 1) !== 1) throw config.complaint("feature_size", "1");
  return { normalize: config.boolean("do_normalize", true) };
}
