/** wavegate validate: runs reference cases and compares every stored tensor. */
import { currentHost } from "../src/host/current.ts";
import { loadRecords } from "../src/records/mod.ts";
import { validateModel } from "../src/speech/validate/models.ts";
import { findCases, isOperatorCase } from "../src/validate/case.ts";
import type { Stage } from "../src/validate/compare.ts";
import type { Cost } from "../src/validate/cost.ts";
import { validateOperators } from "../src/validate/operators.ts";
import { defineVerb, isMain, runVerb } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatBytes, formatSeconds, formatTable } from "./format.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "validate",
  summary: SUMMARIES.validate,
  usage: "CASE… [options]   (a model or single operations, or a folder of such cases)",
  example: "wavegate validate case",
  options: {
    ...deviceOptions,
    dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage of the weights" },
    activations: {
      type: "string",
      choices: ["f32", "f16"],
      default: "f32",
      help: "what layers hand on to each other; f16 passes within 1e-2",
    },
    all: { type: "boolean", help: "print every stage, also where a case has more than 60" },
  },
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main({ values, operands, print, printJson, note, progress }) {
    const host = await currentHost();
    const folders = (await Promise.all(operands.map((operand) => findCases(host, operand)))).flat();
    const device = await openChosenDevice(host, values);
    const bar = progress("validating", folders.length, { unit: "cases" });
    const cases: { case: string; pass: boolean; stages: Stage[] }[] = [];
    for (const folder of folders) {
      const single = await isOperatorCase(host, folder);
      if (single && (values.dtype === "f16" || values.activations === "f16"))
        note(`validate: ${folder} holds single operators, which are compared in the dtypes of the case`);
      const { stages, cost }: { stages: Stage[]; cost?: Cost } = single
        ? { stages: await validateOperators(host, device, folder, await loadRecords()) }
        : await validateModel(host, device, folder, values);
      if (stages.length === 0) throw new Error(`Cannot validate ${folder}: it stores no tensor to compare`);
      cases.push({ case: folder, pass: stages.every((s) => s.pass), stages });
      bar.update(cases.length);
      bar.stop();
      show(folder, stages, values, print);
      if (cost) print(`  ${describeCost(cost)}, on ${device.info.name}`);
    }
    printJson({ cases });
    device.dispose();
    return cases.every((c) => c.pass) ? 0 : 1;
  },
});

function show(
  name: string,
  stages: readonly Stage[],
  { all, activations }: { readonly all: boolean; readonly activations: string },
  print: (line?: string) => void,
): void {
  const failed = stages.filter((s) => !s.pass);
  const rows = all || stages.length <= 60 ? stages : stages.filter((s) => !s.pass || s.kind === "forward");
  print(name);
  const beside = activations === "f16" && rows.some((s) => s.torch !== undefined);
  const cells = rows.map((s) => [
    s.name,
    s.kind,
    s.maxAbs.toExponential(2),
    s.relL2.toExponential(2),
    s.cosine.toFixed(7),
    ...(beside ? [s.torch?.toExponential(2) ?? ""] : []),
    s.pass ? "pass" : "DEPARTS",
  ]);
  const columns = [
    "stage",
    "kind",
    "max |Δ|",
    "rel L2",
    "cosine",
    ...(beside ? ["PyTorch's"] : []),
    "verdict",
  ];
  for (const line of formatTable(columns, cells)) print(`  ${line}`);
  if (rows.length < stages.length) print(`  … and ${stages.length - rows.length} gradients that pass`);
  print(
    failed.length
      ? `  ${failed.length} of ${stages.length} stages depart from PyTorch; the first is ${failed[0].name}`
      : `  all ${stages.length} stages agree with PyTorch`,
  );
}

function describeCost({ seconds, backward, gpuPeak, hostPeak, rss }: Cost): string {
  const run = `${backward ? "forward and backward" : "forward"} ${formatSeconds(seconds)}`;
  return `${run}, GPU buffers at most ${formatBytes(gpuPeak)}; while loading, heap and array buffers at most ${formatBytes(hostPeak)}, process ${formatBytes(rss)}`;
}

if (isMain(import.meta)) await runVerb(verb);
