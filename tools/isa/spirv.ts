/** The little of SPIR-V that is read here. */

const EXECUTION_MODE = 16;
const EXECUTION_MODE_ID = 331;
const LOCAL_SIZE = 17;
const LOCAL_SIZE_ID = 38;
const CONSTANT = 43;

/** Threads of a workgroup of a compute shader. Throws where it says nothing of them. */
export function threadsOf(bytes: Uint8Array): number {
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  const constants = new Map<number, number>();
  let sizes: number[] | undefined;
  let ids: number[] | undefined;
  // Five words of header, then instructions, each with its length in the upper half of its first word.
  for (let i = 5; i < words.length; i += Math.max(1, words[i] >>> 16)) {
    const code = words[i] & 0xffff;
    if (code === CONSTANT) constants.set(words[i + 2], words[i + 3]);
    if (code === EXECUTION_MODE && words[i + 2] === LOCAL_SIZE) sizes = [...words.subarray(i + 3, i + 6)];
    if (code === EXECUTION_MODE_ID && words[i + 2] === LOCAL_SIZE_ID) ids = [...words.subarray(i + 3, i + 6)];
  }
  const found = sizes ?? ids?.map((id) => constants.get(id) ?? Number.NaN);
  if (!found) throw new Error("Cannot read SPIR-V: it has no workgroup size");
  return found.reduce((a, b) => a * b, 1);
}
