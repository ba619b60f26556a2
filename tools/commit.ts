/** Which version of the code runs. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The commit of the checkout that runs, with "-dirty" where files differ from it; undefined in an installed package. */
export function commitOf(): string | undefined {
  const root = fileURLToPath(new URL("..", import.meta.url));
  if (!existsSync(`${root}/.git`)) return undefined;
  try {
    const args = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    return execFileSync("git", args, {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined; // no git, or not allowed to read
  }
}
