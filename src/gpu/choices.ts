/** What is chosen on one device in place of launch()'s defaults: what a tuning found, or a run was begun with. */
import { isTunable, shapeClass, sizesOf, type Tunable } from "./tunable.ts";

/** Sizes that a choice depends on, by name; a type, as f16, is one as well. */
export type LaunchSizes = Readonly<Record<string, number | boolean | string>>;

/** What launch() is to choose, as { splitK: 4 }: one of the candidates of its choice. */
export type LaunchValue = Readonly<Record<string, number | boolean>>;

/** A value for a class of shapes. */
export interface ChosenLaunch {
  /** A kernel, or an entry point of one. */
  readonly choice: Tunable;
  /** Sizes for which it was chosen: all of their class get it. */
  readonly sizes: LaunchSizes;
  /** What launch() chooses. */
  readonly value: LaunchValue;
}

/** Is told what launch() was asked: the sizes that the choice is made by. */
export type LaunchWatcher = (choice: Tunable, sizes: LaunchSizes) => void;

/** The choices of a device: none at first, which leaves all to the table's defaults. */
export class Choices {
  readonly #chosen = new Map<string, ChosenLaunch>();
  #trial: { readonly choice: Tunable; readonly value: LaunchValue } | undefined;
  /** Sees what is asked, while a tuner wants to know. */
  watcher: LaunchWatcher | undefined;

  /** What was chosen, one for each class. */
  get list(): readonly ChosenLaunch[] {
    return [...this.#chosen.values()];
  }

  /** Takes these and no others from now on. */
  use(list: readonly ChosenLaunch[]): void {
    this.#chosen.clear();
    for (const each of list) this.#chosen.set(shapeClass(each.choice, each.sizes), each);
  }

  /** Runs `body` with one value for all shapes. */
  trying<T>(choice: Tunable, value: LaunchValue, body: () => T): T {
    const around = this.#trial;
    this.#trial = { choice, value };
    try {
      return body();
    } finally {
      this.#trial = around;
    }
  }

  /** For launch(): undefined for the default. `asked` may name more than the choice is made by. */
  valueFor(choice: string, asked: unknown): LaunchValue | undefined {
    if (this.#chosen.size === 0 && !this.#trial && !this.watcher) return undefined;
    if (!isTunable(choice)) return undefined;
    const sizes = asked as LaunchSizes;
    this.watcher?.(choice, sizesOf(choice, sizes));
    if (this.#trial?.choice === choice) return this.#trial.value;
    return this.#chosen.get(shapeClass(choice, sizes))?.value;
  }
}
