/** What client.js gives to the scripts of pages, as globalThis.wavegatePage. */
import type { Axis } from "uplot";

/** Tools of a page. */
export interface PageTools {
  /** The element of a selector. Throws where there is none. */
  find<T extends Element>(selector: string): T;
  /** Three digits. */
  digits(x: number): string;
  /** A custom property of the page's style. */
  css(name: string): string;
  /** Shows a title and rows of names and values beside the pointer. */
  say(at: { clientX: number; clientY: number }, title: string, rows: [string, string][]): void;
  /** Hides that. */
  hush(): void;
  /** An axis of a plot in the colours of the page. */
  axis(): Axis;
  /** Calls `draw` again where the width or the colours of the page change. */
  onChange(draw: () => void): void;
  /** The page's data. */
  // biome-ignore lint/suspicious/noExplicitAny: JSON, whose type each page knows
  readonly data: any;
}
