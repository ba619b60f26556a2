/** Whether processes have the same weights. */
import type { Host } from "../host/host.ts";
import type { Parameter } from "../nn/parameter.ts";

/** The SHA-256 of the values of f32 parameters, in their order, in hexadecimal. */
export async function digestOf(host: Host, parameters: readonly Parameter[]): Promise<string> {
  const digest = host.sha256();
  for (const { value } of parameters)
    if (value.dtype === "f32") digest.update(new Uint8Array((await value.read()).buffer));
  return digest.hex();
}
