/** What the workshop checks and times. */
import type { Device } from "../gpu/device.ts";
import { relativeL2 } from "../records/float64.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";

/** One tensor beside its float64 reference. */
export interface Finding {
  /** "y", "the gradient of x". */
  readonly what: string;
  /** Whether it is of another call than the one that is timed: a smaller one, of a record's samples. */
  readonly sample?: true;
  readonly pass: boolean;
  /** ‖got − want‖ / ‖want‖; null where something is not finite. */
  readonly relL2: number | null;
  readonly tolerance: number;
  /** Largest |got − want|, and of those a hundredth of the typical size or more the largest |got − want| / |want|. */
  readonly maxAbs: number | null;
  readonly maxRel: number | null;
  /** Where the difference is largest. */
  readonly worst?: { readonly index: readonly number[]; readonly got: string; readonly want: string };
}

/** What a dispatch has to do. */
export interface Work {
  /** null where it is not known. */
  readonly flops: number | null;
  readonly bytes: number;
  readonly unit: "f32" | "f16" | "matrix";
}

/** A variant that is bound to buffers on a device. */
export interface Candidate {
  readonly device: Device;
  readonly work: Work;
  /** What it dispatches: "softmax.forward, grid 192, WG=8". */
  readonly dispatches: readonly string[];
  /** Expanded WGSL of all that it dispatches, by kernel, entry point and flags. */
  readonly texts: ReadonlyMap<string, string>;
  /** Holds it to float64; `note` is told what was not checked. Throws where it cannot be run, or does what it must not. */
  check(phase: (text: string) => void, note: (line: string) => void): Promise<Finding[]>;
  /** Records the copies after which it may run, outside of what is timed; undefined where none are needed. */
  readonly reset?: () => void;
  /** Records it once. */
  run(): void;
  /** Frees its buffers. */
  release(): void;
}

/** A variant that is not yet on a device. */
export interface Maker {
  /** Tells it from the others: "WG=64 vec", "portable". */
  readonly name: string;
  /** What it comes from: the file, or "package". */
  readonly source: string;
  /** Makers of one key share a device, those of another have another. */
  readonly key: string;
  open(): Promise<Device>;
  make(device: Device): Promise<Candidate>;
}

/** All variants at one shape. */
export interface Bout {
  /** "N=512 C=768". */
  readonly shape: string;
  readonly makers: readonly Maker[];
}

/** A dispatch in a few words. */
export const showDispatch = (name: string, grid: readonly (number | undefined)[], variant: string): string =>
  [name, `grid ${grid.filter((n, i) => n !== undefined && (i === 0 || n !== 1)).join("×")}`, variant]
    .filter(Boolean)
    .join(", ");

/** What a command line asks for: what to try, with the files by whose change that would change. */
export interface Subject {
  readonly kernel: string;
  readonly files: readonly string[];
  readonly notes: readonly string[];
  readonly bouts: readonly Bout[];
}

/** One element may be so many times farther than the tolerance of the whole: but not more, in a large tensor it would not show. */
const ONE = 64;

/** Compares in float64. `unwritten`: the number that stood there before. */
export function compare(
  what: string,
  shape: Shape,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
  unwritten?: (index: number) => boolean,
): Finding {
  const size = sizeOf(shape);
  let squares = 0;
  for (let i = 0; i < size; i++) if (Number.isFinite(want[i])) squares += want[i] ** 2;
  const typical = Math.sqrt(squares / Math.max(1, size));
  let [at, maxAbs, maxRel, far] = [0, 0, 0, false];
  for (let i = 0; i < size; i++) {
    if (Object.is(got[i], want[i]) && !Number.isFinite(want[i])) continue;
    const off = Math.abs(got[i] - want[i]);
    const distance = Number.isNaN(off) ? Number.POSITIVE_INFINITY : off;
    if (distance > maxAbs) [at, maxAbs] = [i, distance];
    if (Math.abs(want[i]) >= typical / 100 && distance > 0)
      maxRel = Math.max(maxRel, distance / Math.abs(want[i]));
    if (!(distance <= ONE * tolerance * (Math.abs(want[i]) + typical))) far = true;
  }
  const relL2 = relativeL2(got, want);
  const finite = (x: number) => (Number.isFinite(x) ? x : null);
  const pass = relL2 <= tolerance && !far;
  if (maxAbs === 0) return { what, pass, relL2: finite(relL2), tolerance, maxAbs, maxRel };
  const number = (x: number) => (Number.isInteger(x) ? String(x) : String(Number(x.toPrecision(7))));
  return {
    ...{ what, pass, relL2: finite(relL2), tolerance, maxAbs: finite(maxAbs), maxRel: finite(maxRel) },
    worst: {
      index: indexOf(at, shape),
      got: unwritten?.(at) ? UNWRITTEN : number(got[at]),
      want: number(want[at]),
    },
  };
}

/** The place of a flat index. */
export function indexOf(flat: number, shape: Shape): number[] {
  const index: number[] = [];
  let rest = flat;
  for (const length of shape.toReversed()) {
    index.unshift(rest % length);
    rest = Math.floor(rest / length);
  }
  return index;
}

const UNWRITTEN = "never written";

/** One line about a finding that does not pass. */
export function describeFinding({ what, relL2, tolerance, worst }: Finding): string {
  const place = worst && worst.index.length > 0 ? `[${worst.index.join(", ")}]` : "";
  const limit = tolerance === 0 ? "0" : tolerance.toExponential(0);
  const far =
    relL2 === null
      ? "not finite where it should be"
      : `${relL2.toExponential(1)} from float64 (relative L2, at most ${limit} expected)`;
  const at = worst ? `${what}${place} is ${worst.got}, ${worst.want} expected` : "";
  return worst?.got === UNWRITTEN ? at : `${what} is ${far}${at && `; ${at}`}`;
}
