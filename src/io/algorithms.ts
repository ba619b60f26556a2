/** Mel filterbanks, and searches of sequences. */
export { checkMel, type MelConfig, melFilterbank, melFrames } from "./mel.ts";
export {
  beamSearch,
  type BeamSearchOptions,
  greedySearch,
  type SearchOptions,
  type Sequence,
  type Step,
  type StepResult,
} from "./sequence_search.ts";
