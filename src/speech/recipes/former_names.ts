/** Keys of a recipe that version 0.1 named otherwise: its runs are still read, and are still the same runs. */
import { isObject } from "../../io/config.ts";

/** Of a stage and of its `augment`, by the name that each has now. */
export const FORMER_NAMES: Readonly<Record<string, string>> = {
  learningRate: "rate",
  weightDecay: "decay",
  maxGradNorm: "clip",
  gradientCheckpointing: "recompute",
  pitchFormantShift: "throat",
};

const PRESENT_NAMES = Object.fromEntries(Object.entries(FORMER_NAMES).map(([now, then]) => [then, now]));

/** The recipe of a run's config.json with the names of today. */
export const presentNames = (config: unknown): unknown => inStages(config, PRESENT_NAMES);

/** The same as version 0.1 would have written it. */
export const formerNames = <T extends object>(config: T): T => inStages(config, FORMER_NAMES) as T;

function inStages(config: unknown, names: Readonly<Record<string, string>>): unknown {
  if (!isObject(config)) return config;
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key, /^stage\d$/.test(key) ? rename(value, names) : value]),
  );
}

function rename(value: unknown, names: Readonly<Record<string, string>>): unknown {
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      Object.hasOwn(names, key) ? names[key] : key,
      key === "augment" ? rename(inner, names) : inner,
    ]),
  );
}
