/** What is said about settings that are allowed and change nothing. */
import type { TrainConfig } from "../recipes/config.ts";
import { hasPart } from "../recipes/systems.ts";

/** A line for each of `settings`, "key=value", that the stages of `config` do not use, or that a later one overrules. */
export function settingNotes(config: TrainConfig, settings: readonly string[]): string[] {
  const keys = settings.map((setting) => setting.slice(0, setting.indexOf("=")));
  return settings.flatMap((setting, i) => {
    const key = keys[i];
    const later = keys.findIndex((each, j) => j > i && (each === key || key.startsWith(`${each}.`)));
    if (later > 0) return [`--set ${setting} is overruled by --set ${settings[later]}, which comes later`];
    const why = unused(config, key);
    return why === undefined ? [] : [`--set ${setting} changes nothing: ${why}`];
  });
}

/** Why a key, or a folder that is given for a part, is of no use to the stages; undefined where it is. */
export function unused({ stages, system }: TrainConfig, key: string): string | undefined {
  const [top, part] = key.split(".");
  const trained = stages.length === 1 ? `only stage ${stages[0]} is` : `stages ${stages.join(" and ")} are`;
  const has = (part: Parameters<typeof hasPart>[1]) => hasPart(system, part, stages);
  const speech = has("hubert");
  const needed =
    {
      ...{ stage0: stages.includes(0), stage1: stages.includes(1), stage2: stages.includes(2) },
      ...{ sentences: stages.includes(0), maxSeconds: speech, dev: speech },
    }[top] ?? (top === "model" ? { hubert: speech, bert: has("bert"), cmgi: has("cmgi") }[part] : true);
  return needed === false ? `${trained} trained` : undefined;
}
