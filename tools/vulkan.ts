/** Which Vulkan drivers this machine offers: the manifests that the Vulkan loader would find. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";

export interface VulkanDriver {
  readonly manifest: string;
  readonly library: string;
  readonly apiVersion: string;
}

/** Drivers on Linux; undefined elsewhere, where WebGPU goes through Direct3D or Metal. */
export function vulkanDrivers(env: NodeJS.ProcessEnv = process.env): VulkanDriver[] | undefined {
  if (process.platform !== "linux") return undefined;
  return manifests(env).flatMap((manifest) => {
    try {
      const { ICD: icd } = JSON.parse(readFileSync(manifest, "utf8"));
      return [{ manifest, library: String(icd.library_path), apiVersion: String(icd.api_version) }];
    } catch {
      return []; // the loader skips what it cannot read
    }
  });
}

/** The loader's order: variables that name the files, else the configuration and data folders. */
function manifests(env: NodeJS.ProcessEnv): string[] {
  const list = (value: string | undefined) => (value ?? "").split(delimiter).filter(Boolean);
  const named = env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES;
  if (named !== undefined) return list(named).flatMap(jsonIn);
  const home = homedir();
  const roots = [
    env.XDG_CONFIG_HOME ?? join(home, ".config"),
    ...list(env.XDG_CONFIG_DIRS ?? "/etc/xdg"),
    "/etc",
    env.XDG_DATA_HOME ?? join(home, ".local", "share"),
    ...list(env.XDG_DATA_DIRS ?? "/usr/local/share:/usr/share"),
  ];
  const folders = [...new Set(roots)].map((root) => join(root, "vulkan", "icd.d"));
  return [...list(env.VK_ADD_DRIVER_FILES), ...folders].flatMap(jsonIn);
}

function jsonIn(path: string): string[] {
  if (!existsSync(path)) return [];
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => join(path, name));
}
