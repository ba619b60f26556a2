/** Notices that npx, which started this command, has ended: a signal to npx does not reach the command. */
import process from "node:process";
import { processField } from "../src/host/process_stat.ts";

/** Milliseconds between checks. */
const INTERVAL = 500;

/**
 * Calls `ended` once the npm or npx that started this command has ended. Without them does nothing: where a shell ends, work
 * may have been meant to continue in the background.
 */
export function watchLauncher(ended: () => void): void {
  if (!/\bwavegate\b/.test(process.env.npm_lifecycle_script ?? "")) return;
  // npm starts a shell that starts the command. Where the system does not give the shell's parent, only the shell is watched.
  const chain = () => `${process.ppid} ${processField(process.ppid, 4)}`;
  const first = chain();
  const timer = setInterval(() => {
    if (chain() === first) return;
    clearInterval(timer);
    ended();
  }, INTERVAL);
  timer.unref();
}
