/** npx dies alone where it is sent a signal: what it started would go on to its end, unseen. */
import process from "node:process";
import { processField } from "../src/host/process_stat.ts";

/** Milliseconds between two looks. */
const EVERY = 500;

/**
 * Calls `ended` once npm or npx, where that started this command, is no more. A shell that ends is no reason to stop:
 * work may have been left to go on in the background.
 */
export function watchLauncher(ended: () => void): void {
  if (!/\bwavegate\b/.test(process.env.npm_lifecycle_script ?? "")) return;
  // npm starts a shell, and that the command; where the system does not tell, the shell must do.
  const chain = () => `${process.ppid} ${processField(process.ppid, 4)}`;
  const first = chain();
  const timer = setInterval(() => {
    if (chain() === first) return;
    clearInterval(timer);
    ended();
  }, EVERY);
  timer.unref();
}
