/** Scripts as processes of their own. Node and Deno. */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { ScriptProcess } from "./host.ts";

/** Starts a script under the executable of this process; `flags` stand before its path. */
export function spawnScript(
  script: URL,
  flags: readonly string[],
  onOutput: (bytes: Uint8Array) => void,
): ScriptProcess {
  const child = spawn(process.execPath, [...flags, fileURLToPath(script)], { stdio: "pipe" });
  let stderr = "";
  child.stdout.on("data", onOutput);
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  // It no longer reads because it has ended.
  child.stdin.on("error", () => {});
  return {
    ended: new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (status) => resolve({ status, stderr }));
    }),
    write: (text) => void child.stdin.write(text),
    stop() {
      child.stdin.end();
      child.kill();
    },
  };
}
