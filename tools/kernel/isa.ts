/** What the variants of a kernel become on GPUs that are not here: `wavegate isa` on each of them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Host } from "../../src/host/host.ts";
import { isFile, type Order, ownVariants } from "../../src/workshop/subject.ts";
import type { Context } from "../cli.ts";
import { verb as isa } from "../isa.ts";

/** `names`: KERNEL.ENTRY of what an operator of the package runs. */
export async function showIsa(
  host: Host,
  order: Order,
  targets: string,
  names: () => Promise<readonly string[]>,
  context: Pick<Context, "json" | "print" | "printJson" | "note" | "progress" | "signal">,
): Promise<void> {
  const reports: unknown[] = [];
  const run = async (operands: string[], own: { wgsl?: string; entry?: string; variant?: string } = {}) => {
    const entry = own.entry === undefined ? [] : [own.entry];
    await isa.main({
      ...{ ...context, operands },
      values: { target: targets, variant: own.variant, wgsl: own.wgsl, entry, asm: false, write: false },
      printJson: (value) => void reports.push(value),
    });
  };
  if (!isFile(order.operand)) await run([...(await names())]);
  else
    for (const { source, entry, variants } of await ownVariants(host, order)) {
      const folder = mkdtempSync(join(tmpdir(), "wavegate-kernel-"));
      try {
        // With its own includes put in, under its own name.
        const wgsl = join(folder, basename(source.path));
        writeFileSync(wgsl, source.text);
        for (const variant of variants) await run([], { wgsl, entry, variant: JSON.stringify(variant) });
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  context.printJson(reports.flat());
}
