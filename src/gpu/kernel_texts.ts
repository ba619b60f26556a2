/**
 * Texts of the kernels by file name inside kernels/. Empty in a checkout, where the files are read, so that an edited
 * kernel needs no build; `npm run build` fills it in dist/, so that the package works from any folder and in a bundle.
 */
export const KERNEL_TEXTS: Readonly<Record<string, string>> = {};

/** The folder kernels/ of a checkout; undefined in dist/. */
export const KERNEL_FOLDER: URL | undefined = new URL("../../kernels/", import.meta.url);
