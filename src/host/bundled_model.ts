/** The models that come with the package. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A model folder under weights/: two levels up in a checkout, three in an installed package, nowhere in a bundle. */
export function bundled(name: "default" | "demo"): string | undefined {
  if (!import.meta.url?.startsWith("file:")) return undefined;
  return [`../../weights/${name}`, `../../../weights/${name}`]
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(`${path}/config.json`));
}

/** The folder of the small bundled model. Throws an Error in a bundle, which leaves it behind. */
export function bundledModel(): string {
  const path = bundled("default");
  if (path === undefined)
    throw new Error(
      "Cannot find the bundled model: no weights/default lies beside this code (a bundle leaves it behind), name its folder",
    );
  return path;
}
