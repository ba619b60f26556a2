/** wavegate validate: runs reference cases and compares every stored tensor. */
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { loadRecords } from "../src/records/mod.ts";
import { defineVerb, isMain, runVerb } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatTable } from "./format.ts";
import type { Stage } from "./validate/compare.ts";
import { type Cost, describeCost } from "./validate/cost.ts";
import { validateModel } from "./validate/models.ts";
import { validateOperators } from "./validate/operators.ts";

export const verb = defineVerb({
  name: "validate",
  summary: "compare a model or single operations, or a folder of such cases, with what PyTorch computed",
  usage: "CASE…",
  example: "wavegate validate test/reference/hubert-tiny-stable test/reference/ops",
  options: {
    ...deviceOptions,
    all: { type: "boolean", help: "print every stage, also where a case has more than 60" },
  },
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main({ values, operands, print, printJson, progress }) {
    const host = await currentHost();
    const folders = (await Promise.all(operands.map((operand) => findCases(host, operand)))).flat();
    const device = await openChosenDevice(host, values);
    const bar = progress("validating", folders.length, { unit: "cases" });
    const cases: { case: string; pass: boolean; stages: Stage[] }[] = [];
    for (const folder of folders) {
      const single = (await host.kind(`${folder}/index.json`)) === "file";
      const { stages, cost }: { stages: Stage[]; cost?: Cost } = single
        ? { stages: await validateOperators(host, device, folder, await loadRecords()) }
        : await validateModel(host, device, folder);
      if (stages.length === 0) throw new Error(`Cannot validate ${folder}: it stores no tensor to compare`);
      cases.push({ case: folder, pass: stages.every((s) => s.pass), stages });
      bar.update(cases.length);
      bar.stop();
      show(folder, stages, values.all, print);
      if (cost) print(`  ${describeCost(cost)}, on ${device.info.name}`);
    }
    printJson({ cases });
    device.dispose();
    return cases.every((c) => c.pass) ? 0 : 1;
  },
});

/** A case, or the cases that lie side by side in a folder. */
async function findCases(host: Host, operand: string): Promise<string[]> {
  const folder = operand.replace(/(?<=.)\/+$/, "");
  if ((await host.kind(folder)) !== "directory")
    throw new Error(`Cannot validate ${folder}: it is no folder`);
  const isCase = (names: readonly string[]) => names.includes("index.json") || names.includes("config.json");
  const names = await host.list(folder);
  if (isCase(names)) return [folder];
  const found: string[] = [];
  for (const path of names.map((name) => `${folder}/${name}`))
    if ((await host.kind(path)) === "directory" && isCase(await host.list(path))) found.push(path);
  if (found.length === 0)
    throw new Error(
      `Cannot validate ${folder}: it holds neither config.json nor index.json, nor folders that do`,
    );
  return found;
}

function show(name: string, stages: readonly Stage[], all: boolean, print: (line?: string) => void): void {
  const failed = stages.filter((s) => !s.pass);
  const rows = all || stages.length <= 60 ? stages : stages.filter((s) => !s.pass || s.kind === "forward");
  print(name);
  const cells = rows.map((s) => [
    s.name,
    s.kind,
    s.maxAbs.toExponential(2),
    s.relL2.toExponential(2),
    s.cosine.toFixed(7),
    s.pass ? "pass" : "DEPARTS",
  ]);
  for (const line of formatTable(["stage", "kind", "max |Δ|", "rel L2", "cosine", "verdict"], cells))
    print(`  ${line}`);
  if (rows.length < stages.length) print(`  … and ${stages.length - rows.length} gradients that pass`);
  print(
    failed.length
      ? `  ${failed.length} of ${stages.length} stages depart from PyTorch; the first is ${failed[0].name}`
      : `  all ${stages.length} stages agree with PyTorch`,
  );
}

if (isMain(import.meta)) await runVerb(verb);
