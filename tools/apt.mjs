/** Debian's apt, as root or by sudo. Plain Node, so that it runs before any package is installed. */
import { spawnSync } from "node:child_process";

/** @typedef {{ command: string[], input?: string }} Step */

export const APT = ["apt-get", "-o", "DPkg::Lock::Timeout=120"];
export const INSTALL = [...APT, "install", "-y", "--no-install-recommends"];

export const hasApt = () => succeeds(["apt-get", "--version"]);

/** [] for root, ["sudo", "-n"] where that works without a password, undefined otherwise. */
export function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  return succeeds(["sudo", "-n", "true"]) ? ["sudo", "-n"] : undefined;
}

/**
 * Runs a command as root, or with `dryRun` prints it. `advice` ends the message of one that fails.
 * @param {Step} step
 * @param {{ dryRun?: boolean, say: (line: string) => void, advice: string }} options
 */
export function run({ command, input }, { dryRun, say, advice }) {
  if (dryRun) return say(`would run: ${command.join(" ")}${input ? ` <<'END'\n${input}END` : ""}`);
  const environment = ["env", "DEBIAN_FRONTEND=noninteractive"];
  const [program, ...rest] = [...(rootPrefix() ?? []), ...environment, ...command];
  const done = spawnSync(program, rest, { input: input ?? "", encoding: "utf8" });
  // One of several archives may be unreachable; whether that matters, the next commands show.
  if (done.status === 0 || command.at(-1) === "update") return;
  const said = `${done.stderr}`.trim().split("\n").at(-1);
  throw new Error(`Cannot run ${command.join(" ")}: ${said}; ${advice}`);
}

/** @param {string[]} command */
function succeeds([program, ...rest]) {
  return spawnSync(program, rest, { stdio: "ignore" }).status === 0;
}
