/**
 * A strict JSON parser (RFC 8259). Unlike JSON.parse() it says where the text is wrong, and refuses two equal keys in one
 * object, of which JSON.parse() drops the first. Time and memory are linear in the length of the text.
 */

/** Most levels of nesting: more than any file here has, and few enough for the stack. */
const MAX_DEPTH = 100;

/** Integers of so many digits are exact in float64. */
const EXACT_DIGITS = 15;

/** More values than any file here has, and few enough for the memory. */
const MAX_VALUES = 5_000_000;

/** Parses a text. Throws a SyntaxError such as `line 3, column 7: expected ':' but found '}'`. */
export function parseJson(text: string): unknown {
  const json = new JsonReader(text);
  const value = json.value(0, MAX_VALUES);
  json.end();
  if (value === undefined) throw new SyntaxError(`it holds more than ${MAX_VALUES} values`);
  return value;
}

/** Reads a JSON text value by value. Its methods throw as parseJson(). */
export class JsonReader {
  readonly #text: string;
  #at = 0;
  /** Number of values that may still be kept; those beyond are checked and dropped. */
  #left = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Reads the next value, at a depth of nesting; undefined where it holds more than `maxValues` values. */
  value(depth: number, maxValues: number): unknown {
    this.#left = maxValues;
    const value = this.#value(depth);
    return this.#left >= 0 ? value : undefined;
  }

  /** Reads an object key by key: `visit` reads the value of each, and returns false to stop. */
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

  /** Throws where anything but white space follows. */
  end(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail("the end");
  }

  /** The error for a key that an object has twice. */
  duplicateKey(key: string, position: number): SyntaxError {
    return this.#problem(`key ${quote(key)} stands twice in one object`, position);
  }

  #value(depth: number): unknown {
    this.#left--;
    if (depth > MAX_DEPTH) throw this.#problem(`more than ${MAX_DEPTH} levels`, this.#at);
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
      if (Object.hasOwn(object, key)) throw this.duplicateKey(key, position);
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
      const code = text.charCodeAt(at); // NaN past the end
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
    // Fast path: most numbers are short integers.
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

/** A name for a message: in quotes, on one line, at most 80 characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
}

/** A JSON value for a message: on one line, at most 80 characters. */
export function brief(value: unknown): string {
  // Only the beginning of a long string is shown, so only that is serialised. JSON has no infinity, which 1e400 becomes.
  const infinite = typeof value === "number" && !Number.isFinite(value);
  const shown = typeof value === "string" ? value.slice(0, 100) : value;
  const text = infinite ? `${value}` : (JSON.stringify(shown) ?? "absent");
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
