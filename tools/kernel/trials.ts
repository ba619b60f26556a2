/** The other side of child.ts: gives it tasks, and ends it where one takes too long. */
import type { Host, ScriptProcess } from "../../src/host/host.ts";
import { ArgumentError } from "../../src/io/argument_error.ts";
import type { KernelReport } from "../../src/workshop/trial.ts";
import type { Answer, Task } from "./child.ts";

/** What a task may be told of. */
export interface Listener {
  /** What it does now. */
  phase(text: string): void;
  note(line: string): void;
}

/** A process that is kept from task to task: it starts with the first, and again after one that had to be ended. */
export class Trials {
  readonly #host: Host;
  readonly #milliseconds: number;
  #child: ScriptProcess | undefined;
  #onAnswer: (answer: Answer) => void = () => {};

  /** `seconds`: the longest that a task may do one thing. */
  constructor(host: Host, seconds: number) {
    this.#host = host;
    this.#milliseconds = 1000 * seconds;
  }

  async report(task: Task & { what: "trial" }, listener: Listener): Promise<KernelReport> {
    const answer = await this.#answer(task, listener);
    if (answer.kind === "report") return answer.report;
    throw new Error("Cannot try: the process gave another answer");
  }

  async texts(task: Task & { what: "wgsl" }, listener: Listener): Promise<readonly [string, string][]> {
    const answer = await this.#answer(task, listener);
    if (answer.kind === "wgsl") return answer.texts;
    throw new Error("Cannot expand: the process gave another answer");
  }

  /** Ends the process; a task that is running rejects. */
  stop(): void {
    this.#child?.stop();
    this.#child = undefined;
  }

  #answer(task: Task, listener: Listener): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let doing = "starting";
      let timer: ReturnType<typeof setTimeout> | undefined;
      const seconds = this.#milliseconds / 1000;
      const wait = () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          this.stop();
          const loop = /: running$/.test(doing) ? "an endless loop? " : "";
          reject(
            new Error(
              `Cannot finish ${doing}: it took more than ${seconds} s and was ended; ${loop}--timeout gives it longer`,
            ),
          );
        }, this.#milliseconds);
      };
      this.#onAnswer = (answer) => {
        if (answer.kind === "phase") {
          doing = answer.text;
          wait();
          listener.phase(answer.text);
        } else if (answer.kind === "note") listener.note(answer.text);
        else {
          clearTimeout(timer);
          if (answer.kind !== "error") resolve(answer);
          else reject(answer.usage ? new ArgumentError(answer.message) : new Error(answer.message));
        }
      };
      wait();
      const child = this.#child ?? this.#start();
      const over = ({ status, stderr }: { status: number | null; stderr: string }) => {
        clearTimeout(timer);
        if (this.#child === child) this.#child = undefined;
        const said = stderr.trim().split("\n").at(-1);
        const how = status === null ? "crashed or was ended" : `ended with status ${status}`;
        reject(new Error(`Cannot finish ${doing}: its process ${how}${said ? `: ${said}` : ""}`));
      };
      child.ended.then(over, reject);
      child.write(`${JSON.stringify(task)}\n`);
    });
  }

  #start(): ScriptProcess {
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const decoder = new TextDecoder();
    let rest = "";
    const child = this.#host.spawn(new URL(`./child.${extension}`, import.meta.url), (bytes) => {
      if (this.#child !== child) return; // of a process that was ended
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#onAnswer(JSON.parse(line) as Answer);
    });
    this.#child = child;
    return child;
  }
}
