/** What tests of misuse share: a device, a folder that goes with the process, a small model. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Linear, Weights } from "../src/mod.ts";
import { testDevice } from "./device.ts";

export const device = await testDevice();
export const folder = mkdtempSync(join(tmpdir(), "wavegate-misuse-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** Stands for what plain JavaScript passes. */
// biome-ignore lint/suspicious/noExplicitAny: the point of these tests
export type Anything = any;

/** One linear layer with its values. */
export async function linear(K: number, N: number, at = "layer") {
  const weights = new Weights(device, { seed: 1 });
  const layer = new Linear(weights.at(at), K, N);
  await weights.initialize();
  return { weights, layer, parameters: weights.parameters };
}
