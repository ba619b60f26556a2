/**
 * Memory that this process may still take: what the machine has left, and what limits on the process leave of it. A
 * process that takes more is killed without a message. Runtimes see such limits in part or not at all.
 */

import { readFileSync } from "node:fs";
import { freemem } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { MemoryUsage } from "./host.ts";

/** The text of a file of the kernel's; undefined where there is none. */
export type Read = (path: string) => string | undefined;

const readSystem: Read = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
};

/** Bytes, the least of what machine, control groups (containers) and resource limits (ulimit) leave; never below 0. */
export function availableMemory(read: Read = readSystem, machine = freemem()): number {
  return Math.max(0, Math.min(machine, groupMemory(read), limitedMemory(read)));
}

/** What this process holds now. */
export function memoryUsage(): MemoryUsage {
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return { heap: heapUsed + arrayBuffers, process: rss };
}

/** Version 1 of control groups writes a number of pages near 2^63 bytes where there is no limit, version 2 "max". */
const NONE = 2 ** 60;

/** Where a version of control groups keeps its figures. */
const VERSIONS = [
  {
    line: /^\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?:(.*)$/m,
    root: "/sys/fs/cgroup/memory",
    limits: ["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    reclaimable: /^total_(?:in)?active_file (\d+)$/gm,
  },
  {
    line: /^0::(.*)$/m,
    root: "/sys/fs/cgroup",
    limits: ["memory.max", "memory.high"],
    usage: "memory.current",
    reclaimable: /^(?:(?:in)?active_file|slab_reclaimable) (\d+)$/gm,
  },
];

/** Every group around the process counts. In a container the outermost path that can be seen is the container's own. */
function groupMemory(read: Read): number {
  const groups = read("/proc/self/cgroup") ?? "";
  let least = Number.POSITIVE_INFINITY;
  for (const { line, root, limits, usage, reclaimable } of VERSIONS) {
    const names = line.exec(groups)?.[1].split("/").filter(Boolean);
    for (; names; names.pop()) {
      const at = (file: string) => read(join(root, ...names, file));
      const limit = Math.min(...limits.map((file) => number(at(file)) ?? NONE));
      if (limit < NONE) {
        const used = number(at(usage)) ?? 0;
        // Files that were read stay in memory and count as used, until someone needs the place.
        const cached = sum((at("memory.stat") ?? "").matchAll(reclaimable));
        least = Math.min(least, limit - Math.max(0, used - cached));
      }
      if (names.length === 0) break;
    }
  }
  return least;
}

/** What ulimit -v and -d leave. */
function limitedMemory(read: Read): number {
  const limits = read("/proc/self/limits") ?? "";
  const left = (limit: string, used: string) => {
    const most = number(new RegExp(`^${limit} +(\\d+)`, "m").exec(limits)?.[1]);
    if (most === undefined) return Number.POSITIVE_INFINITY;
    const taken = new RegExp(`^${used}:\\s+(\\d+) kB`, "m").exec(read("/proc/self/status") ?? "")?.[1];
    return most - (number(taken) ?? 0) * 1024;
  };
  return Math.min(left("Max address space", "VmSize"), left("Max data size", "VmData"));
}

function number(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text.trim()) ? Number(text) : undefined;
}

function sum(matches: Iterable<RegExpMatchArray>): number {
  let total = 0;
  for (const [, digits] of matches) total += Number(digits);
  return total;
}
