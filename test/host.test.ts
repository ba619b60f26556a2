import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { pointerReason } from "../src/host/pointer.ts";
import { quiet } from "../src/host/quiet.ts";

const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "host-test-"));
after(() => rmSync(folder, { recursive: true }));
const text = (value: string) => new TextEncoder().encode(value);

test("currentHost() is cached and names the runtime", async () => {
  assert.equal(await currentHost(), host);
  assert.equal(host.name, "Deno" in globalThis ? "deno" : "node");
  assert.match(host.describe(), /^(Node|Deno) \d+\.\d+\.\d+, \S+ \S+, .+, \d+ cores$/);
});

test("host.open() reads ranges and refuses to read past the end", async () => {
  const path = join(folder, "range.bin");
  writeFileSync(
    path,
    Uint8Array.from({ length: 100 }, (_, i) => i),
  );
  const file = await host.open(path);
  const into = new Uint8Array(5);
  await file.read(into, 90);
  assert.deepEqual([...into], [90, 91, 92, 93, 94]);
  assert.equal(file.size, 100);
  await assert.rejects(file.read(into, 97), {
    message: `Cannot read ${path}: it ends at byte 100, 2 bytes too early`,
  });
  await file.close();
});

test("host.openPartial() writes at the end of what is there, and host.link() makes links that a disk takes", async () => {
  const path = join(folder, "partial.bin");
  for (const [part, whole] of [
    ["ab", "ab"],
    ["cd", "abcd"],
  ]) {
    const file = await host.openPartial(path);
    await file.write(text(part));
    assert.equal(file.size, whole.length);
    await file.close();
    assert.equal(readFileSync(path, "utf8"), whole);
  }
  const file = await host.openPartial(path);
  await file.clear();
  await file.write(text("e"));
  await file.close();
  assert.equal(readFileSync(path, "utf8"), "e");
  await assert.rejects(host.openPartial(folder), { message: `Cannot write ${folder}: it is a folder` });
  const link = join(folder, "link");
  if (await host.link("partial.bin", link)) {
    assert.deepEqual(await host.entry(link), { kind: "file", id: (await host.entry(path))!.id, size: 1 });
    await assert.rejects(host.link("partial.bin", link), {
      message: `Cannot write ${link}: a file is there`,
    });
  }
  assert.ok((await host.freeDisk(folder))! > 0);
  assert.equal(await host.freeDisk(join(folder, "nowhere")), undefined);
  const digest = host.sha1();
  digest.update(text("abc"));
  assert.equal(digest.hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
});

test("host.makeDirectory() makes what is missing, and ends where nothing can be made", async () => {
  const path = join(folder, "one", "two", "three");
  await Promise.all(Array.from({ length: 8 }, () => host.makeDirectory(path)));
  await host.makeDirectory(`${path}/`);
  assert.equal(await host.kind(path), "directory");
  writeFileSync(join(folder, "one", "file"), "");
  await assert.rejects(host.makeDirectory(join(folder, "one", "file")), { message: /: a file is there$/ });
  await assert.rejects(host.makeDirectory(join(folder, "one", "file", "x")), {
    message: /: a part of the path is not a folder$/,
  });
  // No folder can be made there, and yet it is one.
  if (process.platform === "linux")
    await assert.rejects(host.makeDirectory("/proc/no/folder"), {
      message: /^Cannot create \/proc\/no\/folder: /,
    });
});

test("host.readText() takes a path or a URL and names what it cannot read", async () => {
  const path = join(folder, "text.txt");
  writeFileSync(path, "grüße");
  assert.equal(await host.readText(path), "grüße");
  assert.equal(await host.readText(pathToFileURL(path)), "grüße");
  assert.deepEqual([...(await host.readBytes(path))], [...text("grüße")]);
  const missing = join(folder, "missing");
  await assert.rejects(host.readText(missing), {
    message: `Cannot read ${missing}: no such file or folder`,
    code: "ENOENT",
  });
  await assert.rejects(host.open(missing), { message: `Cannot read ${missing}: no such file or folder` });
  await assert.rejects(host.open(folder), { message: `Cannot read ${folder}: it is a folder` });
  await assert.rejects(host.list(missing), { message: `Cannot list ${missing}: no such file or folder` });
});

test("host.createAtomic() shows the file only after commit() and leaves nothing after abort()", async () => {
  const home = mkdtempSync(join(folder, "atomic-"));
  const path = join(home, "target");
  writeFileSync(path, "old");
  const kept = await host.createAtomic(path);
  await kept.write(text("new "));
  await kept.write(text("words"));
  assert.equal(readFileSync(path, "utf8"), "old");
  await kept.commit();
  await kept.abort();
  assert.equal(readFileSync(path, "utf8"), "new words");
  const dropped = await host.createAtomic(path);
  await dropped.write(text("never"));
  await dropped.abort();
  await dropped.abort();
  assert.equal(readFileSync(path, "utf8"), "new words");
  assert.deepEqual(readdirSync(home), ["target"]);
});

test("host.createAtomic() removes its temporary file when commit() fails", async () => {
  const home = mkdtempSync(join(folder, "atomic-"));
  const path = join(home, "occupied");
  await host.makeDirectory(join(path, "inner"));
  const file = await host.createAtomic(path);
  await assert.rejects(file.commit(), (error: Error) => error.message.startsWith(`Cannot write ${path}: `));
  assert.deepEqual(readdirSync(home), ["occupied"]);
});

test("host.createAtomic() writes into pipes and devices and leaves them what they are", async (t) => {
  if (process.platform === "win32") return t.skip("there are none");
  const pipe = join(folder, "out.fifo");
  assert.equal(spawnSync("mkfifo", [pipe]).status, 0);
  await (await host.createAtomic(pipe)).abort(); // nobody reads it yet
  const reader = spawn("cat", [pipe], { stdio: ["ignore", "pipe", "ignore"] });
  let read = "";
  reader.stdout.on("data", (chunk) => {
    read += chunk;
  });
  const file = await host.createAtomic(pipe);
  await file.write(text("a,b\n"));
  await file.write(text("1,2\n"));
  await file.commit();
  await new Promise((resolve) => reader.on("close", resolve));
  assert.equal(read, "a,b\n1,2\n");
  assert.equal((await host.entry(pipe))?.kind, "pipe");
  const nowhere = await host.createAtomic("/dev/null");
  await nowhere.write(text("x"));
  await nowhere.commit();
  assert.equal((await host.entry("/dev/null"))?.kind, "other");
});

test("host.append(), kind(), list() and remove() act on files and folders", async () => {
  const home = join(folder, "a", "b");
  await host.makeDirectory(home);
  await host.append(join(home, "log"), text("one\n"));
  await host.append(join(home, "log"), text("two\n"));
  writeFileSync(join(home, "early"), "");
  assert.equal(await host.readText(join(home, "log")), "one\ntwo\n");
  assert.deepEqual(await host.list(home), ["early", "log"]);
  assert.equal(await host.kind(home), "directory");
  assert.equal(await host.kind(join(home, "log")), "file");
  await host.remove(home);
  await host.remove(home);
  assert.equal(await host.kind(home), undefined);
  assert.match(host.cacheDirectory(), /wavegate$/);
});

test("host.kind() takes what is there and cannot be read for a file, and reading says what it is", async (t) => {
  if (process.platform === "win32") return t.skip("links need rights there");
  const broken: [string, string, RegExp][] = [
    ["gone", "nowhere/else", /gone: it is a link to nowhere\/else, which is not there$/],
    ["loop", "loop", /loop: its links lead in a circle$/],
    [
      "annex",
      "../.git/annex/objects/a/b/SHA256E-s1--0/x",
      /annex: it is a git-annex pointer: run git annex get$/,
    ],
  ];
  for (const [name, target, message] of broken) {
    const path = join(folder, name);
    symlinkSync(target, path);
    assert.equal(await host.kind(path), "file");
    await assert.rejects(host.open(path), message);
    await assert.rejects(host.readText(path), message);
  }
  assert.equal(await host.kind(join(folder, "absent")), undefined);
  assert.equal(await host.kind(join(folder, "gone", "below")), undefined);
});

test("pointerReason() knows pointers behind a byte order mark and by whatever path, and no other text", () => {
  const lfs = "version https://git-lfs.github.com/spec/v1\r\noid";
  for (const head of [lfs, `\ufeff${lfs}`, `\xef\xbb\xbf${lfs}`]) assert.match(pointerReason(head)!, /LFS/);
  for (const head of [
    "/annex/objects/S",
    "../../.git/annex/objects/S",
    "/a/b/.git/annex/objects/S",
    ".git\\annex\\objects\\S",
  ])
    assert.match(pointerReason(head)!, /annex/);
  for (const head of ["", `{"at":"/a/.git/annex/objects/S"}`, "see /annex/objects/x", " version https://git"])
    assert.equal(pointerReason(head), undefined);
});

test("host.gpu() keeps one object for equal options and lists adapters when a name is unknown", async () => {
  assert.equal(await host.gpu(), await host.gpu());
  const { info } = (await (await host.gpu({ implementation: "dawn" })).requestAdapter())!;
  for (const implementation of ["dawn", host.name === "deno" ? "built-in" : "dawn"] as const) {
    await assert.rejects(host.gpu({ adapter: "abacus", implementation }), (error: Error) => {
      assert.match(error.message, /^Cannot find adapter 'abacus': available are \S.*$/);
      return true;
    });
  }
  const word = /\w+/.exec(info.description)![0].toUpperCase();
  const chosen = await (await host.gpu({ adapter: word, implementation: "dawn" })).requestAdapter();
  assert.equal(chosen!.info.description, info.description);
});

test("host.gpu() drops Dawn's checks on request, and refuses where the checks stay", async () => {
  const unsafe = await host.gpu({ implementation: "dawn", unsafeFast: true });
  assert.notEqual(unsafe, await host.gpu({ implementation: "dawn" }));
  assert.ok(await unsafe.requestAdapter());
  if (host.name === "deno")
    await assert.rejects(host.gpu({ unsafeFast: true }), {
      message: "Cannot use the built-in WebGPU with unsafeFast: it keeps its checks, dawn can drop them",
    });
});

test("host.gpu() says that Node has no WebGPU of its own", async (t) => {
  if (host.name === "deno") return t.diagnostic("Deno has one");
  await assert.rejects(host.gpu({ implementation: "built-in" }), /^Error: Cannot use the built-in WebGPU/);
});

/** Waits on a kernel of the given number of loops; answers its result and how long the wait took. */
async function job(device: GPUDevice, pipeline: GPUComputePipeline, loops: number) {
  const usage = GPU_USAGE;
  const out = device.createBuffer({ size: 256, usage: usage.STORAGE | usage.COPY_SRC });
  const back = device.createBuffer({ size: 256, usage: usage.MAP_READ | usage.COPY_DST });
  const count = device.createBuffer({ size: 4, usage: usage.UNIFORM, mappedAtCreation: true });
  new Uint32Array(count.getMappedRange())[0] = loops;
  count.unmap();
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [out, count].map((buffer, binding) => ({ binding, resource: { buffer } }));
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, back, 0, 256);
  device.queue.submit([encoder.finish()]);
  const begin = performance.now();
  await host.quiet(() => back.mapAsync(1));
  const ms = performance.now() - begin;
  const value = new Uint32Array(back.getMappedRange())[3];
  for (const buffer of [out, back, count]) buffer.destroy();
  return { ms, value };
}

const GPU_USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128 };

const LOOP = `
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@group(0) @binding(1) var<uniform> loops: u32;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
  var x = i;
  for (var n = 0u; n < loops; n++) { x = x * 1664525u + 1013904223u; }
  out[i] = x;
}`;

function lcg(loops: number): number {
  let x = 3;
  for (let n = 0; n < loops; n++) x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  return x;
}

for (const implementation of ["dawn", ...(host.name === "deno" ? (["built-in"] as const) : [])] as const) {
  test(`host.quiet() waits for ${implementation} with an idle main thread and an unchanged setImmediate`, async (t) => {
    const adapter = (await (await host.gpu({ implementation })).requestAdapter())!;
    const device = await host.quiet(() => adapter.requestDevice());
    const module = device.createShaderModule({ code: LOOP });
    const pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    const real = globalThis.setImmediate;
    const descriptor = Object.getOwnPropertyDescriptor(globalThis, "setImmediate");
    const seen = new Set<unknown>();
    const look = () => seen.add(globalThis.setImmediate);

    await job(device, pipeline, 1); // compiles
    let loops = 1 << 16;
    let result = await job(device, pipeline, loops);
    while (result.ms < 600 && loops < 1 << 30) {
      loops *= result.ms < 60 ? 8 : 2;
      result = await job(device, pipeline, loops);
    }
    assert.equal(result.value, lcg(loops));

    const timer = setInterval(look, 40);
    queueMicrotask(look);
    const begin = threadCpu();
    const started = performance.now();
    const all = await Promise.all([
      job(device, pipeline, loops),
      job(device, pipeline, 5),
      job(device, pipeline, loops),
    ]);
    const wall = performance.now() - started;
    const busy = threadCpu() - begin;
    clearInterval(timer);
    look();
    assert.deepEqual([...seen], [real]);
    assert.deepEqual(Object.getOwnPropertyDescriptor(globalThis, "setImmediate"), descriptor);
    assert.deepEqual(
      all.map((each) => each.value),
      [lcg(loops), lcg(5), lcg(loops)],
    );
    // The job before fits in the wait of the one behind it: answers come in order, none waits for the other's poll.
    assert.ok(all[1].ms < all[2].ms + 25, `${all[1].ms} ms against ${all[2].ms} ms`);
    if (implementation === "dawn") assert.ok(busy < 0.1 * wall, `${busy} ms of CPU in ${wall} ms`);
    t.diagnostic(`${busy.toFixed()} ms of CPU in ${wall.toFixed()} ms`);
    device.destroy();
  });
}

/** CPU milliseconds of this thread alone where the system tells (a CPU adapter works on other threads). */
function threadCpu(): number {
  if (process.platform !== "linux") return process.cpuUsage().user / 1000;
  const stat = readFileSync(`/proc/${readlinkSync("/proc/thread-self")}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

test("quiet() restores setImmediate when start() throws at once", async () => {
  const real = globalThis.setImmediate;
  await assert.rejects(
    quiet(() => {
      throw new RangeError("no");
    }),
    new RangeError("no"),
  );
  assert.equal(globalThis.setImmediate, real);
  await assert.rejects(
    quiet(() => Promise.reject(new TypeError("later"))),
    new TypeError("later"),
  );
});

test("quiet() leaves callbacks that are not Dawn's to the real setImmediate", async () => {
  const ran: string[] = [];
  const note = (...what: string[]) => void ran.push(...what);
  let waited: Promise<unknown> | undefined;
  await quiet(async () => {
    setImmediate(() => note("arrow"));
    setImmediate(note.bind(null, "bound"));
    setImmediate(note, "with", "values");
    assert.ok(setImmediate(note), "a handle to clear it by");
    waited = new Promise((resolve) => setImmediate(resolve, "value"));
  });
  assert.equal(await waited, "value");
  assert.deepEqual(ran, ["arrow", "bound", "with", "values"]);
});

test("quiet() waits where the global object is frozen", () => {
  const program = `
    const { default: process } = await import("node:process");
    const fixed = { value: setImmediate, writable: false, configurable: false };
    Object.defineProperty(globalThis, "setImmediate", fixed);
    const { currentHost } = await import("./src/host/current.ts");
    const host = await currentHost();
    const gpu = await host.gpu({ implementation: "dawn" });
    const device = await host.quiet(async () => (await gpu.requestAdapter()).requestDevice());
    await host.quiet(() => device.queue.onSubmittedWorkDone());
    console.log("waited");
    process.exit(0);`;
  const node = ["--import", "tsx", "--input-type", "module", "--eval"];
  const done = spawnSync(process.execPath, [...(host.name === "deno" ? ["eval"] : node), program], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    encoding: "utf8",
    timeout: 60_000,
  });
  assert.equal(done.stdout, "waited\n", done.stderr);
});
