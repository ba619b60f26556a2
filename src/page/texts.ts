/** The texts of PAGE_FILES. Empty in a checkout, where the files are read; tools/build.mjs puts them in. */
import type { PageFile } from "./files.ts";

export const PAGE_TEXTS: Readonly<Partial<Record<PageFile, string>>> = {};
