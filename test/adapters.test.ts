/**
 * The operators again, in processes of their own, on what this machine offers besides its first adapter: lavapipe with
 * wider vectors, SwiftShader. What is not there is said in a line.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { testDevice } from "./device.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const underDeno = "Deno" in globalThis;
const ops = ["attention", "ctc", "layer_norm", "matmul"];

/** Runs the tests and the records of these ops under this runtime with `change` in the environment. */
async function runTests(
  names: readonly string[],
  change: Record<string, string>,
): Promise<{ status: number | null; output: string }> {
  const files = [...names, "records"].map((name) => `test/${name}.test.ts`);
  const args = underDeno
    ? ["test", "--allow-all", "--no-check", ...files]
    : ["--import", "tsx", "--test", "--test-concurrency=1", ...files];
  // With NODE_TEST_CONTEXT the child would think that it is one file of this run, and report to nobody.
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  const child = spawn(process.execPath, args, {
    cwd: root,
    timeout: 300_000,
    env: { ...environment, NO_COLOR: "1", WAVEGATE_OPERATORS: names.join(), ...change },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Uint8Array) => {
      output += chunk;
    });
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, output };
}

const passed = (output: string) =>
  Number(/(?:^# pass |\| |^ℹ pass )(\d+)(?: passed|$)/m.exec(output)?.[1] ?? 0);

test("operators agree with float64 on lavapipe with vectors of 1024 bits", async () => {
  const first = await testDevice();
  if (!/llvmpipe/i.test(first.info.name)) {
    console.log(
      `adapters: the first adapter is ${first.info.name}, not lavapipe: it has no vector width to set`,
    );
    return;
  }
  // wgpu offers no subgroups: the width reaches no kernel of products and attention there, and compiling their tiles so
  // wide takes minutes.
  const wide = underDeno ? ["ctc", "layer_norm"] : ops;
  if (underDeno)
    console.log("adapters: products and attention do not depend on the width through wgpu: Node tests them");
  // Mesa does not tell kernels of different widths apart where it keeps them.
  const { MESA_SHADER_CACHE_DIR } = process.env;
  const kept = MESA_SHADER_CACHE_DIR && join(MESA_SHADER_CACHE_DIR, "..", "1024");
  if (kept) mkdirSync(kept, { recursive: true });
  // The adapter's name carries the width, so asking for it proves that the setting arrived.
  const { status, output } = await runTests(wide, {
    LP_NATIVE_VECTOR_WIDTH: "1024",
    WAVEGATE_ADAPTER: "1024 bits",
    ...(kept ? { MESA_SHADER_CACHE_DIR: kept } : { MESA_SHADER_CACHE_DISABLE: "true" }),
  });
  assert.equal(status, 0, output);
  assert.ok(passed(output) > (underDeno ? 20 : 60), output);
});

test("operators agree with float64 on SwiftShader", async () => {
  const driver = ["/usr/lib/chromium", "/usr/lib64/chromium-browser", "/opt/google/chrome"]
    .map((folder) => `${folder}/vk_swiftshader_icd.json`)
    .find(existsSync);
  if (!driver) {
    console.log(
      "adapters: no SwiftShader here (Debian has it in chromium-common): lavapipe alone was tested",
    );
    return;
  }
  // What wgpu makes of the attention kernels keeps SwiftShader's compiler busy beyond all memory; what Dawn makes does not.
  const fit = underDeno ? ops.filter((name) => name !== "attention") : ops;
  if (underDeno)
    console.log("adapters: SwiftShader cannot compile attention through wgpu: Node alone tests that");
  const { status, output } = await runTests(fit, {
    ...{ VK_DRIVER_FILES: driver, VK_ICD_FILENAMES: driver },
    WAVEGATE_ADAPTER: "swiftshader",
  });
  assert.equal(status, 0, output);
  assert.ok(passed(output) > 60, output);
});
