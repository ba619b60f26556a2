/** The four emotions of the work on IEMOCAP, in the order of the outputs of the models that are trained here. */
export const LABELS = ["angry", "happy", "sad", "neutral"] as const;
export type Label = (typeof LABELS)[number];
