/** Runs a verb in this process. */
import { type Options, parse, type Verb } from "../tools/cli.ts";

export interface Said {
  /** What main() returned; undefined where it, or parse(), threw. */
  readonly status?: number;
  readonly error?: Error;
  /** Lines of stdout and of stderr. */
  readonly printed: readonly string[];
  readonly notes: readonly string[];
  /** What --json would print. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever the verb's result is.
  readonly json?: any;
}

export async function runHere<O extends Options>(verb: Verb<O>, ...args: string[]): Promise<Said> {
  const printed: string[] = [];
  const notes: string[] = [];
  let json: unknown;
  let parsed: ReturnType<typeof parse<O>>;
  try {
    parsed = parse(verb, args);
  } catch (error) {
    return { error: error as Error, printed, notes };
  }
  if (parsed === "help") throw new Error("asked for help");
  const context = {
    ...parsed,
    print: (line = "") => void printed.push(...line.split("\n")),
    printJson: (value: unknown) => {
      json = JSON.parse(JSON.stringify(value));
    },
    note: (line: string) => void notes.push(line),
    progress: () => ({ update() {}, stop() {} }),
    signal: new AbortController().signal,
  };
  try {
    return { status: await verb.main(context), printed, notes, json };
  } catch (error) {
    return { error: error as Error, printed, notes, json };
  }
}
