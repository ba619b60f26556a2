/** Models of the Hugging Face Hub, by name. */
export { resolveModel, pullModel, type PulledModel, type PullOptions, type PullProgress } from "./pull.ts";
export type { HubSettings } from "./settings.ts";
