/** Every operator against float64, forward and backward, at sizes that divide by nothing. */
import type { Device } from "../gpu/device.ts";
import type { OpInfo } from "./op_info.ts";
import { cannotRun, checkSample } from "./run.ts";

export interface SelfTest {
  readonly operator: string;
  /** Largest ‖GPU − float64‖ / ‖float64‖ of its result and its gradients. */
  readonly relL2: number;
  readonly pass: boolean;
}

/** Drivers round their own way: an operator may be as far off as this, whatever its record allows. */
const LIMIT = 1e-5;

/** Runs the first sample of each record. */
export async function selfTest(device: Device, records: readonly OpInfo[]): Promise<SelfTest[]> {
  const results: SelfTest[] = [];
  for (const { name, samples } of records) {
    const [sample] = samples;
    if (cannotRun(device, sample)) continue;
    const deviations = await checkSample(device, sample);
    const pass = deviations.every(({ relL2, tolerance }) => relL2 <= Math.max(LIMIT, tolerance));
    results.push({ operator: name, relL2: Math.max(...deviations.map(({ relL2 }) => relL2)), pass });
  }
  return results;
}
