/** What Linux tells of a process in /proc/PID/stat. */
import { readFileSync } from "node:fs";

/** A field by its number in proc_pid_stat(5), which counts from 1: 4 the parent, 22 the start. Undefined where none is told. */
export function processField(pid: number, field: number): string | undefined {
  try {
    // "PID (NAME) STATE …", and a name may hold blanks and brackets; what follows it is field 3.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[field - 3];
  } catch {
    return undefined;
  }
}
