/**
 * Disassemblies as lists of instructions, and what can be counted in them: loops, and kinds of instructions. AMD's comes from
 * Mesa's ACO, Intel's from Mesa's ANV, NVIDIA's (SASS) from cuobjdump.
 */

/** What an instruction does. */
export type Kind =
  /** Fused multiply-add. */
  | "fma"
  /** A product of small matrices: WMMA, DPAS, HMMA. */
  | "matrix"
  /** Other arithmetic of floats: sums, products, exponentials, comparisons. */
  | "float"
  /** Whole numbers, addresses, bits, moves, selections, conversions, scalars. */
  | "integer"
  | "load"
  | "store"
  /** Of workgroup memory: LDS, SLM, shared. */
  | "sharedLoad"
  | "sharedStore"
  /** Of what is the same for all threads: dims and descriptors. */
  | "constantLoad"
  /** Registers to memory and back. */
  | "spill"
  | "barrier"
  /** For results, and hints to the scheduler. */
  | "wait"
  | "branch";

/** Numbers of instructions by kind; those that are 0 are left out. */
export type Mix = { readonly [K in Kind]?: number };

/** One instruction. */
export interface Instruction {
  readonly text: string;
  readonly kind: Kind;
  /** Index of the instruction that a branch goes to. */
  readonly target?: number;
}

/** A stretch of instructions that runs again and again, from `first` to the branch back at `last`. */
export interface Loop {
  readonly first: number;
  readonly last: number;
}

/** Whose disassembly it is. */
export type Dialect = "aco" | "gen" | "sass";

/** An instruction as it is read: a label before it, or the label or address that it goes to. */
interface Line {
  readonly text: string;
  readonly kind: Kind;
  readonly at?: string;
  readonly to?: string;
}

/** Reads a disassembly. */
export function readListing(text: string, dialect: Dialect): Instruction[] {
  const lines = { aco: readAco, gen: readGen, sass: readSass }[dialect](text);
  const places = new Map<string, number>();
  for (const [i, { at }] of lines.entries())
    for (const label of at?.split(" ") ?? []) if (label !== "") places.set(label, i);
  return lines.map(({ text, kind, to }) => {
    const target = to === undefined ? undefined : places.get(to);
    return target === undefined ? { text, kind } : { text, kind, target };
  });
}

/** The loops that hold no other, in their order. */
export function innerLoops(code: readonly Instruction[]): Loop[] {
  const ends = new Map<number, number>(); // several branches may go back to one place
  for (const [i, { target }] of code.entries())
    if (target !== undefined && target <= i) ends.set(target, Math.max(i, ends.get(target) ?? 0));
  const all = [...ends].map(([first, last]) => ({ first, last }));
  const holds = (a: Loop, b: Loop) => a !== b && a.first <= b.first && b.last <= a.last;
  return all.filter((a) => !all.some((b) => holds(a, b))).sort((a, b) => a.first - b.first);
}

/** What is in a stretch of code, all of it by default. */
export function mixOf(
  code: readonly Instruction[],
  { first, last } = { first: 0, last: code.length - 1 },
): Mix {
  const mix: { [K in Kind]?: number } = {};
  for (const { kind } of code.slice(first, last + 1)) mix[kind] = (mix[kind] ?? 0) + 1;
  return mix;
}

/** Number of instructions in a mix. */
export const totalOf = (mix: Mix): number => Object.values(mix).reduce((sum, n) => sum + n, 0);

/** The share of multiply-adds, of matrices where there are any, from 0 to 1. */
export const fmaShare = (mix: Mix): number =>
  ((mix.fma ?? 0) + (mix.matrix ?? 0)) / Math.max(1, totalOf(mix));

/** The inner loop with the most multiply-adds, of several the one that is longest; undefined where there is no loop. */
export function hottestLoop(code: readonly Instruction[]): Loop | undefined {
  const weight = (loop: Loop) => {
    const { fma = 0, matrix = 0 } = mixOf(code, loop);
    return [matrix, fma, loop.last - loop.first] as const;
  };
  const heavier = (a: Loop, b: Loop) => {
    const [x, y] = [weight(a), weight(b)];
    const i = x.findIndex((value, i) => value !== y[i]);
    return i >= 0 && x[i] > y[i] ? a : b;
  };
  const loops = innerLoops(code);
  return loops.length === 0 ? undefined : loops.reduce((best, loop) => heavier(loop, best));
}

/** The first of `rules` that a text fits; "integer" where none does. */
const kindBy = (rules: readonly (readonly [RegExp, Kind])[]) => (text: string) =>
  rules.find(([pattern]) => pattern.test(text))?.[1] ?? "integer";

const acoKind = kindBy([
  [/^v_(dual_)?(pk_)?(fma|fmac|fmaak|fmamk|fma_mix\w*|mad|mac)_(f16|f32|f64|legacy\w*)|^v_fma_mix/, "fma"],
  [/^v_s?wmma_|^v_mfma_/, "matrix"],
  [/^scratch_/, "spill"],
  [/^(global|buffer|flat|image|tbuffer)_(load|gather|sample|atomic)/, "load"],
  [/^(global|buffer|flat|image|tbuffer)_store/, "store"],
  [/^s_(buffer_)?load/, "constantLoad"],
  [/^ds_(load|read|consume)/, "sharedLoad"],
  [/^ds_(store|write|add|max|min|append)/, "sharedStore"],
  [/^s_barrier(?!_wait)/, "barrier"],
  [/^s_(wait|barrier_wait|delay_alu|clause|nop|sleep|inst_prefetch|set_inst_prefetch)/, "wait"],
  [/^s_(c?branch|endpgm|setpc|swappc|sendmsg|code_end)/, "branch"],
  [/^v_(?!mov|cndmask|cvt|perm|readlane|readfirstlane|writelane)\w*_(f16|f32|f64)/, "float"],
]);

/**
 * Mesa prints LLVM's disassembly, or its own last program where its LLVM does not know the GPU:
 * `v1: %3:v[0] = v_mul_f32 …`. A dual instruction of RDNA 3 counts as two.
 */
function readAco(text: string): Line[] {
  const lines: Line[] = [];
  let at = "";
  for (const raw of text.split("\n")) {
    const label = /^(BB\d+):?\s*$/.exec(raw)?.[1];
    if (label) at = `${at} ${label}`.trim();
    if (!/^\s+\S/.test(raw) || /^\s+;/.test(raw)) continue;
    const trimmed = raw.replace(/\s*;.*$/, "").trim();
    const code = trimmed.replace(/^.*? = (?=[a-z])/, "");
    if (!/^[a-z]+_\w/.test(code)) continue;
    const to = /^s_c?branch\w*\s.*?\b(BB\d+)/.exec(code)?.[1];
    for (const [i, half] of code.split(" :: ").entries()) {
      lines.push({
        text: i === 0 ? trimmed : `  :: ${half}`,
        kind: acoKind(half),
        at: i === 0 ? at : "",
        to,
      });
    }
    at = "";
  }
  return lines;
}

const genKind = kindBy([
  [/^mad\S*\s+\S*<[^>]*>(F|HF|DF)\b/, "fma"],
  [/^dpas/, "matrix"],
  [/MsgDesc: *\( *barrier/, "barrier"],
  [/scratch/, "spill"],
  // Before Xe-HPG workgroup memory is surface 254.
  [/\bslm MsgDesc: *\( *(load|read)|\bread, Surface = 254,/, "sharedLoad"],
  [/\bslm MsgDesc: *\( *(store|write|atomic)|\bwrite, Surface = 254,/, "sharedStore"],
  [/MsgDesc: *\( *fence|^sync|^nop|^wait/, "wait"],
  [/MsgDesc: *\( *open|EOT|^(if|else|endif|while|break|cont|halt|jmpi|brd|brc|call|ret|do)\b/, "branch"],
  [/\bugm MsgDesc: *\( *load[^)]*transpose/, "constantLoad"],
  [/\b(ugm|tgm|dp data 1|dp data|sampler|hdc) MsgDesc: *\(.*\b(load|read|gather)/, "load"],
  [/\b(ugm|tgm|dp data 1|dp data|hdc) MsgDesc: *\(.*\b(store|write|atomic)/, "store"],
  [/^math/, "float"],
  [/^(add|mul|sel|cmp|frc|rnd\w|mac|csel|lrp)\S*\s+\S*(null<[^>]*>|<[^>]*>)(F|HF|DF)\b/, "float"],
]);

/** Intel's: a message to memory is described on the line after its send. */
function readGen(text: string): Line[] {
  const lines: Line[] = [];
  let at = "";
  const rows = text.split("\n");
  for (let i = 0; i < rows.length; i++) {
    const label = /^(LABEL\d+):/.exec(rows[i])?.[1];
    if (label) at = `${at} ${label}`.trim();
    const code = rows[i].replace(/^\([^)]*\)\s*/, "").trim();
    if (!/^[a-z][\w.]*(\(\d+\)| [a-z]+\()/.test(code)) continue;
    const whole = /^sends?\b/.test(code) ? `${code} ${rows[++i]?.trim()}` : code;
    lines.push({
      text: whole.replace(/\s+/g, " "),
      kind: genKind(whole),
      at,
      to: /^while\S*\s+JIP:\s*(LABEL\d+)/.exec(code)?.[1],
    });
    at = "";
  }
  return lines;
}

const sassKind = kindBy([
  [/^(FFMA|HFMA2|DFMA|FFMA2)\b/, "fma"],
  [/^(HMMA|QMMA|IMMA|DMMA|HGMMA|QGMMA|UTCHMMA)\b/, "matrix"],
  [/^(LDL|STL)\b/, "spill"],
  [/^(LDG|LD|TEX|TLD|ATOM|ATOMG)\b/, "load"],
  [/^(STG|ST|RED|REDG)\b/, "store"],
  [/^(LDS|LDSM|ATOMS)\b/, "sharedLoad"],
  [/^(STS|STSM)\b/, "sharedStore"],
  [/^(LDC|LDCU|ULDC)\b/, "constantLoad"],
  [/^BAR\b/, "barrier"],
  [/^(DEPBAR|NOP|WARPSYNC|NANOSLEEP|YIELD|MEMBAR|ERRBAR|CCTL)\b/, "wait"],
  [/^(BRA|EXIT|RET|CALL|BSSY|BSYNC|BREAK|BRX|JMP|BMOV)\b/, "branch"],
  [
    /^(F(ADD|MUL|MNMX3?|SETP?|SEL|CHK|RND|SWZADD|ADD2|MUL2)|MUFU|H(ADD2|MUL2|SET2|SETP2|MNMX2)|D(ADD|MUL|SETP))\b/,
    "float",
  ],
]);

/** NVIDIA's: an address before each instruction, and in branches. */
function readSass(text: string): Line[] {
  const lines: Line[] = [];
  for (const [, address, code] of text.matchAll(/^\s+\/\*([0-9a-f]{4,})\*\/\s+(.*?);/gm)) {
    const plain = code.replace(/^@!?U?P\w+\s+/, "");
    const to = /^BRA\b.*?\b0x([0-9a-f]+)/.exec(plain)?.[1];
    // The code ends with a branch to itself, and what fills the last cache line.
    if (to !== undefined && Number.parseInt(to, 16) === Number.parseInt(address, 16)) break;
    lines.push({
      text: code.replace(/\s+/g, " ").trim(),
      kind: sassKind(plain),
      at: String(Number.parseInt(address, 16)),
      to: to === undefined ? undefined : String(Number.parseInt(to, 16)),
    });
  }
  return lines;
}
