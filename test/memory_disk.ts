/** A disk in memory, for tests of what is left of a run that is killed at any operation. */
import type { Host } from "../src/host/host.ts";

/** Bytes of files by path; "directory" for folders. */
export type Disk = Map<string, Uint8Array | "directory">;

/**
 * `host` with its files in `disk`. `after` is told of every change; one that takes several steps, such as the removal of
 * a folder or an append, tells of each. A file that is written whole is seen under its temporary name before.
 */
export function diskHost(host: Host, disk: Disk, after: () => void = () => {}): Host {
  const set = (path: string, value: Uint8Array | "directory") => {
    disk.set(path, value);
    after();
  };
  const bytesOf = (path: string): Uint8Array => {
    const found = disk.get(path);
    if (found instanceof Uint8Array) return found;
    throw Object.assign(new Error(`Cannot read ${path}: no such file or folder`), { code: "ENOENT" });
  };
  const needFolder = (path: string) => {
    const folder = path.slice(0, path.lastIndexOf("/"));
    if (folder !== "" && disk.get(folder) !== "directory")
      throw Object.assign(new Error(`Cannot write ${path}: no such file or folder`), { code: "ENOENT" });
  };
  const below = (path: string) =>
    [...disk.keys()].filter((key) => key === path || key.startsWith(`${path}/`));
  let files = 0;
  return {
    ...host,
    readText: async (path) => new TextDecoder().decode(bytesOf(String(path))),
    readBytes: async (path) => bytesOf(String(path)).slice(),
    async open(path) {
      const bytes = bytesOf(path);
      return {
        size: bytes.length,
        read: async (into, position) => into.set(bytes.subarray(position, position + into.length)),
        close: async () => {},
      };
    },
    async createAtomic(path) {
      needFolder(path);
      const temporary = `${path}.${String(++files).padStart(12, "0")}.tmp`;
      const pieces: Uint8Array[] = [];
      set(temporary, new Uint8Array(0));
      return {
        write: async (bytes) => void pieces.push(bytes.slice()),
        async commit() {
          needFolder(path);
          disk.delete(temporary);
          set(path, new Uint8Array(Buffer.concat(pieces)));
        },
        abort: async () => void disk.delete(temporary),
      };
    },
    kind: async (path) => {
      const found = disk.get(path);
      return found instanceof Uint8Array ? "file" : found;
    },
    async list(path) {
      if (disk.get(path) !== "directory") throw new Error(`Cannot list ${path}: no such file or folder`);
      const names = below(path).map((key) => key.slice(path.length + 1).split("/")[0]);
      return [...new Set(names)].filter((name) => name !== "").sort();
    },
    async makeDirectory(path) {
      const parts = path.split("/");
      for (let n = 1; n <= parts.length; n++) {
        const folder = parts.slice(0, n).join("/");
        if (!disk.has(folder)) set(folder, "directory");
      }
    },
    async append(path, bytes) {
      needFolder(path);
      const old = disk.get(path) instanceof Uint8Array ? bytesOf(path) : new Uint8Array(0);
      for (const part of [bytes.subarray(0, bytes.length >> 1), bytes])
        set(path, new Uint8Array(Buffer.concat([old, part])));
    },
    async rename(from, to) {
      needFolder(to);
      if (disk.get(to) === "directory") throw new Error(`Cannot write ${to}: a folder is there`);
      for (const key of below(from)) {
        disk.set(to + key.slice(from.length), disk.get(key)!);
        disk.delete(key);
      }
      after();
    },
    async remove(path) {
      // What lies deepest first, the last names first: a system may take any order.
      for (const key of below(path).sort().reverse()) {
        disk.delete(key);
        after();
      }
    },
  };
}
