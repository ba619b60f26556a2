/** In a browser: what bundled_model.ts exports. */

/** None: a page has no folder beside it. */
export const bundled = (): undefined => undefined;

/** Throws an Error: a page names the address of a model. */
export function bundledModel(): string {
  throw new Error(
    "Cannot find the bundled model: a page has no folder beside its code, serve a copy of weights/default and name its address",
  );
}
