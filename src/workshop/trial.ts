/** Checks every candidate, times those that are right, and says how they compare: what `wavegate kernel` shows. */
import { identify } from "../gpu/adapter.ts";
import type { Device } from "../gpu/device.ts";
import { judge, type Verdict } from "../profile/diff.ts";
import type { Ceiling } from "../profile/profile.ts";
import { leastTime } from "../profile/summary.ts";
import { type Peaks, readPeaks } from "../records/peaks.ts";
import {
  type Bout,
  type Candidate,
  describeFinding,
  type Finding,
  type Maker,
  type Subject,
  type Work,
} from "./candidate.ts";
import { plainNames } from "./own.ts";
import { flushBytes, timeAll, type Times } from "./time.ts";

/** A variant as it turned out. */
export interface VariantReport {
  readonly name: string;
  /** The file that it comes from, or "package". */
  readonly source: string;
  /** "refused": it could not be run. */
  readonly verdict: "right" | "wrong" | "refused";
  /** What is wrong, in a line; lines of WGSL may follow. */
  readonly error?: string;
  /** The tensor that is farthest from its reference, relative to its tolerance: of all that are wrong, else of the call that is timed. */
  readonly farthest?: Finding;
  /** How many tensors were compared. */
  readonly compared: number;
  readonly times?: Times;
  readonly work?: Work;
  readonly dispatches?: readonly string[];
  /** Of the warm median. */
  readonly flopsPerSecond?: number | null;
  readonly bytesPerSecond?: number;
  /** Share of the ceiling that binds it; null without peaks or FLOPs. */
  readonly ceiling?: { readonly name: Ceiling; readonly share: number } | null;
  /** Where it is of the other file: it against the same variant of the first. */
  readonly against?: Verdict;
  /** The fastest of the bout against this one; absent on the fastest itself. */
  readonly behind?: Verdict;
}

/** One shape. */
export interface BoutReport {
  readonly shape: string;
  readonly variants: readonly VariantReport[];
}

/** What came out. */
export interface KernelReport {
  readonly kernel: string;
  readonly adapter: string;
  readonly driver: string;
  /** By what times were taken. */
  readonly clock: "gpu" | "wall";
  readonly runs: number;
  /** Bytes that are copied before a cold run. */
  readonly flush: number;
  readonly peaks: boolean;
  readonly notes: readonly string[];
  readonly bouts: readonly BoutReport[];
}

/** Whoever waits for a trial is told what it does now. */
export interface Watch {
  phase(text: string): void;
  note(line: string): void;
}

/** Runs a subject. `runs` 0: only checks. */
export async function runTrial(subject: Subject, runs: number, watch: Watch): Promise<KernelReport> {
  const devices = new Devices();
  const notes = new Set(subject.notes);
  try {
    const bouts: BoutReport[] = [];
    let described:
      | { identity: ReturnType<typeof identify>; device: Device; peaks: Peaks | undefined }
      | undefined;
    for (const bout of subject.bouts) {
      const report = await runBout(bout, runs, devices, watch, notes, async (device) => {
        described ??= {
          identity: identify(device),
          device,
          peaks: await readPeaks(device.host, device, watch.note),
        };
        return described.peaks;
      });
      bouts.push(report);
    }
    const adapter = described?.device.info.name ?? "";
    const driver = described?.identity.driver ?? "";
    return {
      ...{ kernel: subject.kernel, adapter, driver, runs },
      clock: described?.device.info.timestamps ? "gpu" : "wall",
      flush: described ? flushBytes(described.device) : 0,
      peaks: described?.peaks !== undefined,
      ...{ notes: [...notes], bouts },
    };
  } finally {
    devices.dispose();
  }
}

/** One device for each key. */
class Devices {
  readonly #open = new Map<string, Device>();

  async of({ key, open }: Maker): Promise<Device> {
    const known = this.#open.get(key);
    if (known) return known;
    const device = await open();
    this.#open.set(key, device);
    return device;
  }

  /** Where the GPU refused something the device says so for ever: the next candidate gets another. Tells whether it is so. */
  discardIfBroken({ key }: Maker): boolean {
    const device = this.#open.get(key);
    if (!device) return false;
    try {
      device.check();
      return false;
    } catch {
      device.dispose();
      this.#open.delete(key);
      return true;
    }
  }

  dispose(): void {
    for (const device of this.#open.values()) device.dispose();
    this.#open.clear();
  }
}

interface Entry {
  readonly maker: Maker;
  candidate?: Candidate;
  findings: readonly Finding[];
  error?: string;
}

/** Lines of WGSL that follow an error are kept. */
const messageOf = (error: unknown): string =>
  plainNames(error instanceof Error ? error.message : String(error)).trim();

async function runBout(
  { shape, makers }: Bout,
  runs: number,
  devices: Devices,
  watch: Watch,
  notes: Set<string>,
  describe: (device: Device) => Promise<Peaks | undefined>,
): Promise<BoutReport> {
  const entries: Entry[] = makers.map((maker) => ({ maker, findings: [] }));
  let peaks: Peaks | undefined;
  for (const entry of entries) {
    const { maker } = entry;
    const title = titleOf(maker, shape);
    watch.phase(`${title}: compiling`);
    try {
      const device = await devices.of(maker);
      peaks = await describe(device);
      entry.candidate = await maker.make(device);
      entry.findings = await entry.candidate.check(
        (what) => watch.phase(`${title}: ${what}`),
        (line) => notes.add(line),
      );
    } catch (error) {
      // What the GPU found out later explains more than what followed from it.
      const device = await devices.of(maker).catch(() => undefined);
      const cause = await device?.idle().then(
        () => error,
        (found) => found,
      );
      entry.error = messageOf(cause ?? error);
      entry.candidate = undefined;
    }
    if (devices.discardIfBroken(maker)) {
      const lost = entries.filter((each) => each.candidate && each.maker.key === maker.key);
      if (entry.candidate) entry.error ??= "Cannot run it: the GPU refused a command";
      entry.candidate = undefined;
      for (const each of lost)
        if (each !== entry) each.candidate = await each.maker.make(await devices.of(each.maker));
    }
  }
  const right = entries.filter(({ candidate, findings }) => candidate && findings.every(({ pass }) => pass));
  const times =
    runs === 0 || right.length === 0
      ? []
      : await timeAll(
          right.map(({ candidate }) => candidate as Candidate),
          runs,
          (done, total) => watch.phase(`${shape}: timing, round ${done + 1} of ${total}`),
        );
  const fastest = times.toSorted((a, b) => a.warm.median - b.warm.median)[0];
  const variants = entries.map((entry): VariantReport => {
    const { maker, candidate, findings, error } = entry;
    const worst = findings.toSorted((a, b) => distance(b) - distance(a))[0];
    const known = { name: maker.name, source: maker.source, compared: findings.length, farthest: worst };
    if (!candidate) return { ...known, verdict: "refused", error: error ?? "Cannot run it" };
    if (!findings.every(({ pass }) => pass))
      return { ...known, verdict: "wrong", error: describeFinding(worst) };
    const timed = times[right.indexOf(entry)];
    const { work, dispatches } = candidate;
    if (!timed) return { ...known, verdict: "right", work, dispatches };
    const { flops, bytes } = work;
    const first = right.find(
      ({ maker: each }) => each.source === makers[0].source && each.name === maker.name && each !== maker,
    );
    const twin = first && maker.source !== makers[0].source ? times[right.indexOf(first)] : undefined;
    const seconds = timed.warm.median / 1000;
    const least = leastTime(work, peaks);
    return {
      ...{ ...known, verdict: "right", times: timed, work, dispatches },
      flopsPerSecond: flops === null ? null : flops / seconds,
      bytesPerSecond: bytes / seconds,
      ceiling: least ? { name: least.ceiling, share: least.milliseconds / timed.warm.median } : null,
      ...(twin ? { against: judge(twin.warm, timed.warm) } : {}),
      ...(timed === fastest ? {} : { behind: judge(fastest.warm, timed.warm) }),
    };
  });
  for (const { candidate } of entries) candidate?.release();
  return { shape, variants };
}

/** What does not pass is farthest, and of what does what was timed. */
const distance = ({ pass, sample, relL2, tolerance }: Finding): number =>
  (pass ? (sample ? -1e12 : 0) : 1e9) + (relL2 ?? 1e8) / Math.max(tolerance, 1e-12);

/** As messages name a variant. */
export const titleOf = ({ name, source }: { name: string; source: string }, shape: string): string =>
  [source === "package" ? "" : source, name, shape && `at ${shape}`].filter(Boolean).join(" ");

/** The expanded WGSL of all variants, each text once, by what it belongs to. Throws where one cannot be bound. */
export async function expandAll({ bouts }: Subject): Promise<Map<string, string>> {
  const devices = new Devices();
  const found = new Map<string, string>();
  try {
    for (const { makers } of bouts.slice(0, 1))
      for (const maker of makers) {
        const candidate = await maker.make(await devices.of(maker));
        for (const [name, text] of candidate.texts)
          if (![...found.values()].includes(text)) found.set(name, text);
        candidate.release();
      }
    return found;
  } finally {
    devices.dispose();
  }
}
