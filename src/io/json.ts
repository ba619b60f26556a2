/**
 * Strict JSON (RFC 8259) that says where it failed and refuses what JSON.parse lets pass: two equal keys in
 * one object, of which the first would vanish unseen.
 */

/** Deep enough for any file of ours, shallow enough for the stack. */
const DEEPEST = 100;

/** Throws a SyntaxError such as `line 3, column 7: expected ':' but found '}'`. */
export function parseJson(text: string): unknown {
  let at = 0;

  const fail = (expected: string, position = at): never => {
    const character = JSON.stringify(text[position] ?? "")
      .slice(1, -1)
      .replace('\\"', '"');
    const found = position < text.length ? `'${character}'` : "the end";
    throw problem(`expected ${expected} but found ${found}`, position);
  };
  const problem = (message: string, position: number) => {
    const before = text.slice(0, position).split("\n");
    return new SyntaxError(`line ${before.length}, column ${before.at(-1)!.length + 1}: ${message}`);
  };
  const skipSpace = () => {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  };
  const accept = (character: string) => {
    skipSpace();
    if (text[at] !== character) return false;
    at++;
    return true;
  };

  function string(): string {
    const start = at;
    for (at++; text[at] !== '"'; at++) {
      if (at >= text.length) fail("'\"'");
      if (text[at] === "\\") at++;
    }
    at++;
    try {
      return JSON.parse(text.slice(start, at));
    } catch {
      throw problem("the string holds a bad escape or a control character", start);
    }
  }

  function object(depth: number): Record<string, unknown> {
    const entries = new Map<string, unknown>();
    if (accept("}")) return {};
    do {
      skipSpace();
      const start = at;
      if (text[at] !== '"') fail("a key in quotes");
      const key = string();
      if (entries.has(key)) throw problem(`key ${quote(key)} stands twice in one object`, start);
      if (!accept(":")) fail("':'");
      entries.set(key, value(depth + 1));
    } while (accept(","));
    if (!accept("}")) fail("',' or '}'");
    return Object.fromEntries(entries);
  }

  function array(depth: number): unknown[] {
    const items: unknown[] = [];
    if (accept("]")) return items;
    do items.push(value(depth + 1));
    while (accept(","));
    if (!accept("]")) fail("',' or ']'");
    return items;
  }

  function value(depth: number): unknown {
    if (depth > DEEPEST) throw problem(`more than ${DEEPEST} levels`, at);
    if (accept("{")) return object(depth);
    if (accept("[")) return array(depth);
    if (text[at] === '"') return string();
    const word = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.+-])/y;
    word.lastIndex = at;
    const match = word.exec(text);
    if (!match) return fail("a value");
    at = word.lastIndex;
    return JSON.parse(match[0]);
  }

  const result = value(0);
  skipSpace();
  if (at < text.length) fail("the end");
  return result;
}

/** A name for a message: one line, in quotes, not too long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
}

/** A JSON value for a message: on one short line. */
export function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "absent";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
