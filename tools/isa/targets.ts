/** The GPUs that kernels are compiled for without one being here. */

/** A GPU, and which compiler knows it. */
export interface Target {
  readonly name: string;
  /** A product that has it. */
  readonly product: string;
  /** AMD's by Mesa's RADV, Intel's by Mesa's ANV on a simulated kernel driver, NVIDIA's by way of CUDA. */
  readonly by: "radv" | "anv" | "cuda";
  /** What its maker calls a group of threads that runs together, and the unit that holds several of them. */
  readonly waves?: Occupancy;
  /** PCI device, where the driver is to believe that it is there. */
  readonly device?: string;
}

/** What a streaming multiprocessor of NVIDIA holds at once. */
export interface Occupancy {
  readonly warps: number;
  readonly blocks: number;
  /** KiB. */
  readonly shared: number;
}

const radv = (name: string, product: string): Target => ({ name, product, by: "radv" });
const anv = (name: string, product: string): Target => ({ name, product, by: "anv" });
const cuda = (name: string, product: string, device: string, waves: Occupancy): Target => ({
  ...{ name, product, by: "cuda", device, waves },
});

export const TARGETS: readonly Target[] = [
  radv("navi21", "Radeon RX 6900, RDNA 2"),
  radv("navi31", "Radeon RX 7900, RDNA 3"),
  radv("gfx1201", "Radeon RX 9070, RDNA 4"),
  anv("tgl", "Iris Xe, Xe-LP"),
  anv("dg2", "Arc A770, Xe-HPG"),
  anv("lnl", "Arc 140V, Xe2"),
  anv("bmg", "Arc B580, Xe2"),
  cuda("sm_80", "A100, Ampere", "20b0", { warps: 64, blocks: 32, shared: 164 }),
  cuda("sm_86", "GeForce RTX 3090, Ampere", "2204", { warps: 48, blocks: 16, shared: 100 }),
  cuda("sm_89", "GeForce RTX 4090, Ada", "2684", { warps: 48, blocks: 24, shared: 100 }),
  cuda("sm_90", "H100, Hopper", "2330", { warps: 64, blocks: 32, shared: 228 }),
  cuda("sm_120", "GeForce RTX 5090, Blackwell", "2b85", { warps: 48, blocks: 24, shared: 100 }),
];

/** Those whose figures stand in docs/isa.md. */
export const LISTED: readonly string[] = ["navi31", "gfx1201", "bmg", "sm_90"];

/** The target of a name. Throws a RangeError that lists the names. */
export function targetOf(name: string): Target {
  const found = TARGETS.find((target) => target.name === name);
  if (found) return found;
  throw new RangeError(
    `Cannot compile for ${name}: targets are ${TARGETS.map((target) => target.name).join(", ")}`,
  );
}

/** The warps of NVIDIA that one of the four parts of a multiprocessor holds, of a kernel with these needs. */
export function warpsPerPart(
  { warps, blocks, shared }: Occupancy,
  needs: { readonly registers: number; readonly shared: number; readonly threads: number },
): number {
  const perBlock = Math.ceil(needs.threads / 32);
  // Registers are given to warps in steps of 256, workgroup memory to blocks with 1 KiB of the driver's.
  const byRegisters = 4 * Math.floor(65536 / 4 / (Math.ceil((needs.registers * 32) / 256) * 256));
  const byShared = Math.floor((shared * 1024) / (needs.shared + 1024));
  const held = Math.min(blocks, byShared, Math.floor(Math.min(warps, byRegisters) / perBlock));
  return (held * perBlock) / 4;
}
