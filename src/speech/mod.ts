/**
 * Speech emotion recognition: words and emotions of recordings, and the training and evaluation of the systems that recognise
 * them.
 *
 * In three, of which a bundle takes those that it uses: of a module that names exports esbuild puts all that the program also loads
 * on demand, as the recogniser does the systems of LSTMs, into what it loads at once.
 */
export * from "./recognition.ts";
export * from "./systems.ts";
export * from "./experiments.ts";
