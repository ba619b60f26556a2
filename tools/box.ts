/** The models that come with the package. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A model folder under weights/, one level up in a checkout and two in an installed package. */
export function boxed(name: "default" | "demo"): string | undefined {
  return [`../weights/${name}`, `../../weights/${name}`]
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(`${path}/config.json`));
}
