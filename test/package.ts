/** The package as `npm pack` makes it, unpacked into a project of its own beside the packages that it depends on. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** A command's stdout. Throws with its stderr where it fails. */
export function run(cwd: string, command: string, ...args: string[]): string {
  const done = spawnSync(command, args, { cwd, encoding: "utf8", shell: process.platform === "win32" });
  if (done.status !== 0)
    throw new Error(`${command} ${args.join(" ")}: ${done.error?.message ?? done.stderr}`);
  return done.stdout;
}

/** A script under the runtime of this process. */
export const runScript = (cwd: string, script: string, ...args: string[]) =>
  run(cwd, process.execPath, ...("Deno" in globalThis ? ["run", "-A", "--no-check"] : []), script, ...args);

/** An empty project in which the named packages are installed. Its folder goes when the process ends. */
export function project(packages: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), "wavegate-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  mkdirSync(join(folder, "node_modules"));
  for (const name of packages) {
    mkdirSync(dirname(join(folder, "node_modules", name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name), "junction");
  }
  return folder;
}

/** A project in which Wavegate is installed, without any development dependency. */
export function installed(): string {
  const folder = project(Object.keys(manifest.dependencies));
  const stage = join(folder, "stage");
  run(root, "node", "tools/build.mjs", "--out", join(stage, "dist"));
  const files = (manifest.files as string[]).filter((name) => name !== "dist" && !name.startsWith("!"));
  for (const name of ["package.json", "README.md", "LICENSE", ...files])
    cpSync(join(root, name), join(stage, name), { recursive: true });
  run(stage, "npm", "pack", "--ignore-scripts", "--pack-destination", folder);
  run(folder, "tar", "xzf", `wavegate-${manifest.version}.tgz`);
  cpSync(join(folder, "package"), join(folder, "node_modules/wavegate"), { recursive: true });
  for (const left of ["stage", "package", `wavegate-${manifest.version}.tgz`])
    rmSync(join(folder, left), { recursive: true });
  return folder;
}
