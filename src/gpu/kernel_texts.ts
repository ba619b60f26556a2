/**
 * Texts of kernels, and of what they include, by file name inside kernels/. Empty in a checkout, where openDevice() reads the files,
 * so that an edited kernel needs no build. `npm run build` fills it in dist/, so that the package works from any folder and in a
 * bundle: for Node with all of them, for a browser with those that users may include, to which each twin adds its kernel. A
 * page so loads the kernels whose operators it uses.
 */
export const KERNEL_TEXTS: Map<string, string> = new Map();

/** The folder kernels/ of a checkout; undefined in dist/. */
export const KERNEL_FOLDER: URL | undefined = new URL("../../kernels/", import.meta.url);
