/** The package in a browser's tab: what a bundle holds, and what it computes in Chromium, beside the same in this runtime. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { buildSync, type Metafile } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { joined } from "../src/io/audio_stream.ts";
import { wav16Bytes } from "../src/io/wav.ts";
import { blocksOf, readPage } from "./markdown.ts";
import { installed, root, run, runScript } from "./package.ts";
import { serve, type WebServer } from "./web_server.ts";

const app = installed();
symlinkSync(join(root, "node_modules/esbuild"), join(app, "node_modules/esbuild"), "junction");
const site = join(app, "site");

/** Bundles without a setting beyond where it runs. Throws where a module of Node is reached. */
function bundle(name: string, contents: string): string {
  mkdirSync(site, { recursive: true });
  buildSync({
    stdin: { contents, resolveDir: app },
    outfile: join(site, name),
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    logLevel: "silent",
  });
  return readFileSync(join(site, name), "utf8");
}

const [snippet] = blocksOf(readPage("README.md"), "ts");
const clip = "Ses05M_impro04_F006.wav";
/** Most bytes, gzipped: measured, and a little. */
const [SNIPPET_BYTES, RECOGNISE_BYTES, RECORDING_BYTES] = [74_000, 138_000, 15_000];
const recognise = `
import { currentHost, openDevice, openRecognizer, readWav } from "wavegate";
export async function recognise(model) {
  const host = await currentHost();
  const device = await openDevice(host);
  const recognizer = await openRecognizer(host, device, model);
  const { samples } = await readWav(host, model + "/clips/${clip}");
  const [{ transcript, emotion, probabilities, gates }] = await recognizer.recognize([samples], { beam: 8 });
  device.dispose();
  return { words: transcript.words, emotion, probabilities, gates };
}
`;

/** Files of the page that are loaded together with an output of esbuild: those that it imports statically. */
function loadedWith(metafile: Metafile, entry: string): Set<string> {
  const loaded = new Set([entry]);
  for (const name of loaded)
    for (const { path, kind } of metafile.outputs[name].imports)
      if (kind === "import-statement") loaded.add(path);
  return loaded;
}

const gzipped = (files: Iterable<string>): number =>
  [...files].reduce((sum, name) => sum + gzipSync(readFileSync(join(app, name))).length, 0);

test("a bundle for the browser needs no setting, reaches no module of Node, and is small", () => {
  const whole = bundle("whole.js", `export * from "wavegate";`);
  assert.ok(!/require\("|from"node:|import\("node:/.test(whole));
  const atMost = (name: string, bytes: number, most: number) =>
    assert.ok(bytes <= most, `${name}: ${bytes} bytes, at most ${most} expected`);
  // One file each: what would be loaded on demand is in it too, the tokenizer, the systems of LSTMs, language models and the reader of .bin.
  atMost("snippet.js", gzipSync(bundle("snippet.js", snippet)).length, SNIPPET_BYTES);
  atMost("recognise.js", gzipSync(bundle("recognise.js", recognise)).length, RECOGNISE_BYTES);
  const script = "node_modules/wavegate/examples/browser/build.mjs";
  run(app, "node", script, "--out", site, "--metafile", join(app, "meta.json"));
  const metafile: Metafile = JSON.parse(readFileSync(join(app, "meta.json"), "utf8"));
  const page = loadedWith(metafile, "site/page.js");
  atMost("the page at once", gzipped(page), 100_000);
  const recording = Object.keys(metafile.outputs).find((name) => /^site\/recording-/.test(name))!;
  const first = [...loadedWith(metafile, recording)].filter((name) => !page.has(name));
  atMost("the page with its first recording", gzipped(first), RECORDING_BYTES);
  // What the model of the page does not need is not there.
  const loaded = [...page, ...first].flatMap((name) => Object.keys(metafile.outputs[name].inputs));
  assert.deepEqual(
    loaded.filter((path) => /(lstm|las|ctc|optimizer|sequence_classification|tokenizers)\.m?js$/.test(path)),
    [],
  );
});

const chromium = (process.env.PATH ?? "")
  .split(delimiter)
  .map((each) => join(each, "chromium"))
  .find((each) => existsSync(each));
const where = { skip: !chromium && "no chromium on the PATH: node tools/setup.mjs --chromium installs it" };

let [browser, page, web]: [Browser?, Page?, WebServer?] = [];
const errors: string[] = [];

before(async () => {
  if (!chromium) return;
  web = await serve(site, join(app, "node_modules/wavegate/weights"));
  const { chromium: launcher } = createRequire(import.meta.url)("playwright-core");
  const sound = join(root, "weights/default/clips", clip);
  browser = (await launcher.launch({
    executablePath: chromium,
    args: [
      ...["--no-sandbox", "--enable-unsafe-webgpu", "--use-fake-device-for-media-stream"],
      `--use-file-for-fake-audio-capture=${sound}`,
    ],
  })) as Browser;
  page = await browser.newPage({ viewport: { width: 1240, height: 1280 } });
  page.on("pageerror", (error) => errors.push(error.message));
});
after(async () => {
  await browser?.close();
  web?.close();
});

/** What a module of the site gives in the page. */
async function inPage<T>(code: string, argument?: unknown): Promise<T> {
  return (await page!.evaluate(`(async (argument) => { ${code} })(${JSON.stringify(argument)})`)) as T;
}

interface Recognised {
  readonly words: { text: string; start: number; end: number; confidence: number }[];
  readonly emotion: string;
  readonly probabilities: Record<string, number>;
  readonly gates: Record<string, number>;
}

test(
  "Chromium recognises the same words and probabilities, and computes the same gradients",
  where,
  async () => {
    writeFileSync(join(app, "recognise.mjs"), recognise);
    writeFileSync(
      join(app, "ask.mjs"),
      `import { recognise } from "./recognise.mjs"; import { bundledModel } from "wavegate"; import process from "node:process";
    console.log(JSON.stringify(await recognise(bundledModel()))); process.exit(0);`,
    );
    writeFileSync(
      join(app, "snippet.mjs"),
      `import process from "node:process";\n${snippet}\nprocess.exit(0);`,
    );
    const own: Recognised = JSON.parse(runScript(app, "ask.mjs"));
    await page!.goto(`${web!.url}/index.html`);
    const there = await inPage<Recognised>(
      `return await (await import("/recognise.js")).recognise("/default");`,
    );
    assert.equal(there.emotion, own.emotion);
    assert.deepEqual(
      there.words.map(({ text, start, end }) => [text, start, end]),
      own.words.map(({ text, start, end }) => [text, start, end]),
    );
    for (const part of ["probabilities", "gates"] as const)
      for (const [name, value] of Object.entries(own[part]))
        assert.ok(
          Math.abs(there[part][name] - value) < 1e-4,
          `${name}: ${there[part][name]}, ${value} expected`,
        );

    const numbers = (text: string) => [...text.matchAll(/-?\d+\.\d+(?:e-?\d+)?/g)].map(Number);
    const printed = inPage<string>(
      `return await new Promise((resolve) => {
      console.log = (...said) => resolve(said.map((values) => [...values].join(" ")).join(" "));
      import("/snippet.js");
    });`,
    );
    const [ours, theirs] = [numbers(runScript(app, "snippet.mjs")), numbers(await printed)];
    assert.equal(ours.length, 13);
    assert.equal(theirs.length, 13);
    for (const [i, value] of ours.entries())
      assert.ok(Math.abs(theirs[i] - value) < 1e-5, `${theirs} ${ours}`);
  },
);

test(
  "Chromium runs operators that are loaded after the device was opened, and kernels of a page with what they include",
  where,
  async () => {
    bundle(
      "late.js",
      `import { currentHost, gridFor, openDevice, Tensor, twin } from "wavegate";
      export async function late(source) {
        const device = await openDevice(await currentHost());
        const { softplus } = await import("wavegate/ops");
        const x = Tensor.from(device, Float32Array.of(0, 1, 2, 3), [4]);
        const [y, z] = [softplus(x), x.like()];
        twin("page/exp", source).run("forward", { x, y: z }, { size: 4 }, gridFor(4, 4));
        const found = [[...(await y.read())], [...(await z.read())]];
        device.dispose();
        return found;
      }`,
    );
    const shared = ["exp", "gelu", "grid", "random", "workgroup_sum", "workgroup_max"];
    // gelu includes sigmoid.
    const source = `struct Dims { size: u32 }
      @group(0) @binding(0) var<storage, read> x: array<f32>;
      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
      @group(0) @binding(2) var<uniform> d: Dims;
      override WG: u32 = 4;
      ${shared.map((name) => `\n#include "lib/${name}.wgsl"`).join("")}
      @compute @workgroup_size(WG)
      fn forward(@builtin(local_invocation_index) t: u32) { if (t < d.size) { y[t] = accurate_exp(vec4f(x[t])).x; } }`;
    await page!.goto(`${web!.url}/index.html`);
    const [soft, exp] = await inPage<number[][]>(
      `return await (await import("/late.js")).late(argument);`,
      source,
    );
    for (const [i, value] of soft.entries()) assert.ok(Math.abs(value - Math.log1p(Math.exp(i))) < 1e-5);
    for (const [i, value] of exp.entries()) assert.ok(Math.abs(value - Math.exp(i)) < 1e-4);
  },
);

test(
  "weights are read by ranges, again where the line breaks, and kept; what is no file is said",
  where,
  async () => {
    writeFileSync(
      join(site, "big.bin"),
      Uint8Array.from({ length: 9_000_000 }, (_, i) => i % 251),
    );
    bundle("files.js", `export { currentHost } from "wavegate";`);
    const open = `const host = await (await import("/files.js")).currentHost(); const attempt = (f) => f().catch((e) => e.message);`;
    const read = `${open} const file = await host.open(argument); const into = new Uint8Array(5_000_000);
    await file.read(into, 3_999_999); let sum = 0; for (const [i, x] of into.entries()) sum += x === (3_999_999 + i) % 251;
    await file.close(); return [file.size, sum];`;
    const { asked } = web!;
    let breaks = 2;
    web!.intercept = (path, request, response) => {
      if (path !== "/big.bin" || request.headers.range === "bytes=0-0" || breaks === 0) return false;
      breaks--;
      response.writeHead(206, {
        "content-length": "4194304",
        "content-range": "bytes 0-1/9000000",
        etag: '"9000000"',
      });
      response.write(new Uint8Array(1000));
      setTimeout(() => response.destroy(), 50);
      return true;
    };
    assert.deepEqual(await inPage(read, "/big.bin"), [9_000_000, 5_000_000]);
    assert.equal(breaks, 0);
    asked.length = 0;
    assert.deepEqual(await inPage(read, "/big.bin"), [9_000_000, 5_000_000]);
    assert.deepEqual([...new Set(asked)], ["GET /big.bin bytes=0-0"], "the blocks are kept");

    // Another version takes the place of the first.
    writeFileSync(
      join(site, "big.bin"),
      Uint8Array.from({ length: 9_500_000 }, (_, i) => i % 251),
    );
    assert.deepEqual(await inPage(read, "/big.bin"), [9_500_000, 5_000_000]);
    assert.equal(
      await inPage(`return (await caches.keys()).filter((name) => name.includes("big.bin")).length;`),
      1,
    );

    web!.intercept = (path, _, response) => {
      if (path === "/spa.json")
        response.writeHead(200, { "content-type": "text/html" }).end("<p>an application");
      else if (path === "/mine.json") response.writeHead(401).end();
      else if (path === "/whole.wav") response.writeHead(200).end("twelve bytes");
      else return false;
      return true;
    };
    const said = await inPage<unknown[]>(`${open}
    const whole = await host.open("/whole.wav"); const four = new Uint8Array(4); await whole.read(four, 7);
    const address = URL.createObjectURL(new Blob(["abc"]));
    return [
      await host.kind("/spa.json"), await host.kind("/nothing.json"), await host.kind("/default"), await host.kind("/nowhere"),
      await host.kind("/default/config.json"), new TextDecoder().decode(four), await host.readText(address),
      await attempt(() => host.readText("/spa.json")), await attempt(() => host.readText("/mine.json")),
      await attempt(() => host.readText("/nothing.json")), await attempt(() => whole.read(four, 10)),
      await attempt(() => host.list("/default")), await attempt(() => host.append("/x", four)),
      await attempt(() => host.gpu({ adapter: "nvidia" })),
    ];`);
    web!.intercept = undefined;
    assert.deepEqual(said.slice(0, 7), [undefined, undefined, "directory", undefined, "file", "byte", "abc"]);
    const lines = [
      /^Cannot read http.*\/spa\.json: the server answers with a page, as some do where no file is$/,
      /^Cannot read http.*\/mine\.json: the server answers 401 \(it wants a login\)$/,
      /^Cannot read http.*\/nothing\.json: the server answers 404 \(no such file\)$/,
      /^Cannot read http.*\/whole\.wav: it ends at byte 12, 2 bytes too early$/,
      /^Cannot list \/default: a browser cannot ask a server what a folder holds, name the file$/,
      /^Cannot write \/x: a page in a browser has no files of its own, use Node or Deno$/,
      /^Cannot find adapter 'nvidia': available are swiftshader$/,
    ];
    for (const [i, line] of lines.entries()) assert.match(String(said[7 + i]), line);
  },
);

/** All clips with pauses: 37 s. */
async function longRecording(): Promise<Uint8Array> {
  const host = await currentHost();
  const folder = join(root, "weights/default/clips");
  const clips = readdirSync(folder).filter((name) => name.endsWith(".wav"));
  const parts: Float32Array[] = [];
  for (const name of clips) {
    const { samples } = await readWav(host, join(folder, name));
    parts.push(samples, new Float32Array(3.3 * 16_000));
  }
  return wav16Bytes(joined(parts));
}

test(
  "the page shows words, emotion, gates and kernels of a clip, a file, a long file and the microphone",
  where,
  async () => {
    const shown = (name: string) =>
      page!.waitForFunction((part) => document.body.dataset.shown?.includes(part), name, { timeout: 60_000 });
    const text = async (id: string) => (await page!.locator(id).textContent()) ?? "";
    await page!.goto(`${web!.url}/`);
    await page!.locator("#device.ready, #device.failed").waitFor();
    assert.match(await text("#device"), /^google swiftshader, cpu kernels; model ready in \d+ ms$/);
    await page!.locator(`#clips [title="${clip}"]`).click();
    await shown(clip);
    assert.match(await text("#words"), /^THEY ARE SO \w+ TODAY$/);
    assert.match(await text("#times"), /^1\.60 s of sound in \d+ ms, [\d.]+ × its length$/);
    assert.equal(await page!.locator("#probabilities dt").count(), 4);
    assert.equal(await page!.locator("#wave rect").count(), 5);
    assert.equal(await page!.locator("#emotions path[data-tip]").count(), 4);
    assert.equal(await page!.locator("#gates path[data-tip]").count(), 5);
    assert.ok((await page!.locator("#timeline rect").count()) > 50);
    assert.match(await text("#kernels"), /^\d+ dispatches, [\d.]+ ms on the GPU/);
    await page!.locator("#timeline rect").first().hover({ timeout: 5000 });
    assert.match(await text("#tip"), /^\w+\.\w+\n.*\n[\d.]+ ms, \d+ × \d+ × \d+ workgroups$/);
    const picture = await page!.screenshot({ fullPage: true, path: process.env.WAVEGATE_SCREENSHOT });
    assert.ok(picture.length > 40_000, `${picture.length} bytes`);
    assert.equal(await page!.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);

    await page!.setInputFiles("#file", join(root, "package.json"));
    await page!.locator("#notice:not([hidden])").waitFor();
    assert.equal(
      await text("#notice"),
      "Cannot read the recording: it is nothing that this browser decodes, a recording expected",
    );
    await page!.setInputFiles("#file", join(root, "weights/default/clips/Ses05F_impro03_F000.wav"));
    await shown("Ses05F_impro03_F000.wav");
    assert.equal(await text("#words"), "I KNOW THAT HE BLESSED YOU");

    const long = join(app, "long.wav");
    writeFileSync(long, await longRecording());
    writeFileSync(
      join(app, "long.mjs"),
      `import { bundledModel, currentHost, openAudio, openDevice, openRecognizer, recognizeLong } from "wavegate";
    import process from "node:process";
    const host = await currentHost();
    const recognizer = await openRecognizer(host, await openDevice(host), bundledModel());
    const { segments } = await recognizeLong(recognizer, (await openAudio(host, "long.wav")).pieces);
    const shown = ({ start, emotion, transcript }) =>
      [\`0:\${String(Math.floor(start)).padStart(2, "0")}\`, emotion, transcript.text].join("");
    console.log(JSON.stringify(segments.map(shown))); process.exit(0);`,
    );
    const segments: string[] = JSON.parse(runScript(app, "long.mjs"));
    assert.ok(segments.length >= 8, `${segments.length} segments`);
    await page!.setInputFiles("#file", long);
    await page!.locator("#progress:not([hidden])").waitFor();
    await shown("long.wav");
    assert.deepEqual(await page!.locator("#segments li").allTextContents(), segments);
    assert.equal(await text("#words"), `${segments.length} segments of speech`);
    assert.match(await text("#heard"), /^0:\d\d of 0:\d\d heard$/);
    assert.equal(await page!.locator("#progress").isHidden(), true);
    assert.equal(await page!.locator("#emotions path[data-tip]").count(), 4);
    assert.equal(await page!.locator("#gates path[data-tip]").count(), 2 * segments.length);
    const { WAVEGATE_SCREENSHOT } = process.env;
    await page!.screenshot({
      fullPage: true,
      path: WAVEGATE_SCREENSHOT?.replace(/(\.\w+)?$/, "-long$1"),
    });

    await page!.locator("#record").click();
    await page!.locator("#notice:not([hidden])").waitFor();
    assert.match(await text("#notice"), /^Cannot use the microphone: it was refused;/);
    await page!.context().grantPermissions(["microphone"]);
    await page!.locator("#record").click();
    await page!.locator("#record.on").waitFor();
    await page!.waitForTimeout(1500);
    await page!.locator("#record").click();
    await shown("Recorded here");
    assert.notEqual(await text("#words"), "");
    assert.deepEqual(errors, []);
  },
);
