/** The four classes of IEMOCAP, in the order of the outputs of models that are trained here. */
export const LABELS = ["angry", "happy", "sad", "neutral"] as const;
/** One of LABELS. */
export type Label = (typeof LABELS)[number];
