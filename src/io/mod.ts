/**
 * Audio, safetensors, CTC decoding and tokenizers.
 *
 * In two, for esbuild, as speech/mod.ts: the second is of systems of LSTMs.
 */
export * from "./files.ts";
export * from "./algorithms.ts";
