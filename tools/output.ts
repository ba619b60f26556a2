/** stdout and stderr of a verb, and what happens where they are full, closed or no longer read. */
import { closeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { reasonOf } from "../src/host/files.ts";

type Failure = Error & { readonly code?: string };

/** What they mean of a stream. */
const REASONS: Readonly<Record<string, string>> = {
  EIO: "the terminal is closed",
  EBADF: "it is closed",
};

/** Streams that took no more. Deno never calls back for what is written to them afterwards. */
const lost = new Set<NodeJS.WriteStream>();
let failed = false;
let onLost: (error: Failure) => void = () => {};

/** Whether results were lost, though somebody wants them. */
export const lostResults = (): boolean => failed;

/**
 * Says in one line where stdout takes no more, and ends with status 1; a reader such as `head` that has seen enough is no
 * failure. Work that is worth saving goes on without one, as long as `goesOn` says so.
 */
export function watchOutput(name: string, goesOn: () => boolean = () => false): void {
  onLost = (error) => {
    if (lost.has(process.stdout)) return;
    lost.add(process.stdout);
    failed = error.code !== "EPIPE";
    if (failed) {
      const reason = REASONS[error.code ?? ""] ?? reasonOf(error);
      writeError(`${name}: Cannot write to stdout: ${reason}\n`);
    }
    if (!goesOn()) process.exit(failed ? 1 : 0);
  };
  process.stdout.on("error", (error: Failure) => onLost(error));
  // Nobody is left to be told.
  process.stderr.on("error", () => lost.add(process.stderr));
  if (!("Deno" in globalThis)) leaveTerminals();
}

/** Node, as it ends, resets the terminals that it began with, and crashes where one is closed by then: these go before. */
function leaveTerminals(): void {
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  process.on("exit", () => {
    for (const fd of terminals.filter((each) => !isatty(each))) closeSync(fd);
  });
}

/** Text on one line, in which nothing moves a terminal's cursor: file names may hold any character. */
export const onOneLine = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029]/gu, (sign) =>
    sign === "\n" ? "\\n" : sign === "\t" ? "\\t" : `\\x${sign.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );

/** The first line of a message about what `names` name: these may themselves have several. */
export function firstLine(message: string, names: readonly string[]): string {
  const named = names
    .filter((name) => onOneLine(name) !== name)
    .reduce((text, name) => text.replaceAll(name, onOneLine(name)), message);
  return onOneLine(named.trim().split("\n")[0]);
}

/** Writes to stdout. Node tells of a failure by an event, Deno throws. */
export function writeOutput(text: string): void {
  if (lost.has(process.stdout)) return;
  try {
    process.stdout.write(text);
  } catch (error) {
    onLost(error as Failure);
  }
}

/** Writes to stderr; where it is gone, nobody is told. */
export function writeError(text: string): void {
  if (lost.has(process.stderr)) return;
  try {
    process.stderr.write(text);
  } catch {
    lost.add(process.stderr);
  }
}

/** Waits until everything written has left the process. */
export async function drain(): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) {
    if (lost.has(stream)) continue;
    await new Promise<void>((resolve) => {
      stream.once("error", () => resolve());
      try {
        stream.write("", () => resolve());
      } catch {
        resolve();
      }
    });
  }
}
