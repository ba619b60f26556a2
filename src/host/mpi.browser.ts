/** In a browser: what mpi.ts exports. */

export class MpiMismatchError extends Error {}

/** Nothing starts a page as one of several. */
export const mpiLaunch = (): undefined => undefined;

/** Throws an Error: a page loads no C library. */
export function openMpi(): never {
  throw new Error("Cannot open MPI: a browser loads no C library, use Node or Deno");
}
