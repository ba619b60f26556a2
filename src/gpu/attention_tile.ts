/** Tiles of attention: what kernels/lib/attention_tiles.wgsl is generated for. */
import type { DeviceInfo } from "./adapter.ts";

/** How kernels/lib/attention_tiles.wgsl shares out its work. */
export interface AttentionTile {
  /** Most quads of an output row that a thread holds, of each of its 4 rows: 1 to 4. A wider head is cut into slices. */
  readonly quads: number;
  /** Quads of a row that are multiplied at once: 8 where they divide a head, or else 4. */
  readonly chunk: 4 | 8;
  /** Whether what comes next is on its way meanwhile: twice the registers. */
  readonly ahead: boolean;
  /** Whether the compiler is kept from unrolling. */
  readonly rolled: boolean;
  /** Lanes of a subgroup, where the kernel is to ask for so many. */
  readonly subgroup?: number;
}

/**
 * Tiles to choose among. The second leaves Intel, whose threads have 128 registers in subgroups of 16, without spills; CPU
 * adapters compile it in half the time.
 */
export const ATTENTION_TILES = [
  { quads: 4, chunk: 8, ahead: true, rolled: false },
  { quads: 2, chunk: 4, ahead: false, rolled: true },
] as const satisfies readonly AttentionTile[];

export function attentionTile({ cpu, vendor, subgroupSizes }: DeviceInfo): AttentionTile {
  const [large, small] = ATTENTION_TILES;
  if (cpu) return small;
  if (vendor !== "intel") return large;
  return subgroupSizes.includes(16) ? { ...small, subgroup: 16 } : small;
}

/** The values of the tiles' flags for heads of `quads` quads, and the workgroups that share a head. */
export function attentionSlices(
  { quads: most, chunk, ahead, rolled, subgroup }: AttentionTile,
  quads: number,
) {
  const eights = Math.ceil(quads / 8);
  const EACH = Math.ceil(eights / Math.ceil(eights / most));
  const CHUNK = quads % 8 === 0 ? chunk : 4;
  const LINES = EACH <= 2 ? 2 : 1;
  const subgroupSize = subgroup ? `@subgroup_size(${subgroup})` : "";
  const flags = { CHUNK, LOADS: CHUNK / 2, EACH, SUMS: 4 * EACH, LINES, ahead, rolled, subgroupSize };
  return { slices: Math.ceil(eights / EACH), flags };
}
