/** stdout and stderr of a verb, also where they are full, closed or no longer read. */
import { closeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { reasonOf } from "../src/host/files.ts";

type Failure = Error & { readonly code?: string };

/** Meaning of error codes of a stream. */
const REASONS: Readonly<Record<string, string>> = {
  EIO: "the terminal is closed",
  EBADF: "it is closed",
};

/** Streams that failed: writing to them is useless, and Deno never calls back for it. */
const lost = new Set<NodeJS.WriteStream>();
let failed = false;
let onLost: (error: Failure) => void = () => {};

/** Whether results were lost; not where the reader, as `head`, closed stdout itself. */
export const lostResults = (): boolean => failed;

/**
 * Where stdout fails, prints one line and exits with status 1, or with 0 where its reader, as `head`, has closed it. Does not
 * exit while `continues` returns true: the work then goes on without stdout.
 */
export function watchOutput(name: string, continues: () => boolean = () => false): void {
  onLost = (error) => {
    if (lost.has(process.stdout)) return;
    lost.add(process.stdout);
    failed = error.code !== "EPIPE";
    if (failed) {
      const reason = REASONS[error.code ?? ""] ?? reasonOf(error);
      writeError(`${name}: Cannot write to stdout: ${reason}\n`);
    }
    if (!continues()) process.exit(failed ? 1 : 0);
  };
  process.stdout.on("error", (error: Failure) => onLost(error));
  process.stderr.on("error", () => lost.add(process.stderr));
  if (!("Deno" in globalThis)) closeLostTerminals();
}

/** At exit Node resets the terminals that it started with, and crashes where one is gone: those are closed before. */
function closeLostTerminals(): void {
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  process.on("exit", () => {
    for (const fd of terminals.filter((each) => !isatty(each))) closeSync(fd);
  });
}

/** Text on one line without control characters, which file names may contain. */
export const onOneLine = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029]/gu, (sign) =>
    sign === "\n" ? "\\n" : sign === "\t" ? "\\t" : `\\x${sign.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );

/** The first line of a message; `names` in it may contain line breaks, which are escaped. */
export function firstLine(message: string, names: readonly string[]): string {
  const named = names
    .filter((name) => onOneLine(name) !== name)
    .reduce((text, name) => text.replaceAll(name, onOneLine(name)), message);
  return onOneLine(named.trim().split("\n")[0]);
}

/** Writes to stdout. Node reports a failure by an event, Deno throws. */
export function writeOutput(text: string): void {
  if (lost.has(process.stdout)) return;
  try {
    process.stdout.write(text);
  } catch (error) {
    onLost(error as Failure);
  }
}

/** Writes to stderr; a failure is ignored. */
export function writeError(text: string): void {
  if (lost.has(process.stderr)) return;
  try {
    process.stderr.write(text);
  } catch {
    lost.add(process.stderr);
  }
}

/** Waits until stdout and stderr are flushed. */
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
