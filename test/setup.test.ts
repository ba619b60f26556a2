import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { backportsEntry, byHand, majorVersion, parseOsRelease, planInstall } from "../tools/mesa.mjs";

const bookworm = { ID: "debian", VERSION_CODENAME: "bookworm" };
const deb822 = {
  type: "deb822" as const,
  text: `# the main archive
Types: deb deb-src
# taken from a snapshot
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY8aP
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`,
};
const list = {
  type: "list" as const,
  text: `# deb http://mirror.example/old bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main contrib
`,
};

/** The commands of a plan, without apt's own options. */
function commands(machine: Parameters<typeof planInstall>[0]): string[] {
  return planInstall(machine).map(({ command }) =>
    command.filter((word) => !/^-o$|^DPkg/.test(word)).join(" "),
  );
}

test("majorVersion() reads Debian versions, with and without an epoch", () => {
  assert.deepEqual(
    ["25.0.7-2~bpo12+1", "1:26.1-1", "22.3.6-1+deb12u1", undefined].map(majorVersion),
    [25, 26, 22, 0],
  );
});

test("parseOsRelease() reads bare and quoted values", () => {
  const text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID='debian'\n";
  assert.deepEqual(parseOsRelease(text), { PRETTY_NAME: "Debian GNU/Linux 12 (bookworm)", ...bookworm });
});

test("backportsEntry() copies the main archive's stanza with its key and changes only the suite", () => {
  assert.equal(
    backportsEntry(deb822, "bookworm"),
    `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY8aP
 -----END PGP PUBLIC KEY BLOCK-----
`,
  );
});

test("backportsEntry() copies the options of a one-line entry", () => {
  assert.equal(
    backportsEntry(list, "bookworm"),
    "deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm-backports main\n",
  );
});

test("backportsEntry() is undefined for another release and for a disabled entry", () => {
  assert.equal(backportsEntry(deb822, "trixie"), undefined);
  assert.equal(backportsEntry(list, "trixie"), undefined);
  const disabled = deb822.text.replace("Types: deb deb-src", "Enabled: no\nTypes: deb");
  assert.equal(backportsEntry({ type: "deb822", text: disabled }, "bookworm"), undefined);
});

test("planInstall() adds the backports suite where the release's Mesa is too old", () => {
  assert.deepEqual(commands({ os: bookworm, available: ["22.3.6-1"], sources: [list] }), [
    "tee /etc/apt/sources.list.d/wavegate-backports.list",
    "apt-get update",
    "apt-get install -y --no-install-recommends -t bookworm-backports libvulkan1 mesa-vulkan-drivers",
  ]);
});

test("planInstall() takes backports as they are where they are known", () => {
  const available = ["22.3.6-1", "25.0.7-2~bpo12+1", "22.3.6-1"];
  assert.deepEqual(commands({ os: bookworm, available, sources: [] }), [
    "apt-get install -y --no-install-recommends -t bookworm-backports libvulkan1 mesa-vulkan-drivers",
  ]);
});

test("planInstall() takes the release's own Mesa where it is new enough", () => {
  const os = { ID: "debian", VERSION_CODENAME: "trixie" };
  assert.deepEqual(commands({ os, available: ["25.0.7-2"], sources: [] }), [
    "apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers",
  ]);
});

test("planInstall() installs the loader alone where the driver is new enough", () => {
  const machine = { os: bookworm, installed: "26.0.1-1", available: ["26.0.1-1"], sources: [] };
  assert.deepEqual(commands(machine), ["apt-get install -y --no-install-recommends libvulkan1"]);
});

test("planInstall() says what to install where no archive has the driver", () => {
  const os = { ID: "ubuntu", ID_LIKE: "debian", VERSION_CODENAME: "jammy" };
  assert.throws(() => planInstall({ os, available: ["23.2.1-1ubuntu3"], sources: [list] }), {
    message:
      /^Cannot install Mesa 25 or newer: the newest that apt offers here is 23\.2\.1-1ubuntu3; install .* libvulkan1/,
  });
});

test("byHand() names the packages of the distribution", () => {
  assert.match(byHand({ ID: "fedora" }), /dnf install/);
  assert.match(byHand({ ID: "manjaro", ID_LIKE: "arch" }), /pacman -S/);
  assert.match(byHand({}), /driver, 25 or newer$/);
});

test("setup installs the packages again where one of them was removed", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wavegate-setup-"));
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  };
  await write("package.json", '{"dependencies":{"here":"1"},"devDependencies":{"@a/gone":"1"}}');
  await write("package-lock.json", "{}");
  await write("node_modules/here/package.json", "{}");
  await write("node_modules/.package-lock.json", "{}");
  await write(
    "npm-cli.js",
    'console.error("npm error " + process.argv.slice(2).join(" ")); process.exit(1);',
  );
  for (const name of ["setup.mjs", "apt.mjs", "mesa.mjs"])
    await cp(fileURLToPath(new URL(`../tools/${name}`, import.meta.url)), join(folder, "tools", name));
  const { status, stderr } = spawnSync("node", [join(folder, "tools/setup.mjs")], {
    encoding: "utf8",
    env: { ...process.env, npm_execpath: join(folder, "npm-cli.js") },
  });
  await rm(folder, { recursive: true });
  assert.equal(
    stderr,
    "setup: installing npm packages\nsetup: Cannot install npm packages: npm error ci --ignore-scripts --no-audit --no-fund; run npm ci by hand\n",
  );
  assert.equal(status, 1);
});
