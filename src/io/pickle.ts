/**
 * Reads Python pickles as data. Nothing is executed and nothing is looked up: a global is a name, a call is given to the caller,
 * who answers the few that he knows. Opcodes of protocols 2 to 5, as pickle writes them of dicts, lists and numbers; any other is
 * refused by its name.
 */
import { quote } from "./json.ts";

/** A name that Python would import. */
export class PickleGlobal {
  /** "torch._utils._rebuild_tensor_v2" */
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** A list. Tuples are arrays. */
export class PickleList {
  readonly items: PickleValue[] = [];
}

/** A dict, or an OrderedDict. */
export class PickleDict {
  #entries: Map<PickleValue, PickleValue> | undefined;

  /** In the order in which the keys were set. */
  get entries(): ReadonlyMap<PickleValue, PickleValue> {
    return this.#entries ?? new Map();
  }
  set(key: PickleValue, value: PickleValue): void {
    this.#entries ??= new Map();
    this.#entries.set(key, value);
  }
}

/** What the caller makes of a call or of a persistent id. */
export interface PickleObject {
  /** For messages: "a tensor". */
  readonly kind: string;
}

/** A value of a pickle; Python's bytes are Uint8Arrays, its ints beyond 2^53 bigints. */
export type PickleValue =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickleValue[]
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleObject;

/** What the caller knows. Each throws a SyntaxError for what it does not. */
export interface PickleRules {
  /** Throws unless the global may occur. */
  global(name: string): void;
  /** The result of a call. */
  call(name: string, args: readonly PickleValue[]): PickleValue;
  /** What a persistent id stands for. */
  persistent(id: PickleValue): PickleValue;
  /** Attributes that are set on an object; absent: none may be. */
  build?(target: PickleValue, state: PickleValue): void;
}

/** The bytes end before the pickle does. */
export class PickleEnd extends SyntaxError {}

/** Most opcodes and most objects of a pickle: one of 100,000 tensors has half as many. */
const MAX_OPCODES = 10_000_000;
const MAX_OBJECTS = 2_000_000;
const MAX_INT_BYTES = 32;

/** Names of opcodes that are refused. */
const REFUSED: Readonly<Record<number, string>> = {
  48: "POP",
  49: "POP_MARK",
  50: "DUP",
  70: "FLOAT",
  73: "INT",
  76: "LONG",
  80: "PERSID",
  83: "STRING",
  86: "UNICODE",
  99: "GLOBAL",
  103: "GET",
  105: "INST",
  111: "OBJ",
  112: "PUT",
  129: "NEWOBJ",
  130: "EXT1",
  131: "EXT2",
  132: "EXT4",
  143: "EMPTY_SET",
  144: "ADDITEMS",
  145: "FROZENSET",
  146: "NEWOBJ_EX",
  150: "BYTEARRAY8",
  151: "NEXT_BUFFER",
  152: "READONLY_BUFFER",
};

/** Reads one pickle from byte `start` on. Throws a SyntaxError without the file's name, a PickleEnd where the bytes end first. */
export function readPickle(
  bytes: Uint8Array,
  start: number,
  rules: PickleRules,
): { readonly value: PickleValue; readonly end: number } {
  return new Machine(bytes, start, rules).run();
}

/** What a value is, for messages: short, whatever it holds. */
export function describePickled(value: PickleValue): string {
  if (value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" || typeof value === "bigint") return `${value}`.slice(0, 24);
  if (typeof value === "string") return quote(value);
  if (value instanceof Uint8Array) return "bytes";
  if (isTuple(value)) return "a tuple";
  if (value instanceof PickleList) return "a list";
  if (value instanceof PickleDict) return "a dict";
  if (value instanceof PickleGlobal) return value.name;
  return value.kind;
}

/** Whether a value is a tuple. */
export const isTuple = (value: PickleValue): value is readonly PickleValue[] => Array.isArray(value);

const utf8 = new TextDecoder("utf-8", { fatal: true });
const latin1 = (bytes: Uint8Array) => {
  // Python 2 wrote its strings as bytes; keys are ASCII.
  let text = "";
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
};

/** Python's stack machine, without its calls. */
class Machine {
  /** What each opcode does. */
  static readonly #STEPS: Readonly<Partial<Record<number, (m: Machine) => void>>> = {
    40: (m) => void m.#marks.push(m.#stack.length), // MARK
    78: (m) => m.#push(undefined), // NONE
    136: (m) => m.#push(true), // NEWTRUE
    137: (m) => m.#push(false), // NEWFALSE
    75: (m) => m.#push(m.#byte()), // BININT1
    77: (m) => m.#push(m.#view.getUint16(m.#take(2), true)), // BININT2
    74: (m) => m.#push(m.#view.getInt32(m.#take(4), true)), // BININT
    138: (m) => m.#push(m.#long(m.#byte())), // LONG1
    139: (m) => m.#push(m.#long(m.#view.getInt32(m.#take(4), true))), // LONG4
    71: (m) => m.#push(m.#view.getFloat64(m.#take(8), false)), // BINFLOAT
    88: (m) => m.#push(m.#text(m.#length32())), // BINUNICODE
    140: (m) => m.#push(m.#text(m.#byte())), // SHORT_BINUNICODE
    141: (m) => m.#push(m.#text(m.#length64())), // BINUNICODE8
    84: (m) => m.#push(latin1(m.#slice(m.#length32()))), // BINSTRING
    85: (m) => m.#push(latin1(m.#slice(m.#byte()))), // SHORT_BINSTRING
    66: (m) => m.#make(m.#slice(m.#length32())), // BINBYTES
    67: (m) => m.#make(m.#slice(m.#byte())), // SHORT_BINBYTES
    142: (m) => m.#make(m.#slice(m.#length64())), // BINBYTES8
    93: (m) => m.#make(new PickleList()), // EMPTY_LIST
    108: (m) => m.#make(m.#extend(new PickleList(), m.#sinceMark())), // LIST
    97: (m) => m.#append(m.#popMany(1)), // APPEND
    101: (m) => m.#append(m.#sinceMark()), // APPENDS
    41: (m) => m.#push(EMPTY), // EMPTY_TUPLE
    133: (m) => m.#make(m.#popMany(1)), // TUPLE1
    134: (m) => m.#make(m.#popMany(2)), // TUPLE2
    135: (m) => m.#make(m.#popMany(3)), // TUPLE3
    116: (m) => m.#make(m.#sinceMark()), // TUPLE
    125: (m) => m.#make(new PickleDict()), // EMPTY_DICT
    100: (m) => m.#make(m.#fill(new PickleDict(), m.#sinceMark())), // DICT
    115: (m) => m.#setItems(m.#popMany(2)), // SETITEM
    117: (m) => m.#setItems(m.#sinceMark()), // SETITEMS
    99: (m) => m.#global(m.#line(), m.#line()), // GLOBAL
    147: (m) => m.#global(...m.#two()), // STACK_GLOBAL
    82: (m) => m.#reduce(...m.#two()), // REDUCE
    98: (m) => m.#build(m.#popMany(1)[0]), // BUILD
    81: (m) => m.#make(m.#rules.persistent(m.#popMany(1)[0])), // BINPERSID
    113: (m) => m.#put(m.#byte()), // BINPUT
    114: (m) => m.#put(m.#length32()), // LONG_BINPUT
    148: (m) => m.#put(m.#memo.size), // MEMOIZE
    104: (m) => m.#get(m.#byte()), // BINGET
    106: (m) => m.#get(m.#length32()), // LONG_BINGET
    149: (m) => void m.#take(8), // FRAME
  };
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #rules: PickleRules;
  readonly #stack: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #at: number;
  #objects = 0;

  constructor(bytes: Uint8Array, start: number, rules: PickleRules) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#rules = rules;
    this.#at = start;
  }

  run(): { value: PickleValue; end: number } {
    if (this.#byte() !== 0x80) this.#fail("it does not begin with a protocol from 2 on");
    const protocol = this.#byte();
    if (protocol < 2 || protocol > 5) this.#fail(`its protocol is ${protocol}, 2 to 5 expected`);
    for (let count = 0; ; count++) {
      if (count === MAX_OPCODES) this.#fail(`it has more than ${MAX_OPCODES} opcodes`);
      const opcode = this.#byte();
      if (opcode === 46) break;
      const step = Machine.#STEPS[opcode];
      if (!step) {
        const name = REFUSED[opcode] ?? `0x${opcode.toString(16).padStart(2, "0")}`;
        this.#fail(`its opcode ${name} at byte ${this.#at - 1} is none of a state dict's`);
      }
      step(this);
    }
    if (this.#stack.length !== 1 || this.#marks.length > 0)
      this.#fail(`it ends with ${this.#stack.length} values on its stack, 1 expected`);
    return { value: this.#stack[0], end: this.#at };
  }

  #fail(why: string): never {
    throw new SyntaxError(why);
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }
  /** Pushes something that takes memory of its own. */
  #make(value: PickleValue): void {
    if (++this.#objects > MAX_OBJECTS) this.#fail(`it makes more than ${MAX_OBJECTS} objects`);
    this.#stack.push(value);
  }

  #popMany(count: number): PickleValue[] {
    const from = this.#stack.length - count;
    if (from < (this.#marks.at(-1) ?? 0)) this.#fail(`its stack is empty at byte ${this.#at - 1}`);
    return this.#stack.splice(from);
  }
  #two(): [PickleValue, PickleValue] {
    const [first, second] = this.#popMany(2);
    return [first, second];
  }
  #sinceMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) return this.#fail(`it lacks a mark at byte ${this.#at - 1}`);
    return this.#stack.splice(mark);
  }
  /** The value on top, which must be of a kind. */
  #top<T>(kind: new () => T, what: string): T {
    const top = this.#stack[this.#stack.length - 1];
    if (this.#stack.length > (this.#marks.at(-1) ?? 0) && top instanceof kind) return top;
    return this.#fail(`it adds to ${describePickled(top)}, ${what} expected`);
  }

  #extend(list: PickleList, items: readonly PickleValue[]): PickleList {
    for (const item of items) list.items.push(item);
    return list;
  }
  #append(items: readonly PickleValue[]): void {
    this.#extend(this.#top(PickleList, "a list"), items);
  }

  #fill(dict: PickleDict, items: readonly PickleValue[]): PickleDict {
    if (items.length % 2 > 0) this.#fail("a dict has a key without a value");
    for (let i = 0; i < items.length; i += 2) {
      if (typeof items[i] === "object")
        this.#fail(`a dict has ${describePickled(items[i])} for a key, a string or a number expected`);
      dict.set(items[i], items[i + 1]);
    }
    return dict;
  }
  #setItems(items: readonly PickleValue[]): void {
    this.#fill(this.#top(PickleDict, "a dict"), items);
  }

  #global(module: PickleValue, name: PickleValue): void {
    if (typeof module !== "string" || typeof name !== "string")
      this.#fail(`a global is named by ${describePickled(module)} and ${describePickled(name)}`);
    const whole = `${module}.${name}`;
    this.#rules.global(whole);
    this.#make(new PickleGlobal(whole));
  }
  #reduce(callee: PickleValue, args: PickleValue): void {
    if (!(callee instanceof PickleGlobal) || !isTuple(args))
      this.#fail(`it calls ${describePickled(callee)} with ${describePickled(args)}`);
    this.#make(this.#rules.call(callee.name, args));
  }
  #build(state: PickleValue): void {
    if (this.#stack.length === 0) this.#fail("it builds nothing");
    const target = this.#stack[this.#stack.length - 1];
    if (!this.#rules.build) this.#fail(`it sets attributes of ${describePickled(target)}`);
    this.#rules.build(target, state);
  }

  #put(index: number): void {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail("it memoizes nothing");
    this.#memo.set(index, this.#stack[this.#stack.length - 1]);
  }
  #get(index: number): void {
    if (!this.#memo.has(index)) this.#fail(`its memo has no entry ${index}`);
    this.#push(this.#memo.get(index));
  }

  /** Where the next `count` bytes begin. */
  #take(count: number): number {
    const at = this.#at;
    if (count > this.#bytes.length - at)
      throw new PickleEnd(`it ends at byte ${this.#bytes.length}, in the middle`);
    this.#at = at + count;
    return at;
  }
  #byte(): number {
    return this.#bytes[this.#take(1)];
  }
  #length32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  #length64(): number {
    const length = this.#view.getBigUint64(this.#take(8), true);
    return length > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(length);
  }
  #slice(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
  #text(length: number): string {
    const bytes = this.#slice(length);
    try {
      return utf8.decode(bytes);
    } catch {
      return this.#fail("a string of it is not UTF-8");
    }
  }
  /** Up to the next line feed. */
  #line(): string {
    const end = this.#bytes.indexOf(10, this.#at);
    if (end < 0) {
      if (this.#bytes.length - this.#at > 1000) this.#fail("a name of it has no end");
      throw new PickleEnd(`it ends at byte ${this.#bytes.length}, in the middle`);
    }
    if (end - this.#at > 1000) this.#fail("a name of it has no end");
    const text = this.#text(end - this.#at);
    this.#take(1);
    return text;
  }
  /** Little-endian two's complement. */
  #long(length: number): number | bigint {
    if (length < 0 || length > MAX_INT_BYTES) this.#fail(`an integer of it has ${length} bytes`);
    const bytes = this.#slice(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    if (length > 0 && bytes[length - 1] > 127) value -= 1n << BigInt(8 * length);
    const small = Number(value);
    return Number.isSafeInteger(small) ? small : value;
  }
}

const EMPTY: readonly PickleValue[] = [];
