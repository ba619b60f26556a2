/**
 * Prepares a new checkout: Node version, npm packages, a WebGPU adapter. Prints nothing where all is there.
 *
 *   node tools/setup.mjs             called by `npm run demo` and `npm test`
 *   node tools/setup.mjs --dry-run   prints the commands that would install a driver, and runs none
 *   node tools/setup.mjs --chromium  installs Chromium too, through apt: without it the tests of pages are skipped
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, utimesSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { APT, hasApt, INSTALL, rootPrefix, run } from "./apt.mjs";
import { installMesa, byHand, readOsRelease } from "./mesa.mjs";

const OLDEST_NODE = 20;
const root = fileURLToPath(new URL("..", import.meta.url));
const say = (/** @type {string} */ line) => console.error(`setup: ${line}`);

function checkNode() {
  const version = process.versions.node;
  if (Number(version.split(".")[0]) < OLDEST_NODE)
    throw new Error(`Cannot run on Node ${version}: ${OLDEST_NODE} or newer is needed`);
}

/** A package that package.json names and that was removed since; undefined where all are there. */
function missingPackage() {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));
  const names = Object.keys({ ...dependencies, ...devDependencies });
  return names.find((name) => !existsSync(`${root}node_modules/${name}/package.json`));
}

/** npm writes the hidden lock file last: its time tells whether an installation is complete and recent. */
function installPackages() {
  const installed = `${root}node_modules/.package-lock.json`;
  const lock = `${root}package-lock.json`;
  const recent = existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs;
  if (recent && missingPackage() === undefined) return;
  say("installing npm packages");
  // Installs exactly what the lock file lists. No package here needs its install script.
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  const npm = process.env.npm_execpath?.endsWith("npm-cli.js") ? process.env.npm_execpath : undefined;
  const options = /** @type {const} */ ({ cwd: root, encoding: "utf8" });
  const done = npm
    ? spawnSync(process.execPath, [npm, ...args], options)
    : spawnSync("npm", args, { ...options, shell: process.platform === "win32" });
  if (done.status !== 0) {
    const lines = `${done.error?.message ?? done.stderr}`
      .split("\n")
      .filter((line) => /\berr(or)?\b/i.test(line) && !/\bcode E\w+$/.test(line));
    throw new Error(`Cannot install npm packages: ${lines[0] ?? "npm failed"}; run npm ci by hand`);
  }
  const now = new Date();
  utimesSync(installed, now, now);
}

/**
 * Asks for an adapter in a child process, since a broken driver may crash or hang the one that asks.
 * @returns {{ name?: string, fault?: string }}
 */
function findAdapter() {
  const script = `
    const { create } = await import("webgpu");
    const adapter = await create([]).requestAdapter();
    if (adapter) console.log(adapter.info.description || adapter.info.device || adapter.info.vendor || "unnamed");
    process.exit(0);`;
  const args = ["--input-type=module", "--eval", script];
  const child = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", timeout: 60_000 });
  if (child.error) return { fault: `asking for an adapter failed (${child.error.message})` };
  if (child.status !== 0) {
    const fault = /^\w*Error.*$/m.exec(child.stderr)?.[0] ?? `signal ${child.signal}`;
    return { fault: `asking for an adapter ended with ${fault}` };
  }
  return { name: child.stdout.trim() || undefined };
}

function ensureAdapter() {
  const before = findAdapter();
  if (before.name) return;
  // A driver would not help.
  if (/Cannot find (package|module)/.test(before.fault ?? ""))
    throw new Error(`Cannot load Dawn (npm webgpu): ${before.fault}; run npm ci by hand`);
  if (process.platform !== "linux") {
    const why = before.fault ?? "Dawn found none";
    throw new Error(
      `Cannot find a WebGPU adapter: ${why}; install the graphics driver of this machine's GPU`,
    );
  }
  installMesa({ say });
  const after = findAdapter();
  if (!after.name)
    throw new Error(
      `Cannot find a WebGPU adapter even with Mesa installed: ${after.fault ?? "Dawn found none"}; ${byHand(readOsRelease())}`,
    );
  say(`adapter: ${after.name}`);
}

/** @param {boolean} dryRun */
function ensureChromium(dryRun) {
  if (spawnSync("chromium", ["--version"]).status === 0) return;
  const advice = "install it so that the program chromium is on the PATH";
  // Ubuntu's package leads to a snap, which has no program of that name where snaps do not run.
  if (readOsRelease().ID !== "debian" || !hasApt() || !(rootPrefix() || dryRun))
    throw new Error(`Cannot install Chromium without Debian's apt and root: ${advice}`);
  say("installing Chromium through apt");
  for (const command of [
    [...APT, "update"],
    [...INSTALL, "chromium"],
  ])
    run({ command }, { dryRun, say, advice });
}

try {
  checkNode();
  const dryRun = process.argv.includes("--dry-run");
  if (dryRun) {
    installMesa({ dryRun, say });
  } else {
    installPackages();
    ensureAdapter();
  }
  if (process.argv.includes("--chromium")) ensureChromium(dryRun);
} catch (error) {
  say(/** @type {Error} */ (error).message);
  process.exitCode = 1;
}
