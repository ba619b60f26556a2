/**
 * Strict JSON (RFC 8259) that says where it failed and refuses what JSON.parse lets pass: two equal keys in
 * one object, of which the first would vanish unseen. One pass; time and memory grow with the text alone.
 */

/** Deep enough for any file of ours, shallow enough for the stack. */
const DEEPEST = 100;

/** An integer of so many digits is exact as a number. */
const EXACT_DIGITS = 15;

/** More than any file of ours holds, few enough for the memory. */
const MOST_VALUES = 5_000_000;

/** Throws a SyntaxError such as `line 3, column 7: expected ':' but found '}'`. */
export function parseJson(text: string): unknown {
  const json = new JsonReader(text);
  const value = json.value(0, MOST_VALUES);
  json.end();
  if (value === undefined) throw new SyntaxError(`it holds more than ${MOST_VALUES} values`);
  return value;
}

/** A place in a JSON text that moves on with every value read. Every method throws as parseJson() does. */
export class JsonReader {
  readonly #text: string;
  #at = 0;
  /** How many values may still be built; those beyond are checked and dropped. */
  #left = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** The next value. One that holds more than `most` values is not kept: undefined. */
  value(depth: number, most: number): unknown {
    this.#left = most;
    const value = this.#value(depth);
    return this.#left >= 0 ? value : undefined;
  }

  /** Walks over an object's keys; `visit` reads each value, and returns false to stop there. */
  members(visit: (key: string, position: number) => boolean): void {
    if (!this.#accept(OPEN_BRACE)) this.#fail("'{'");
    if (this.#accept(CLOSE_BRACE)) return;
    do {
      this.#skipSpace();
      const start = this.#at;
      if (this.#text.charCodeAt(start) !== QUOTE) this.#fail("a key in quotes");
      const key = this.#string();
      if (!this.#accept(COLON)) this.#fail("':'");
      if (visit(key, start) === false) return;
    } while (this.#accept(COMMA));
    if (!this.#accept(CLOSE_BRACE)) this.#fail("',' or '}'");
  }

  /** Nothing but space may follow. */
  end(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail("the end");
  }

  twice(key: string, position: number): SyntaxError {
    return this.#problem(`key ${quote(key)} stands twice in one object`, position);
  }

  #value(depth: number): unknown {
    this.#left--;
    if (depth > DEEPEST) throw this.#problem(`more than ${DEEPEST} levels`, this.#at);
    this.#skipSpace();
    const code = this.#text.charCodeAt(this.#at);
    if (code === OPEN_BRACE) return this.#object(depth);
    if (code === OPEN_BRACKET) return this.#array(depth);
    if (code === QUOTE) return this.#string();
    return this.#word();
  }

  #object(depth: number): Record<string, unknown> {
    const object: Record<string, unknown> = {};
    this.members((key, position) => {
      if (this.#left < 0) {
        this.#value(depth + 1);
        return true;
      }
      if (Object.hasOwn(object, key)) throw this.twice(key, position);
      const value = this.#value(depth + 1);
      if (key !== "__proto__") object[key] = value;
      else
        Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
      return true;
    });
    return object;
  }

  #array(depth: number): unknown[] {
    const items: unknown[] = [];
    this.#at++;
    if (this.#accept(CLOSE_BRACKET)) return items;
    do {
      const item = this.#value(depth + 1);
      if (this.#left >= 0) items.push(item);
    } while (this.#accept(COMMA));
    if (!this.#accept(CLOSE_BRACKET)) this.#fail("',' or ']'");
    return items;
  }

  #string(): string {
    const text = this.#text;
    const start = this.#at;
    let plain = true;
    let at = start + 1;
    for (; ; at++) {
      const code = text.charCodeAt(at); // NaN behind the end
      if (code === QUOTE) break;
      if (code === BACKSLASH) {
        plain = false;
        at++;
      } else if (!(code >= 32)) {
        if (at >= text.length) this.#fail("'\"'", text.length);
        plain = false;
      }
    }
    this.#at = at + 1;
    if (plain) return text.slice(start + 1, at);
    try {
      return JSON.parse(text.slice(start, at + 1));
    } catch {
      throw this.#problem("the string holds a bad escape or a control character", start);
    }
  }

  /** A number, true, false or null. */
  #word(): unknown {
    const text = this.#text;
    let at = this.#at;
    let number = 0;
    let code = text.charCodeAt(at);
    // Most numbers are short and whole: no need of a pattern for them.
    for (; code >= 48 && code <= 57 && at - this.#at < EXACT_DIGITS; code = text.charCodeAt(++at))
      number = number * 10 + code - 48;
    const leading = text.charCodeAt(this.#at) === 48 && at - this.#at > 1;
    if (at > this.#at && !leading && ENDS_NUMBER.has(code)) {
      this.#at = at;
      return number;
    }
    const word = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.+-])/y;
    word.lastIndex = this.#at;
    const match = word.exec(text);
    if (!match) return this.#fail("a value");
    this.#at = word.lastIndex;
    return JSON.parse(match[0]);
  }

  #skipSpace(): void {
    const text = this.#text;
    let at = this.#at;
    for (let code = text.charCodeAt(at); isSpace(code); code = text.charCodeAt(at)) at++;
    this.#at = at;
  }

  #accept(code: number): boolean {
    this.#skipSpace();
    if (this.#text.charCodeAt(this.#at) !== code) return false;
    this.#at++;
    return true;
  }

  #fail(expected: string, position = this.#at): never {
    const character = JSON.stringify(this.#text[position] ?? "")
      .slice(1, -1)
      .replace('\\"', '"');
    const found = position < this.#text.length ? `'${character}'` : "the end";
    throw this.#problem(`expected ${expected} but found ${found}`, position);
  }

  #problem(message: string, position: number): SyntaxError {
    let line = 1;
    let begin = 0;
    for (let at = 0; at < position; at++) {
      if (this.#text.charCodeAt(at) !== 10) continue;
      line++;
      begin = at + 1;
    }
    return new SyntaxError(`line ${line}, column ${position - begin + 1}: ${message}`);
  }
}

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const OPEN_BRACKET = 91;
const BACKSLASH = 92;
const CLOSE_BRACKET = 93;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
const isSpace = (code: number) => code === 32 || code === 10 || code === 13 || code === 9;
const ENDS_NUMBER = new Set([COMMA, CLOSE_BRACKET, CLOSE_BRACE, 32, 10, 13, 9]);

/** A name for a message: one line, in quotes, not too long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
}

/** A JSON value for a message: on one short line. */
export function brief(value: unknown): string {
  // Of a long string only the beginning is shown: the rest need not be written out first.
  // JSON has no word for what 1e400 becomes.
  const infinite = typeof value === "number" && !Number.isFinite(value);
  const shown = typeof value === "string" ? value.slice(0, 100) : value;
  const text = infinite ? `${value}` : (JSON.stringify(shown) ?? "absent");
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
