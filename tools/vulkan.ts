/** The Vulkan drivers of this machine: the manifests that the Vulkan loader would find. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import * as v from "valibot";
import { object, parse } from "../src/io/schema.ts";

export interface VulkanDriver {
  readonly manifest: string;
  readonly library: string;
  readonly apiVersion: string;
}

const manifestSchema = object({ ICD: object({ library_path: v.string(), api_version: v.string() }) });

/** Drivers on Linux; undefined elsewhere, where WebGPU goes through Direct3D or Metal. */
export function vulkanDrivers(env: NodeJS.ProcessEnv = process.env): VulkanDriver[] | undefined {
  if (process.platform !== "linux") return undefined;
  return manifests(env).flatMap((manifest) => {
    try {
      const { ICD: icd } = parse(manifestSchema, JSON.parse(readFileSync(manifest, "utf8")), manifest);
      return [{ manifest, library: icd.library_path, apiVersion: icd.api_version }];
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
