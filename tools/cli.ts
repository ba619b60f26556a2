/**
 * What every verb shares: its command line, its two output streams and the way it ends.
 *
 * - stdout carries results: text, or with --json one JSON document and nothing else. A verb that fails before it has a
 *   result writes `{"error": …}` there.
 * - stderr carries the rest: notes, progress, and one line where something is wrong.
 * - Exit status: 0, 1 for bad input, a failed check or results that stdout did not take, 2 for wrong usage; where a signal
 *   stopped it 129 (SIGHUP), 130 (Ctrl-C) or 143 (SIGTERM).
 *
 * A verb is a file that exports one, and ends with `if (isMain(import.meta)) await runVerb(verb);`
 */
import { realpathSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { mpiLaunch } from "../src/host/mpi.ts";
import { ArgumentError } from "../src/io/argument_error.ts";
import { watchLauncher } from "./launcher.ts";
import { drain, firstLine, lostResults, watchOutput, writeError, writeOutput } from "./output.ts";
import { type Progress, startProgress } from "./progress.ts";

export interface Option {
  /** A count is a whole number of at least 1. */
  type: "boolean" | "string" | "number" | "count";
  help: string;
  /** Stands for the value in --help: DIR, N. */
  value?: string;
  short?: string;
  default?: string | number;
  choices?: readonly string[];
  /** May be given several times. */
  multiple?: boolean;
}
export type Options = Record<string, Option>;

type Single<O extends Option> = O["type"] extends "boolean"
  ? boolean
  : O["type"] extends "number" | "count"
    ? number
    : O extends { choices: readonly (infer C)[] }
      ? C
      : string;
type Value<O extends Option> = O extends { multiple: true }
  ? Single<O>[]
  : O extends { type: "boolean" } | { default: string | number }
    ? Single<O>
    : Single<O> | undefined;
export type Values<O extends Options> = { [K in keyof O]: Value<O[K]> };

export interface Context<O extends Options = Options> {
  values: Values<O>;
  /** The arguments that are not options. */
  operands: string[];
  json: boolean;
  /** A line of the result on stdout; silent with --json. */
  print(line?: string): void;
  /** The result of --json; silent without. */
  printJson(value: unknown): void;
  /** A line on stderr. */
  note(line: string): void;
  /** A bar on a terminal's stderr, if the work lasts over a second. `unit` as in "12.3 clips/s". */
  progress(label: string, total: number, options?: { unit?: string; from?: number }): Progress;
  /** Aborted by the first signal, where the verb is `interruptible`. */
  signal: AbortSignal;
}

export interface Verb<O extends Options = Options> {
  name: string;
  /** One line for the list of verbs. */
  summary: string;
  /** What follows the name: "FILE… [options]". */
  usage: string;
  example: string;
  /** --help and --json are added. */
  options: O;
  /** Fewest and most operands; none are allowed where this is missing. */
  operands?: { min?: number; max?: number };
  /** True: the first Ctrl-C, SIGTERM or SIGHUP only aborts `signal`, so that the verb can save; a second ends it. */
  interruptible?: boolean;
  /**
   * May return an exit status. One that `signal` stopped returns none, or throws the signal's reason. Whatever else it
   * throws becomes one line on stderr and status 1.
   */
  main(context: Context<O>): Promise<number | undefined>;
}

/** The command line is wrong: status 2. */
export class UsageError extends ArgumentError {}

/** A folder's path without the slashes at its end; "/" is one itself. */
export const withoutSlash = (path: string): string => path.replace(/(?<=[^/])\/+$/, "");

/** Types a verb's values by its options. */
export function defineVerb<const O extends Options>(verb: Verb<O>): Verb<O> {
  return verb;
}

/** Whether the module is the one that was started, under Node or Deno. */
export function isMain(meta: ImportMeta): boolean {
  if ("main" in meta && typeof meta.main === "boolean") return meta.main;
  const started = process.argv[1];
  return started !== undefined && realpathSync(started) === fileURLToPath(meta.url);
}

/** Runs a verb on `args` and ends the process. */
export async function runVerb<O extends Options>(
  verb: Verb<O>,
  args = process.argv.slice(2),
): Promise<never> {
  let working = false;
  watchOutput(`wavegate ${verb.name}`, () => working);
  const signal = verb.interruptible ? catchSignals(verb.name) : new AbortController().signal;
  if (!verb.interruptible) watchLauncher(() => process.exit(SIGNALS.SIGHUP));
  let failed = false;
  let jsonPending = args.includes("--json");
  const fail = (error: unknown) => {
    if (failed) process.exit(1); // reporting the first error failed
    failed = true;
    if (error instanceof Interruption) return exit(error.status);
    return exit(report(verb.name, error, args, jsonPending));
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  try {
    const parsed = parse(verb, args);
    if (parsed === "help") {
      writeOutput(help(verb));
      return await exit(0);
    }
    working = verb.interruptible === true;
    const onJson = () => {
      jsonPending = false;
    };
    const status = await verb.main(context(parsed, signal, onJson));
    return await exit(status ?? (signal.aborted ? (signal.reason as Interruption).status : 0));
  } catch (error) {
    return await fail(error);
  }
}

/** 128 and the signal's number, as a shell counts. */
const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };
/** Milliseconds in which a signal may arrive twice: npm and a closing shell forward what the terminal has sent already. */
const REPEAT_MS = 500;

/** The reason of an aborted `signal`. */
class Interruption extends Error {
  readonly status: number;

  constructor(status: number) {
    super("interrupted");
    this.status = status;
  }
}

/** Aborted by the first signal, which is reported; a second one ends the process. */
function catchSignals(name: string): AbortSignal {
  const controller = new AbortController();
  let since = 0;
  const stop = (status: number, why = "") => {
    since = performance.now();
    controller.abort(new Interruption(status));
    const launch = mpiLaunch();
    if (launch && launch.rank > 0) return; // rank 0 speaks for all
    const where = launch ? "the next safe place of all ranks" : "the next safe place";
    writeError(`${clearLine()}wavegate ${name}: ${why}stopping at ${where}; once more ends at once\n`);
  };
  for (const [signal, status] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      if (!controller.signal.aborted) stop(status);
      else if (performance.now() - since > REPEAT_MS) process.exit(status);
    });
  }
  watchLauncher(() => {
    if (!controller.signal.aborted) stop(SIGNALS.SIGHUP, "what started it has ended; ");
  });
  return controller.signal;
}

/** Clears the progress bar, if there is a terminal. */
const clearLine = () => (process.stderr.isTTY ? "\r\x1b[K" : "");

/**
 * Ends the process once everything written has left it; lost results are a failure. Dawn may keep a process alive, so exit
 * is explicit.
 */
export async function exit(status: number): Promise<never> {
  await drain();
  process.exit(status === 0 && lostResults() ? 1 : status);
}

/** Reads `args`; "help" where that is asked for. Throws UsageError. */
export function parse<O extends Options>(
  verb: Verb<O>,
  args: string[],
): "help" | { values: Values<O>; operands: string[]; json: boolean } {
  const raw = readArgs(verb, args);
  if (raw.values.help) return "help";
  const { min = 0, max = min } = verb.operands ?? {};
  const count = raw.positionals.length;
  if (count < min) throw new UsageError(`Cannot run without ${verb.usage.split(" ")[0]}`);
  if (count > max) throw new UsageError(`Cannot read "${raw.positionals[max]}": one argument too many`);
  const values = Object.fromEntries(
    Object.entries(verb.options).map(([name, option]) => [name, convert(name, option, raw.values[name])]),
  );
  return { values: values as Values<O>, operands: raw.positionals, json: raw.values.json === true };
}

function readArgs<O extends Options>(verb: Verb<O>, args: string[]) {
  const options: Record<string, { type: "boolean" | "string"; short?: string; multiple?: boolean }> = {
    help: { type: "boolean", short: "h" },
    json: { type: "boolean" },
  };
  for (const [name, { type, short, multiple = false }] of Object.entries(verb.options))
    options[name] = { type: type === "boolean" ? type : "string", multiple, ...(short ? { short } : {}) };
  try {
    const { values, positionals, tokens } = parseArgs({
      args,
      options,
      allowPositionals: true,
      tokens: true,
    });
    const names = tokens.flatMap((token) => (token.kind === "option" ? [token.name] : []));
    const twice = names.find((name, i) => !options[name].multiple && names.indexOf(name) < i);
    if (twice !== undefined) throw new Error(`Cannot read --${twice} twice: give it once`);
    return { values: values as Record<string, unknown>, positionals };
  } catch (error) {
    // Only the first sentence of parseArgs() is about the error; the others explain how to quote.
    throw new UsageError((error as Error).message.split(/\. |\n/)[0]);
  }
}

function convert(name: string, option: Option, given: unknown): unknown {
  if (option.multiple)
    return ((given as string[] | undefined) ?? []).map((each) => single(name, option, each));
  if (given === undefined) return option.type === "boolean" ? false : option.default;
  return option.type === "boolean" ? given : single(name, option, given as string);
}

function single(name: string, { type, choices }: Option, text: string): string | number {
  if (choices && !choices.includes(text))
    throw new UsageError(`Cannot read --${name} ${text}: it is one of ${choices.join(", ")}`);
  if (text.trim() === "") throw new UsageError(`Cannot read --${name}: it is empty`);
  if (type !== "number" && type !== "count") return text;
  const value = Number(text);
  if (!Number.isFinite(value)) throw new UsageError(`Cannot read --${name} ${text}: it is a number`);
  if (type === "count" && !(Number.isInteger(value) && value >= 1))
    throw new UsageError(`Cannot read --${name} ${text}: it is a whole number of at least 1`);
  return value;
}

function context<O extends Options>(
  { values, operands, json }: { values: Values<O>; operands: string[]; json: boolean },
  signal: AbortSignal,
  onJson: () => void,
): Context<O> {
  return {
    values,
    operands,
    json,
    signal,
    print: (line = "") => void (json || writeOutput(`${line}\n`)),
    printJson(value) {
      if (json) writeOutput(`${JSON.stringify(value)}\n`);
      onJson();
    },
    note: (line) => writeError(`${line}\n`),
    progress: (label, total, options) => startProgress(label, total, { ...options, hidden: json }),
  };
}

function help<O extends Options>({ name, summary, usage, example, options }: Verb<O>): string {
  const all: Options = {
    ...options,
    json: { type: "boolean", help: "results as JSON on stdout" },
    help: { type: "boolean", short: "h", help: "this text" },
  };
  const rows = Object.entries(all).map(([key, option]) => {
    const choices = option.choices?.join("|");
    // A long list of choices would push every line to the right: it follows the help.
    const listed = choices !== undefined && choices.length > 24;
    const value =
      option.type === "boolean" ? "" : ` ${(listed ? undefined : choices) ?? option.value ?? "VALUE"}`;
    const preset = option.default === undefined ? "" : ` (${option.default})`;
    const rest = listed ? `\n${" ".repeat(8)}${option.choices?.join(", ")}` : "";
    return [
      `  ${option.short ? `-${option.short}, ` : ""}--${key}${value}`,
      `${option.help}${preset}${rest}`,
    ];
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  const lines = rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`);
  return `${summary}\n\nUsage: wavegate ${name} ${usage}\n\n${lines.join("\n")}\n\nExample:\n  ${example}\n`;
}

/** Writes the one line about `error`, whose causes may be among `args`, and returns the exit status. */
function report(name: string, error: unknown, args: readonly string[], asJson: boolean): number {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const first = firstLine(message, args) || "failed without a message";
  const debug = process.env.WAVEGATE_DEBUG === "1";
  const cut = !debug && message.trim().split("\n").length > first.split("\\n").length;
  writeError(`${clearLine()}wavegate ${name}: ${first}${cut ? " (WAVEGATE_DEBUG=1 shows the rest)" : ""}\n`);
  if (debug) writeError(`${stack}\n`);
  if (asJson) writeOutput(`${JSON.stringify({ error: first })}\n`);
  return error instanceof ArgumentError ? 2 : 1;
}
