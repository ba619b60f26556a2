import {
  type Dialect,
  fmaShare,
  hottestLoop,
  type Instruction,
  type Mix,
  mixOf,
  readListing,
} from "./listing.ts";

/** What is counted in a disassembly. */
export interface Counts {
  /** Of the whole kernel. */
  readonly mix: Mix;
  /** Of the inner loop with the most multiply-adds; undefined where there is no loop. */
  readonly loop?: Mix;
  /** fmaShare() of the loop; of the whole kernel where there is none. */
  readonly fma: number;
  readonly code: readonly Instruction[];
}

/** Counts what is in a disassembly. */
export function counts(text: string, dialect: Dialect): Counts {
  const code = readListing(text, dialect);
  const hottest = hottestLoop(code);
  const mix = mixOf(code);
  const loop = hottest && mixOf(code, hottest);
  return { mix, loop, fma: fmaShare(loop ?? mix), code };
}
