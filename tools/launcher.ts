/** npx dies alone where it is sent a signal: what it started would go on to its end, unseen. */
import { readFileSync } from "node:fs";
import process from "node:process";

/** Milliseconds between two looks. */
const EVERY = 500;

/**
 * Calls `ended` once npm or npx, where that started this command, is no more. A shell that ends is no reason to stop:
 * work may have been left to go on in the background.
 */
export function watchLauncher(ended: () => void): void {
  if (!/\bwavegate\b/.test(process.env.npm_lifecycle_script ?? "")) return;
  const chain = () => `${process.ppid} ${parentOf(process.ppid)}`;
  const first = chain();
  const timer = setInterval(() => {
    if (chain() === first) return;
    clearInterval(timer);
    ended();
  }, EVERY);
  timer.unref();
}

/** npm starts a shell, and that the command; where the system does not tell, the shell must do. */
function parentOf(pid: number): number | undefined {
  try {
    // "PID (NAME) STATE PPID …", and a name may hold blanks and brackets.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return undefined;
  }
}
