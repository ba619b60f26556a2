/** In a browser: what current.ts exports. */

import { browser } from "./browser.ts";
import type { Host } from "./host.ts";

/** The tab or worker that this runs in. */
export const currentHost = async (): Promise<Host> => browser;
