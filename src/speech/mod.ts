/**
 * Speech emotion recognition: words and emotions of recordings, and the training and evaluation of the systems that recognise
 * them.
 *
 * In four, for esbuild: of a module by which a page gets anything, it puts all that the page also loads on demand into what is
 * loaded at once, as the systems of LSTMs beside the recogniser that loads them.
 */
export * from "./recognition.ts";
export * from "./recordings.ts";
export * from "./systems.ts";
export * from "./experiments.ts";
