/**
 * Gives a peer made for browsers navigator.gpu from npm webgpu (Dawn), on the adapter whose name contains WAVEGATE_ADAPTER where
 * that is set; import it before the peer.
 */
import { create, globals } from "webgpu";
import { quietPoll } from "./common.mjs";

quietPoll();
Object.assign(globalThis, globals);
const gpu = await chosen(process.env.WAVEGATE_ADAPTER);

/** Dawn looks for a part of the name in the same case alone; where it finds none, its error lists all names. */
async function chosen(name) {
  if (!name) return create([]);
  const found = create([`adapter=${name}`]);
  try {
    await found.requestAdapter();
    return found;
  } catch (error) {
    const names = [...String(error).matchAll(/name: '(.*)'/g)].map((match) => match[1]);
    const whole = names.find((each) => each.toLowerCase().includes(name.toLowerCase()));
    if (whole) return create([`adapter=${whole}`]);
    throw new Error(`Cannot find adapter '${name}': available are ${names.join(", ") || "none"}`);
  }
}

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
