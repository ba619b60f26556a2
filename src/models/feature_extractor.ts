/** Preprocessing of audio: the settings of Wav2Vec2FeatureExtractor. */
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { SAMPLE_RATE } from "../io/samples.ts";
import { readJson, readOptionalJson } from "../io/config.ts";
import { brief } from "../io/json.ts";
import { anyObject, object, parse } from "../io/schema.ts";

const schema = object({
  feature_extractor_type: v.nullish(v.picklist(["Wav2Vec2FeatureExtractor"])),
  sampling_rate: v.nullish(v.literal(SAMPLE_RATE)),
  feature_size: v.nullish(v.literal(1)),
  do_normalize: v.optional(v.nullable(v.boolean())),
});

/** Settings of the feature extractor. */
export interface FeatureExtractorConfig {
  /** Whether each utterance is brought to zero mean and unit variance. */
  readonly normalize: boolean;
  /** For the user: an irregularity of the files. */
  readonly note?: string;
}

/**
 * Reads the settings as transformers 5 does: those in `processor_config.json` before those in `preprocessor_config.json`, else
 * the defaults. Throws one line that names the file for settings that are not supported.
 */
export async function openFeatureExtractor(host: Host, folder: string): Promise<FeatureExtractorConfig> {
  const [processor, preprocessor] = ["processor_config.json", "preprocessor_config.json"].map(
    (name) => `${folder}/${name}`,
  );
  const outer = await settings(host, processor, false);
  const inner = await settings(host, preprocessor, true);
  const [first, second] = [outer, inner].filter((found) => found !== undefined);
  if (first === undefined) return await defaults(host, processor);
  if (second === undefined || first.normalize === second.normalize) return first;
  return {
    normalize: first.normalize,
    note: `${processor} says do_normalize ${first.normalize}, ${preprocessor} says ${second.normalize}: the first counts, as in transformers`,
  };
}

/** The settings of a folder in which no file has any. */
async function defaults(host: Host, processor: string): Promise<FeatureExtractorConfig> {
  const json = await readOptionalJson(host, processor);
  if (json.do_normalize === undefined) return { normalize: true };
  const ignored = `${processor} says do_normalize ${brief(json.do_normalize)} outside feature_extractor`;
  return { normalize: true, note: `${ignored}: it does not count, as in transformers` };
}

/** The keys that may hold the settings, the first before the second. */
const nested = object({ feature_extractor: v.nullish(anyObject), audio_processor: v.nullish(anyObject) });

/** The settings in a file; undefined where there are none. `whole`: without a nested object the file itself is one. */
async function settings(
  host: Host,
  path: string,
  whole: boolean,
): Promise<FeatureExtractorConfig | undefined> {
  if ((await host.kind(path)) !== "file") return undefined;
  const json = await readJson(host, path);
  const { feature_extractor: own, audio_processor: other } = parse(nested, json, path);
  if (!own && !other && !whole) return undefined;
  const source = own ? `${path} (feature_extractor)` : other ? `${path} (audio_processor)` : path;
  const { do_normalize: normalize = true } = parse(schema, own ?? other ?? json, source);
  if (normalize === null)
    return { normalize: false, note: `${path} says do_normalize null: read as false, as in transformers` };
  return { normalize };
}
