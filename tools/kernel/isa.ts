/** What the variants of a kernel become on GPUs that are not here: `wavegate isa` on each of them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Host } from "../../src/host/host.ts";
import { isFile, type Order, ownVariants } from "../../src/workshop/subject.ts";
import { type IsaOptions, type IsaReport, isa } from "../isa/isa.ts";
import { targetOf } from "../isa/targets.ts";

/** A report for each target. `names` gives KERNEL.ENTRY of what an operator of the package runs. */
export async function isaReports(
  host: Host,
  order: Order,
  targets: readonly string[],
  names: () => Promise<readonly string[]>,
): Promise<IsaReport[]> {
  for (const target of targets) targetOf(target);
  const folder = mkdtempSync(join(tmpdir(), "wavegate-kernel-"));
  try {
    const compiled = isFile(order.operand) ? await ownFiles(host, order, folder) : [{ names: await names() }];
    const reports: IsaReport[] = [];
    for (const target of targets) {
      const each: IsaReport[] = [];
      for (const what of compiled) each.push(await isa(host, { target, ...what }));
      reports.push({ ...each[0], kernels: each.flatMap(({ kernels }) => kernels) });
    }
    return reports;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Every variant, as isa() takes it. Files are written to `folder` under their names, with their own includes put in. */
async function ownFiles(host: Host, order: Order, folder: string): Promise<Omit<IsaOptions, "target">[]> {
  return (await ownVariants(host, order)).flatMap(({ source, entry, variants }, i) => {
    const file = join(folder, `${i > 0 ? "against-" : ""}${basename(source.path)}`);
    writeFileSync(file, source.text);
    const own = { file, entries: entry === undefined ? [] : [entry] };
    return variants.map((values) => ({ own, values }));
  });
}
