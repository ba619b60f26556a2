/**
 * Arithmetic in float64 as a workshop's JSON writes it: `ceil(N / 64)`, `x[n, c] * w[c]`, `sum(k < K, a[m, k] * b[k, n])`.
 * Parsed here and run as closures; nothing of it is ever given to JavaScript.
 *
 * Numbers, names, + - * / % ^, comparisons, && || !, `a ? b : c`; abs ceil floor round trunc sign min max sqrt exp log log2 pow
 * sin cos tanh sigmoid gelu; sums `sum(k < K, …)`, also prod, mean, min and max; elements `x[n, c]` of tensors.
 */
import { nearest } from "../io/nearest.ts";
import { activations, type Array64 } from "../records/float64.ts";
import { showShape } from "../tensor/shape.ts";

type Node =
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "call" | "index"; readonly name: string; readonly of: readonly Node[] }
  | { readonly kind: "operation"; readonly name: string; readonly of: readonly Node[] };

const FUNCTIONS: Readonly<Record<string, (...x: number[]) => number>> = {
  ...{ abs: Math.abs, ceil: Math.ceil, floor: Math.floor, round: Math.round, trunc: Math.trunc },
  ...{ sign: Math.sign, min: Math.min, max: Math.max, sqrt: Math.sqrt, exp: Math.exp, log: Math.log },
  ...{ log2: Math.log2, pow: Math.pow, sin: Math.sin, cos: Math.cos, tanh: Math.tanh },
  ...{ sigmoid: activations.sigmoid.f, gelu: activations.gelu.f },
};
/** How many operands those take that do not take one. */
const OPERANDS: Readonly<Record<string, number>> = { min: 2, max: 2, pow: 2 };

const OPERATIONS: Readonly<Record<string, (a: number, b: number) => number>> = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "%": (a, b) => a % b,
  "^": (a, b) => a ** b,
  "<": (a, b) => Number(a < b),
  "<=": (a, b) => Number(a <= b),
  ">": (a, b) => Number(a > b),
  ">=": (a, b) => Number(a >= b),
  "==": (a, b) => Number(a === b),
  "!=": (a, b) => Number(a !== b),
};

/** How a reduction begins, goes on and ends. */
const REDUCTIONS: Readonly<
  Record<
    string,
    { first: number; next: (a: number, b: number) => number; last?: (a: number, n: number) => number }
  >
> = {
  sum: { first: 0, next: OPERATIONS["+"] },
  mean: { first: 0, next: OPERATIONS["+"], last: (sum, n) => sum / n },
  prod: { first: 1, next: OPERATIONS["*"] },
  min: { first: Number.POSITIVE_INFINITY, next: Math.min },
  max: { first: Number.NEGATIVE_INFINITY, next: Math.max },
};

const LEVELS = [["||"], ["&&"], ["==", "!="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/", "%"]];
const TOKEN =
  /\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(&&|\|\||[<>=!]=|[-+*/%^<>!?:()[\],]))/y;

/** Most sums that are nested: as many places more than locals has a frame. */
const DEEPEST = 16;

/** A text that was parsed, and not yet given the meaning of its names. */
export class Expression {
  readonly text: string;
  readonly #root: Node;

  /** Throws a SyntaxError that says where the text is wrong. */
  constructor(text: string | number) {
    this.text = String(text);
    this.#root = new Reader(this.text).whole();
  }

  /** Its value where all its names are numbers. */
  value(numbers: Numbers): number {
    return this.#bind(numbers, new Map(), [])(new Float64Array(DEEPEST));
  }

  /** A function of the values of `locals`, in their order; names are looked for there, then in `numbers`. */
  bind(numbers: Numbers, tensors: Tensors, locals: readonly string[]): (...values: number[]) => number {
    const frame = new Float64Array(locals.length + DEEPEST);
    const run = this.#bind(numbers, tensors, locals);
    return (...values) => {
      for (let i = 0; i < values.length; i++) frame[i] = values[i];
      return run(frame);
    };
  }

  #bind(numbers: Numbers, tensors: Tensors, locals: readonly string[]): Run {
    return bind(this.#root, { text: this.text, numbers, tensors, locals });
  }
}

/** Values by name. */
export type Numbers = Readonly<Record<string, number>>;
export type Tensors = ReadonlyMap<string, Array64>;
/** What `y[n < N, c]` says: the tensor, and its indices with their ends where those are given. */
export interface Defined {
  readonly name: string;
  readonly indices: readonly { readonly name: string; readonly end?: Expression }[];
}

/** Reads the left side of a definition, as `y[n < N, c]`. */
export function parseDefined(text: string): Defined {
  const [, name, inside] = /^\s*([A-Za-z_]\w*)\s*\[([^\]]*)\]\s*$/.exec(text) ?? [];
  const indices = (inside ?? "").split(",").map((index) => {
    const [, local, end] = /^\s*([A-Za-z_]\w*)\s*(?:<(.+))?$/.exec(index) ?? [];
    return local === undefined
      ? undefined
      : { name: local, end: end === undefined ? undefined : new Expression(end) };
  });
  if (name === undefined || indices.includes(undefined))
    throw new SyntaxError(`"${text}" should be a tensor with its indices, as y[n < N, c < C]`);
  return { name, indices: indices as Defined["indices"] };
}

class Reader {
  readonly #text: string;
  readonly #tokens: { text: string; at: number; kind: "number" | "name" | "sign" }[] = [];
  #at = 0;

  constructor(text: string) {
    this.#text = text;
    TOKEN.lastIndex = 0;
    const end = text.trimEnd().length;
    for (let at = 0; at < end; at = TOKEN.lastIndex) {
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(text);
      if (!match) {
        const odd = text.slice(at).trimStart();
        throw this.#error(`"${odd[0]}" is not understood`, text.length - odd.length);
      }
      const [, number, name, sign] = match;
      const token = number ?? name ?? sign;
      const kind = number !== undefined ? "number" : name !== undefined ? "name" : "sign";
      this.#tokens.push({ text: token, at: TOKEN.lastIndex - token.length, kind });
    }
  }

  #error(what: string, at = this.#tokens[this.#at]?.at ?? this.#text.length): SyntaxError {
    return new SyntaxError(`"${this.#text}" is wrong at character ${at + 1}: ${what}`);
  }

  whole(): Node {
    const root = this.#choice();
    if (this.#at < this.#tokens.length) throw this.#error(`"${this.#tokens[this.#at].text}" is one too many`);
    return root;
  }

  #next(...signs: readonly string[]): string | undefined {
    const token = this.#tokens[this.#at];
    if (token?.kind !== "sign" || !signs.includes(token.text)) return undefined;
    this.#at++;
    return token.text;
  }

  #expect(sign: string): void {
    if (this.#next(sign) === undefined) throw this.#error(`${sign} expected`);
  }

  #choice(): Node {
    const condition = this.#binary(0);
    if (!this.#next("?")) return condition;
    const first = this.#choice();
    this.#expect(":");
    return { kind: "operation", name: "?", of: [condition, first, this.#choice()] };
  }

  #binary(level: number): Node {
    if (level === LEVELS.length) return this.#unary();
    let left = this.#binary(level + 1);
    for (let sign = this.#next(...LEVELS[level]); sign; sign = this.#next(...LEVELS[level]))
      left = { kind: "operation", name: sign, of: [left, this.#binary(level + 1)] };
    return left;
  }

  #unary(): Node {
    const sign = this.#next("-", "!", "+");
    if (sign === undefined) return this.#power();
    const of = this.#unary();
    if (sign === "+") return of;
    return { kind: "operation", name: sign === "-" ? "negate" : "!", of: [of] };
  }

  #power(): Node {
    const base = this.#primary();
    return this.#next("^") ? { kind: "operation", name: "^", of: [base, this.#unary()] } : base;
  }

  #primary(): Node {
    if (this.#next("(")) {
      const inside = this.#choice();
      this.#expect(")");
      return inside;
    }
    const token = this.#tokens[this.#at];
    if (token === undefined || token.kind === "sign") throw this.#error("a number or a name expected");
    this.#at++;
    if (token.kind === "number") return { kind: "number", value: Number(token.text) };
    if (this.#next("(")) return { kind: "call", name: token.text, of: this.#list(")") };
    if (this.#next("[")) return { kind: "index", name: token.text, of: this.#list("]") };
    return { kind: "name", name: token.text };
  }

  #list(end: string): Node[] {
    const found = [this.#choice()];
    while (this.#next(",")) found.push(this.#choice());
    this.#expect(end);
    return found;
  }
}

/** Of the values of the locals. */
type Run = (frame: Float64Array) => number;

interface Scope {
  readonly text: string;
  readonly numbers: Numbers;
  readonly tensors: Tensors;
  readonly locals: readonly string[];
}

function wrong({ text }: Scope, what: string): SyntaxError {
  return new SyntaxError(`"${text}": ${what}`);
}

/** A sentence about a name that stands for nothing. */
function unknown(scope: Scope, name: string, known: readonly string[]): SyntaxError {
  const near = nearest(name, known, Math.min(2, Math.max(1, name.length >> 1)));
  const names = known.length > 0 ? `there are ${known.join(", ")}` : "there are no names here";
  return wrong(scope, `${name} is not known; ${near === undefined ? names : `did you mean ${near}?`}`);
}

function bind(node: Node, scope: Scope): Run {
  switch (node.kind) {
    case "number": {
      const { value } = node;
      return () => value;
    }
    case "name": {
      const at = scope.locals.lastIndexOf(node.name);
      if (at >= 0) return (frame) => frame[at];
      if (Object.hasOwn(scope.numbers, node.name)) {
        const value = scope.numbers[node.name];
        return () => value;
      }
      if (scope.tensors.has(node.name))
        throw wrong(scope, `${node.name} is a tensor, its indices expected as ${node.name}[i, …]`);
      throw unknown(scope, node.name, [...scope.locals, ...Object.keys(scope.numbers)]);
    }
    case "index":
      return element(node.name, node.of, scope);
    case "call":
      return reduction(node.name, node.of, scope) ?? call(node.name, node.of, scope);
    default:
      return operation(node.name, node.of, scope);
  }
}

function operation(name: string, of: readonly Node[], scope: Scope): Run {
  const [a, b, c] = of.map((each) => bind(each, scope));
  if (name === "negate") return (frame) => -a(frame);
  if (name === "!") return (frame) => Number(a(frame) === 0);
  if (name === "?") return (frame) => (a(frame) !== 0 ? b(frame) : c(frame));
  if (name === "&&") return (frame) => Number(a(frame) !== 0 && b(frame) !== 0);
  if (name === "||") return (frame) => Number(a(frame) !== 0 || b(frame) !== 0);
  // Those of inner loops by themselves: a call less.
  if (name === "*") return (frame) => a(frame) * b(frame);
  if (name === "+") return (frame) => a(frame) + b(frame);
  const f = OPERATIONS[name];
  return (frame) => f(a(frame), b(frame));
}

function call(name: string, of: readonly Node[], scope: Scope): Run {
  if (!Object.hasOwn(FUNCTIONS, name)) {
    if (Object.hasOwn(REDUCTIONS, name))
      throw wrong(scope, `${name}() should be like ${name}(k < K, x[k]), with a name that is new`);
    throw unknown(scope, name, [...Object.keys(FUNCTIONS), ...Object.keys(REDUCTIONS)]);
  }
  const wanted = OPERANDS[name] ?? 1;
  if (of.length !== wanted) throw wrong(scope, `${name}() has ${of.length} operands, ${wanted} expected`);
  const f = FUNCTIONS[name];
  const [a, b] = of.map((each) => bind(each, scope));
  return b ? (frame) => f(a(frame), b(frame)) : (frame) => f(a(frame));
}

/** `sum(k < K, …)`: undefined where it is none, as in max(a, b). */
function reduction(name: string, of: readonly Node[], scope: Scope): Run | undefined {
  if (!Object.hasOwn(REDUCTIONS, name) || of.length !== 2) return undefined;
  const [range, body] = of;
  if (range.kind !== "operation" || range.name !== "<") return undefined;
  const [index, limit] = range.of;
  if (index.kind !== "name" || Object.hasOwn(scope.numbers, index.name)) return undefined;
  const slot = scope.locals.length;
  const end = bind(limit, scope);
  const inner = bind(body, { ...scope, locals: [...scope.locals, index.name] });
  const { first, next, last } = REDUCTIONS[name];
  return (frame) => {
    const count = end(frame);
    if (slot >= frame.length) throw wrong(scope, `more than ${DEEPEST} sums are nested`);
    let result = first;
    for (let k = 0; k < count; k++) {
      frame[slot] = k;
      result = next(result, inner(frame));
    }
    return last ? last(result, count) : result;
  };
}

function element(name: string, of: readonly Node[], scope: Scope): Run {
  const tensor = scope.tensors.get(name);
  if (!tensor) throw unknown(scope, name, [...scope.tensors.keys()]);
  const { shape, data } = tensor;
  if (of.length !== shape.length)
    throw wrong(scope, `${name} has ${shape.length} axes ${showShape(shape)}, and ${of.length} indices`);
  const indices = of.map((each) => bind(each, scope));
  return (frame) => {
    let at = 0;
    for (let axis = 0; axis < indices.length; axis++) {
      const index = indices[axis](frame);
      if (!(index >= 0 && index < shape[axis] && Number.isInteger(index)))
        throw wrong(
          scope,
          `${name}[${indices.map((i) => i(frame)).join(", ")}] is outside of ${name} ${showShape(shape)}`,
        );
      at = at * shape[axis] + index;
    }
    return data[at];
  };
}
