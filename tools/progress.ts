/** A progress bar on stderr, if that is a terminal: percentage, rate and time left. `from`: how much was done before. */
import process from "node:process";
import { formatSeconds } from "./format.ts";

export interface Progress {
  /** `done` of the total is finished. `note` stands at the end of the line: a loss, a name. */
  update(done: number, note?: string): void;
  /** Clears the bar. */
  stop(): void;
}

const QUIET_MS = 1000; // shorter work shows no bar
const REDRAW_MS = 100;

export function startProgress(
  label: string,
  total: number,
  { unit = "", from = 0, hidden = false, stream = process.stderr, now = () => performance.now() } = {},
): Progress {
  if (hidden || !stream.isTTY) return { update() {}, stop() {} };
  const begin = now();
  let drawn = 0;
  const draw = (text: string) => {
    try {
      stream.write(text);
    } catch {
      // The terminal is closed.
    }
  };
  return {
    update(done, note = "") {
      const time = now();
      if (time - begin < QUIET_MS || (time - drawn < REDRAW_MS && done < total)) return;
      drawn = time;
      const line = progressLine(label, done, total, (time - begin) / 1000, { unit, from, note });
      draw(`\r\x1b[K${line.slice(0, (stream.columns ?? 80) - 1)}`);
    },
    stop() {
      if (drawn) draw("\r\x1b[K");
      drawn = 0;
    },
  };
}

/** "train  [█████     ]  50 %  4.2 clips/s  0:30 left  loss 1.23" */
export function progressLine(
  label: string,
  done: number,
  total: number,
  seconds: number,
  { unit = "", from = 0, note = "" } = {},
) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  const cells = 20;
  const bar = "█".repeat(Math.floor(share * cells)).padEnd(cells);
  const rate = seconds > 0 ? (done - from) / seconds : 0;
  const left = rate > 0 ? `${formatSeconds(Math.max(0, total - done) / rate)} left` : "";
  const speed = unit ? `${Number(rate.toPrecision(3))} ${unit}/s` : "";
  const percent = `${Math.floor(share * 100)} %`.padStart(5);
  return [label, `[${bar}]`, percent, speed, left, note].filter(Boolean).join("  ");
}
