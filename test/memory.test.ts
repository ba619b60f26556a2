import assert from "node:assert/strict";
import { test } from "node:test";
import { Pool } from "../src/gpu/pool.ts";
import { availableMemory } from "../src/host/memory.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
/** What `files` leave of a machine with 18 GiB free. */
const left = (files: Record<string, string>) => availableMemory((path) => files[path], 18 * GiB);

test("availableMemory() is what the machine has where no limit stands, and off Linux", () => {
  assert.equal(left({}), 18 * GiB);
  const files = {
    "/proc/self/cgroup": "4:memory:/a\n0::/a\n",
    "/sys/fs/cgroup/a/memory.max": "max\n",
    "/sys/fs/cgroup/a/memory.current": "1000\n",
    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1000\n",
    "/proc/self/limits": "Max data size             unlimited            unlimited            bytes     \n",
  };
  assert.equal(left(files), 18 * GiB);
});

test("availableMemory() takes the least that a control group around the process leaves, files in memory not counted", () => {
  const files = {
    "/proc/self/cgroup": "0::/slice/pod/job\n",
    "/sys/fs/cgroup/slice/pod/job/memory.max": "max\n",
    "/sys/fs/cgroup/slice/pod/job/memory.high": "max\n",
    "/sys/fs/cgroup/slice/pod/memory.max": `${700 * MiB}\n`,
    "/sys/fs/cgroup/slice/pod/memory.current": `${300 * MiB}\n`,
    "/sys/fs/cgroup/slice/pod/memory.stat": `anon 1\ninactive_file ${90 * MiB}\nactive_file ${10 * MiB}\n`,
    "/sys/fs/cgroup/slice/memory.max": `${2 * GiB}\n`,
    "/sys/fs/cgroup/slice/memory.current": `${GiB}\n`,
  };
  assert.equal(left(files), 500 * MiB);
  assert.equal(left({ ...files, "/sys/fs/cgroup/slice/pod/job/memory.high": `${400 * MiB}\n` }), 400 * MiB);
  assert.equal(left({ ...files, "/sys/fs/cgroup/slice/memory.max": `${GiB}\n` }), 0);
});

test("availableMemory() reads version 1 of control groups", () => {
  const files = {
    "/proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/1\n0::/\n",
    "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": `${700 * MiB}\n`,
    "/sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": `${200 * MiB}\n`,
    "/sys/fs/cgroup/memory/docker/1/memory.stat": `inactive_file 7\ntotal_inactive_file ${50 * MiB}\n`,
  };
  assert.equal(left(files), 550 * MiB);
});

test("availableMemory() finds a container's limit where the path that it is told leads nowhere", () => {
  const files = {
    "/proc/self/cgroup": "0::/../../host/path\n",
    "/sys/fs/cgroup/memory.max": `${700 * MiB}\n`,
    "/sys/fs/cgroup/memory.current": `${200 * MiB}\n`,
  };
  assert.equal(left(files), 500 * MiB);
});

test("availableMemory() knows the limits of ulimit", () => {
  const limits = (name: string, most: number) =>
    `Limit                     Soft Limit           Hard Limit           Units     \n${name.padEnd(26)}${most}           unlimited            bytes     \n`;
  const status = `VmSize:\t  ${(3 * GiB) / 1024} kB\nVmData:\t  ${(100 * MiB) / 1024} kB\n`;
  const files = { "/proc/self/status": status };
  assert.equal(left({ ...files, "/proc/self/limits": limits("Max address space", 4 * GiB) }), GiB);
  assert.equal(left({ ...files, "/proc/self/limits": limits("Max data size", 600 * MiB) }), 500 * MiB);
});

/** A pool whose buffers take nothing, beside a memory that `free()` says is left. */
function poolBeside(free: () => number): Pool {
  const limits = { maxBufferSize: GiB, maxStorageBufferBindingSize: GiB };
  const createBuffer = () => ({ destroy() {} });
  const owner = { beforeDestroy() {}, onDestroy() {}, memoryLeft: free };
  return new Pool({ limits, createBuffer } as unknown as GPUDevice, Number.POSITIVE_INFINITY, owner);
}

test("Pool refuses a buffer that main memory has no room for any more", () => {
  let free = 300 * MiB;
  const pool = poolBeside(() => free);
  pool.acquire(64 * MiB);
  free = 80 * MiB;
  assert.throws(() => pool.acquire(32 * MiB), {
    name: "RangeError",
    message:
      "Cannot allocate 32.0 MiB on the GPU: 64.0 MiB are in use and 80.0 MiB of main memory are left, at least 128.0 MiB are needed",
  });
});

test("Pool counts buffers whose memory the driver has not taken yet, and measures anew once the work is done", () => {
  let free = 300 * MiB;
  const pool = poolBeside(() => free);
  for (let i = 0; i < 7; i++) pool.acquire(32 * MiB);
  assert.throws(() => pool.acquire(32 * MiB), {
    message: "Cannot allocate 32.0 MiB on the GPU: 224.0 MiB are in use and the limit is 236.0 MiB",
  });
  pool.settle(); // another program has ended meanwhile
  pool.acquire(32 * MiB);
  free = 70 * MiB;
  pool.settle();
  assert.throws(() => pool.acquire(8 * MiB), { message: /256.0 MiB are in use and the limit is 262.0 MiB/ });
});

test("Pool lets free buffers go between steps where another step would not fit beside them", () => {
  let free = 364 * MiB;
  const pool = poolBeside(() => free);
  const step = (count: number, size: number) => {
    const buffers = Array.from({ length: count }, () => pool.acquire(size));
    for (const buffer of buffers) pool.release(buffer);
  };
  step(4, 32 * MiB);
  free = 236 * MiB; // 172 may be added to 128
  pool.settle();
  assert.equal(pool.statistics.allocated, 128 * MiB);
  step(4, 40 * MiB);
  free = 76 * MiB; // 12 may be added to 288, and a step wants 160
  pool.settle();
  assert.equal(pool.statistics.allocated, 120 * MiB);
  assert.throws(() => pool.acquire(64 * MiB), { message: /288.0 MiB are in use and the limit is 300.0 MiB/ });
  free = 244 * MiB;
  pool.settle();
  pool.settle();
  step(3, 48 * MiB);
});
