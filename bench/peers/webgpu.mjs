/** Gives a peer made for browsers navigator.gpu from npm webgpu (Dawn); import it before the peer. */
import { create, globals } from "webgpu";
import { quietPoll } from "./common.mjs";

quietPoll();
Object.assign(globalThis, globals);
const gpu = create([]);
if (!globalThis.navigator?.gpu) {
  const navigator = {
    userAgent: "node",
    platform: process.platform,
    language: "en",
    hardwareConcurrency: 2,
    gpu,
  };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true, writable: true });
}
const { vendor, architecture, description } = (await gpu.requestAdapter())?.info ?? {};

export const adapter = description || [vendor, architecture].filter(Boolean).join(" ") || "none";
