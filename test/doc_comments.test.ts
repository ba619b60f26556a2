/** Every symbol that the package exports has a doc comment, and every example in one runs and prints what it says. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import * as wavegate from "../src/mod.ts";
import { root } from "./package.ts";

const underDeno = "Deno" in globalThis;

interface Commented {
  readonly name: string;
  readonly jsDoc?: { readonly doc?: string };
  readonly accessibility?: string;
  readonly isOverride?: boolean;
}

interface Declaration {
  readonly kind: string;
  readonly location: { readonly filename: string };
  readonly jsDoc?: { readonly doc?: string };
  readonly def?: Readonly<Partial<Record<"constructors" | "methods" | "properties", Commented[]>>> & {
    readonly hasBody?: boolean;
  };
}

/** The declarations that a module exports, by name, as `deno doc` reads them. */
function declarationsOf(module: string): [string, Declaration[]][] {
  const doc = ["doc", "--quiet", "--json", module];
  const args = underDeno ? doc : ["node_modules/deno/bin.cjs", ...doc];
  const done = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 26 });
  assert.equal(done.status, 0, done.stderr);
  const { nodes } = JSON.parse(done.stdout) as {
    nodes: Record<string, { symbols: { name: string; declarations: Declaration[] }[] }>;
  };
  const found = Object.values(nodes).flatMap(({ symbols }) => symbols);
  assert.ok(found.length > 0, module);
  return found.map(({ name, declarations }) => [name, declarations]);
}

/** Members that need no comment: what nobody outside calls, what a class above explains, and what `using` calls. */
const needsNone = ({ name, accessibility, isOverride }: Commented): boolean =>
  accessibility !== undefined || isOverride === true || name === "[Symbol.dispose]";

/** What a symbol lacks: its own comment, or those of its members. */
function missing(name: string, declarations: readonly Declaration[]): string[] {
  // The last of several functions of a name is the body of the overloads before it.
  const visible = declarations.length > 1 ? declarations.filter(({ def }) => !def?.hasBody) : declarations;
  return visible.flatMap(({ jsDoc, def }) => {
    const members = [def?.constructors, def?.methods, def?.properties].flatMap((list) => list ?? []);
    const bare = members.filter((member) => !member.jsDoc?.doc && !needsNone(member));
    return [...(jsDoc?.doc ? [] : [name]), ...bare.map((member) => `${name}.${member.name}`)];
  });
}

const FLOORS = ["host", "gpu", "tensor", "ops", "nn", "train", "io", "models", "speech"];

for (const floor of FLOORS)
  test(`every symbol of src/${floor}/mod.ts has a doc comment, and so has each of its members`, () => {
    const bare = declarationsOf(`src/${floor}/mod.ts`).flatMap(([name, all]) => missing(name, all));
    assert.deepEqual(bare, []);
  });

interface Example {
  /** File and line. */
  readonly at: string;
  /** The symbol that it is of. */
  readonly of: string | undefined;
  readonly code: string;
  /** What each console.log() of it prints. */
  readonly printed: string[];
}

/** The examples in a file's doc comments. */
function examplesIn(path: string): Example[] {
  const text = readFileSync(join(root, path), "utf8");
  const blocks = [...text.matchAll(/^( *) \* @example\n\1 \* ```ts\n([\s\S]*?)\n\1 \* ```$/gm)];
  assert.equal(
    blocks.length,
    text.match(/\* @example\b/g)?.length ?? 0,
    `${path}: an example is no block of ts`,
  );
  return blocks.map(({ index, 1: indent, 2: body }) => {
    const code = body.replaceAll(new RegExp(`^${indent} \\* ?`, "gm"), "");
    const printed = [...code.matchAll(/^ *console\.log\(.*\);(?: \/\/ (.*)|\n *\/\/ (.*))$/gm)];
    assert.equal(
      printed.length,
      code.match(/console\.log/g)?.length ?? 0,
      `${path}: what is printed is not said`,
    );
    const line = text.slice(0, index).split("\n").length;
    const of = /^export (?:abstract |async )*(?:class|function|const|interface) (\w+)/m.exec(
      text.slice(index),
    )?.[1];
    return { at: `${path}:${line}`, of, code, printed: printed.map(([, same, next]) => same ?? next) };
  });
}

const examples = (readdirSync(join(root, "src"), { recursive: true }) as string[])
  .filter((name) => name.endsWith(".ts"))
  .sort()
  .flatMap((name) => examplesIn(`src/${name}`));

/** As a reader would write them down: numbers to four digits, arrays in brackets. */
function shown(value: unknown): string {
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  if (Array.isArray(value) || ArrayBuffer.isView(value))
    return `[${Array.from(value as ArrayLike<unknown>, shown).join(", ")}]`;
  return String(value);
}

type Program = (
  host: wavegate.Host,
  device: wavegate.Device,
  console: { log(...values: unknown[]): void },
) => Promise<void>;

const types = declarationsOf("src/mod.ts").flatMap(([name]) => (name in wavegate ? [] : [name]));

/** An example as a module: its names from the package, and what the pages say is open. */
function moduleOf({ code }: Example): string {
  const named = (names: readonly string[]) =>
    names.filter((name) => new RegExp(`(?<![.\\w"])${name}\\b`).test(code)).join(", ");
  return [
    `import { ${named(Object.keys(wavegate))} } from "wavegate";`,
    `import type { Device, Host } from "wavegate";`,
    `import type { ${named(types.filter((name) => name !== "Host"))} } from "wavegate";`,
    "export default async (host: Host, device: Device, console: { log(...values: unknown[]): void }) => {{",
    ...[code, "}};", ""],
  ].join("\n");
}

mkdirSync(join(root, ".cache"), { recursive: true });
const folder = mkdtempSync(join(root, ".cache", "examples-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
for (const [n, example] of examples.entries()) writeFileSync(join(folder, `${n}.ts`), moduleOf(example));

test("what a newcomer meets first has an example", () => {
  const first =
    "currentHost openDevice twin Tensor scope valueAndGrad vjp record noGrad checkpoint gradcheck Weights Linear SelfAttention AdamW saveWeights trainStage RunFolder add matmul crossEntropy ctcLoss readWav openSafetensors";
  const shown = new Set(examples.map(({ of }) => of));
  assert.deepEqual(
    first.split(" ").filter((name) => !shown.has(name)),
    [],
  );
});

// Once is enough: types are the same for every runtime.
if (!underDeno)
  test("the examples in doc comments have right types", () => {
    const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false };
    const config = {
      extends: "../../tsconfig.json",
      compilerOptions,
      include: ["*.ts", "../../src/**/*.d.ts"],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const done = spawnSync(process.execPath, [tsc, "--project", folder], { encoding: "utf8" });
    const told = done.stdout.replaceAll(/^.*?(\d+)\.ts\(/gm, (_, n) => `${examples[n].at}, its module (`);
    assert.equal(done.status, 0, told);
  });

for (const [n, { at, printed }] of examples.entries())
  test(`the example of ${at} prints what it says`, async () => {
    const own = process.cwd();
    const scratch = mkdtempSync(join(tmpdir(), "wavegate-"));
    const { default: program } = (await import(pathToFileURL(join(folder, `${n}.ts`)).href)) as {
      default: Program;
    };
    const host = await currentHost();
    const device = await openDevice(host);
    const said: string[] = [];
    process.chdir(scratch);
    try {
      await program(host, device, { log: (...values) => said.push(values.map(shown).join(" ")) });
    } finally {
      process.chdir(own);
      device.dispose();
      rmSync(scratch, { recursive: true });
    }
    assert.deepEqual(said, printed);
  });
