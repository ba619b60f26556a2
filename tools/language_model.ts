/** The option of a language model. */

export const languageModelOption = {
  lm: {
    type: "string",
    value: "PATH",
    help: "language model that decoding weighs in: an ARPA file, a folder with one, or none (that of the model folder)",
  },
} as const;

/** Where --lm says that the language model is; undefined for none. */
export const languageModelPath = (lm: string): string | undefined => (lm === "none" ? undefined : lm);
