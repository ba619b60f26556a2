/** Jobs in processes of their own. */
import { spawn } from "node:child_process";
import process from "node:process";
import { type JobOptions, jobCommand } from "./command.ts";

/** Set in the processes of a queue: they stop where the queue, which holds their stdin, is gone. */
export const IN_QUEUE = "WAVEGATE_IN_QUEUE";

/** Does a job in a process of its own; why it failed, or undefined. Where `signal` is aborted, the process saves and stops. */
export function runChild(
  out: string,
  id: string,
  options: JobOptions,
  signal: AbortSignal,
): Promise<string | undefined> {
  const [program, ...args] = [...jobCommand(out, options), id];
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      stdio: ["pipe", "ignore", "pipe"],
      env: { ...process.env, [IN_QUEUE]: "1" },
    });
    const stop = () => void child.kill("SIGTERM");
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr = (stderr + chunk).slice(-4000);
    });
    child.stdin.on("error", () => {}); // it has ended
    const end = (failure: string | undefined) => {
      signal.removeEventListener("abort", stop);
      resolve(failure);
    };
    child.on("error", (error) => end(`its process cannot be started: ${error.message}`));
    child.on("close", (status, killed) => {
      if (status === 0) return end(undefined);
      const last = stderr
        .trim()
        .split("\n")
        .at(-1)
        ?.replace(/^wavegate crossvalidate: /, "");
      end(
        last || (killed ? `its process was killed by ${killed}` : `its process ended with status ${status}`),
      );
    });
  });
}
