/** What an adapter reaches at most: the ceilings that a kernel's speed is held against. */
import type { Device } from "../gpu/device.ts";
import type { Host } from "../host/host.ts";

/** Ceilings of one adapter, as they were measured. */
export interface Peaks {
  readonly adapter: string;
  readonly driver: string;
  /** When, as an ISO date. */
  readonly measured: string;
  /** f32 FLOP/s; a fused multiply-add is two. */
  readonly f32: number;
  /** f16 FLOP/s. */
  readonly f16?: number;
  /** FLOP/s of subgroup matrices. */
  readonly matrix?: number;
  /** Bytes/s of a copy, read and written. */
  readonly copy: number;
  /** Bytes/s of workgroup memory. */
  readonly workgroup?: number;
  /** Seconds a dispatch. */
  readonly dispatch: number;
  /** Bytes/s to the GPU. */
  readonly upload: number;
  /** Bytes/s from it. */
  readonly readback: number;
}

/** The peaks that were measured on this adapter and driver; undefined where none were. */
export async function readPeaks(
  _host: Host,
  _device: Device,
  _note: (line: string) => void,
): Promise<Peaks | undefined> {
  return undefined;
}
