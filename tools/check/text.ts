/** TypeScript and WGSL as text: what the rules of `npm run check` share. */

/** Paths from the root of the project, with slashes, and their text. */
export type Files = Map<string, string>;
export interface Fault {
  path: string;
  line: number;
  rule: string;
}

/** Comments become blanks, so that places stay where they are. Strings are left alone. */
export function blankComments(text: string): string {
  const token = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replace(token, (found) => (found.startsWith("/") ? found.replace(/[^\n]/g, " ") : found));
}

export function blankStrings(text: string): string {
  const token = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;
  return text.replace(token, (found) => found.replace(/[^\n]/g, " "));
}

export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}
