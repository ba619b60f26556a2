/**
 * Installs Mesa's CPU Vulkan driver (lavapipe) through apt, for machines without a GPU driver.
 * Plain Node, so that it runs before any package is installed.
 *
 * Dawn needs Mesa 25. Where the release carries an older one, Debian's backports suite has it: the
 * entry for that suite is the machine's own entry for the main archive with the suite changed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { APT, hasApt, INSTALL, rootPrefix, run } from "./apt.mjs";

export const OLDEST_MESA = 25;

/** @typedef {import("./apt.mjs").Step} Step */
/** @typedef {{ type: "deb822" | "list", text: string }} Source  A file that names apt archives. */

/**
 * Major version of a Debian package version: "25.0.7-2~bpo12+1" → 25, "1:25.1-1" → 25, none → 0.
 * @param {string | undefined} version
 */
export function majorVersion(version) {
  return Number(/^(?:\d+:)?(\d+)/.exec(version ?? "")?.[1] ?? 0);
}

/**
 * Reads os-release, of which ID and VERSION_CODENAME are used.
 * @param {string} text
 * @returns {Record<string, string>}
 */
export function parseOsRelease(text) {
  const pairs = [...text.matchAll(/^([A-Z_]+)=(?:"(.*)"|'(.*)'|(.*))$/gm)];
  return Object.fromEntries(pairs.map(([, key, ...quoted]) => [key, quoted.join("")]));
}

/**
 * The entry for `<codename>-backports`, made from the machine's own entry for the main archive.
 * @param {Source} source
 * @param {string} codename
 * @returns {string | undefined} undefined where the file has no entry for `codename`
 */
export function backportsEntry(source, codename) {
  return source.type === "deb822" ? deb822Entry(source.text, codename) : listEntry(source.text, codename);
}

/**
 * @param {string} text
 * @param {string} codename
 */
function deb822Entry(text, codename) {
  const uncommented = text.replace(/^#.*\n?/gm, "");
  for (const stanza of uncommented.split(/\n\s*\n/)) {
    // Lines that begin with a blank continue a field: Signed-By may hold a whole key.
    const fields = [...stanza.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)];
    const field = (/** @type {string} */ name) => {
      const found = fields.find(([, key]) => key.toLowerCase() === name);
      return found?.[2].trim().split(/\s+/) ?? [];
    };
    if (!field("types").includes("deb") || field("enabled")[0] === "no") continue;
    if (!field("suites").includes(codename) || !field("components").includes("main")) continue;
    /** @type {Record<string, string>} */
    const changed = { types: "deb", suites: `${codename}-backports`, components: "main" };
    return fields
      .map(([, key, value]) => [key, changed[key.toLowerCase()] ?? value])
      .map(([key, value]) => `${key}:${value.startsWith("\n") ? "" : " "}${value}\n`)
      .join("");
  }
  return undefined;
}

/**
 * @param {string} text
 * @param {string} codename
 */
function listEntry(text, codename) {
  for (const [, options, uri, suite, components] of text.matchAll(
    /^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$/gm,
  )) {
    if (suite === codename && components.split(/\s+/).includes("main"))
      return `deb ${options ?? ""}${uri} ${codename}-backports main\n`;
  }
  return undefined;
}

/**
 * The commands that install a driver that is new enough.
 * @param {object} machine
 * @param {Record<string, string>} machine.os          os-release
 * @param {string} [machine.installed]                 version of mesa-vulkan-drivers here, if any
 * @param {string[]} machine.available                 versions that apt knows, its own choice first
 * @param {Source[]} machine.sources                   the machine's apt source files
 * @returns {Step[]}
 * @throws {Error} where no archive is known that has the driver
 */
export function planInstall({ os, installed, available, sources }) {
  const drivers = ["libvulkan1", "mesa-vulkan-drivers"];
  if (majorVersion(installed) >= OLDEST_MESA) return [{ command: [...INSTALL, "libvulkan1"] }];
  if (majorVersion(available[0]) >= OLDEST_MESA) return [{ command: [...INSTALL, ...drivers] }];

  const codename = os.VERSION_CODENAME;
  const backports = [...INSTALL, "-t", `${codename}-backports`, ...drivers];
  if (available.some((version) => version.includes("~bpo") && majorVersion(version) >= OLDEST_MESA))
    return [{ command: backports }];
  const source = os.ID === "debian" ? sources.find((each) => backportsEntry(each, codename)) : undefined;
  if (!source) {
    const best = available[0] ? `the newest that apt offers here is ${available[0]}` : "apt offers none here";
    throw new Error(`Cannot install Mesa ${OLDEST_MESA} or newer: ${best}; ${byHand(os)}`);
  }
  const file = `/etc/apt/sources.list.d/wavegate-backports.${source.type === "deb822" ? "sources" : "list"}`;
  return [
    { command: ["tee", file], input: backportsEntry(source, codename) },
    { command: [...APT, "update"] },
    { command: backports },
  ];
}

/**
 * What a person without root, or without apt, should install.
 * @param {Record<string, string>} os
 */
export function byHand(os) {
  const family = `${os.ID ?? ""} ${os.ID_LIKE ?? ""}`;
  const table = [
    [
      /debian|ubuntu/,
      "apt-get install libvulkan1 mesa-vulkan-drivers (from the backports suite on Debian 12)",
    ],
    [/fedora|rhel/, "dnf install vulkan-loader mesa-vulkan-drivers"],
    [/arch/, "pacman -S vulkan-icd-loader vulkan-swrast"],
    [/alpine/, "apk add vulkan-loader mesa-vulkan-swrast"],
    [/suse/, "zypper install libvulkan1 libvulkan_lvp"],
  ];
  const found = table.find(([pattern]) => /** @type {RegExp} */ (pattern).test(family));
  const packages = found ? `: as root, ${found[1]}` : "";
  return `install a GPU driver, or the Vulkan loader and Mesa's CPU Vulkan driver, ${OLDEST_MESA} or newer${packages}`;
}

/** os-release of this machine, empty where there is none. */
export function readOsRelease() {
  return existsSync("/etc/os-release") ? parseOsRelease(readFileSync("/etc/os-release", "utf8")) : {};
}

/**
 * Installs the driver, or with `dryRun` prints what would be run.
 * @param {{ dryRun?: boolean, say: (line: string) => void }} options
 */
export function installMesa({ dryRun = false, say }) {
  const os = readOsRelease();
  if (!hasApt()) throw new Error(`Cannot find a WebGPU adapter: ${byHand(os)}`);
  if (!rootPrefix() && !dryRun)
    throw new Error(`Cannot find a WebGPU adapter, nor install one without root: ${byHand(os)}`);

  const options = { dryRun, say, advice: byHand(os) };
  say("no WebGPU adapter here: installing Mesa's CPU Vulkan driver through apt");
  run({ command: [...APT, "update"] }, options);
  const plan = planInstall({ os, ...mesaVersions(), sources: readSources() });
  for (const step of plan) run(step, options);
}

function mesaVersions() {
  const env = { ...process.env, LC_ALL: "C" };
  const policy =
    spawnSync("apt-cache", ["policy", "mesa-vulkan-drivers"], { encoding: "utf8", env }).stdout ?? "";
  const line = (/** @type {string} */ name) => {
    const value = new RegExp(`^  ${name}: (.*)$`, "m").exec(policy)?.[1];
    return value === "(none)" ? undefined : value;
  };
  const listed = [...policy.matchAll(/^ (?:\*\*\*| {3}) (\S+) -?\d+$/gm)].map(([, version]) => version);
  const candidate = line("Candidate");
  return { installed: line("Installed"), available: candidate ? [candidate, ...listed] : listed };
}

/** @returns {Source[]} */
function readSources() {
  const folder = "/etc/apt/sources.list.d";
  const names = existsSync(folder) ? readdirSync(folder).map((name) => `${folder}/${name}`) : [];
  return ["/etc/apt/sources.list", ...names]
    .filter((name) => /\.(sources|list)$/.test(name) && existsSync(name))
    .map((name) => ({
      type: name.endsWith(".sources") ? "deb822" : "list",
      text: readFileSync(name, "utf8"),
    }));
}
