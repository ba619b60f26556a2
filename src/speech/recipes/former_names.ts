/** Keys of a recipe that had other names in version 0.1, whose runs are still read and resumed. */
import { isObject } from "../../io/config.ts";

/** Former names of keys of a stage and of its `augment`, by present name. */
export const FORMER_NAMES: Readonly<Record<string, string>> = {
  learningRate: "rate",
  weightDecay: "decay",
  maxGradNorm: "clip",
  gradientCheckpointing: "recompute",
  pitchFormantShift: "throat",
};

const PRESENT_NAMES = Object.fromEntries(Object.entries(FORMER_NAMES).map(([now, then]) => [then, now]));

/** A run's config with the present names. */
export const presentNames = (config: unknown): unknown => inStages(config, PRESENT_NAMES);

/** A config as version 0.1 would have written it. */
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
