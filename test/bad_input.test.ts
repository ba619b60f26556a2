/**
 * Bad input to the commands: one clear line, the right status, no stack trace, nothing on stdout. One of each kind is a
 * process, which shows that a verb's error ends there so; the others run here, where a command takes no second to start.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { writeWav16 } from "../src/io/wav.ts";
import { ArgumentError } from "../src/io/argument_error.ts";
import type { Verb } from "../tools/cli.ts";
import { firstLine } from "../tools/output.ts";
import { type Edited, editCheckpoint, floats } from "./checkpoint.ts";
import { runHere } from "./verb.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = `${root}weights/demo`;
const clip = `${demo}/clips/furious.wav`;
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "wavegate-bad-"));
});
after(() => rmSync(folder, { recursive: true }));

interface Ending {
  status?: number;
  /** Of a process. */
  env?: Record<string, string>;
  /** Dawn writes notes of its own where it opens an adapter. */
  opensGpu?: boolean;
  /** Whether it is a process; where `env` is given it always is. */
  spawned?: boolean;
}

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function spawned(verb: string, args: string[], env: Record<string, string> = {}): Ended {
  const command = [...runtime, `tools/${verb}.ts`, ...args];
  const options = { cwd: root, encoding: "utf8", env: { ...process.env, ...env } } as const;
  return spawnSync(process.execPath, command, options);
}

async function runHereAsCommand(name: string, args: string[]): Promise<Ended> {
  const { verb } = (await import(`../tools/${name}.ts`)) as { verb: Verb };
  const { status = 0, error, printed, notes } = await runHere(verb, ...args);
  const said = error ? [...notes, `wavegate ${name}: ${firstLine(error.message, args)}`] : notes;
  return {
    status: error ? (error instanceof ArgumentError ? 2 : 1) : status,
    stdout: printed.join("\n"),
    stderr: said.map((line) => `${line}\n`).join(""),
  };
}

/** Runs a verb and holds it to one line that matches. */
async function refuses(verb: string, args: string[], message: RegExp, ending: Ending = {}): Promise<void> {
  const { status = 1, env, opensGpu } = ending;
  const done = env || ending.spawned ? spawned(verb, args, env) : await runHereAsCommand(verb, args);
  const own = opensGpu ? done.stderr.replace(/^Warning: .*\n/gm, "") : done.stderr;
  assert.match(own, new RegExp(`^wavegate ${verb}: [^\\n]*\\n$`), `${verb} ${args.join(" ")}`);
  assert.match(own, message);
  assert.equal(done.stdout, "");
  assert.equal(done.status, status);
}

const predict = (args: string[], message: RegExp, ending?: Ending) =>
  refuses("predict", args, message, ending);

/** A copy of the demo's model, with `change` done to it. */
async function model(name: string, change: (path: string) => void | Promise<void>): Promise<string> {
  const path = join(folder, name);
  mkdirSync(path);
  for (const file of [
    "config.json",
    "model.safetensors",
    "vocab.json",
    "vocab.txt",
    "preprocessor_config.json",
  ])
    copyFileSync(`${demo}/${file}`, `${path}/${file}`);
  await change(path);
  return path;
}

const weights = (edit: (tensors: Map<string, Edited>) => void) => (path: string) =>
  editCheckpoint(`${demo}/model.safetensors`, `${path}/model.safetensors`, edit);
const config = (edit: (text: string) => string) => (path: string) =>
  writeFileSync(`${path}/config.json`, edit(readFileSync(`${demo}/config.json`, "utf8")));

test("predict refuses recordings that are none, too short, too long or damaged", async () => {
  const host = await currentHost();
  const path = (name: string) => join(folder, name);
  const good = readFileSync(clip);
  const damaged = (name: string, edit: (bytes: Buffer) => Buffer) =>
    writeFileSync(path(name), edit(Buffer.from(good)));
  damaged("empty.wav", () => Buffer.alloc(0));
  damaged("header.wav", (b) => b.subarray(0, 30));
  damaged("cut.wav", (b) => b.subarray(0, 20_000));
  damaged("codec.wav", (b) => {
    b.writeUInt16LE(85, 20);
    return b;
  });
  damaged("channels.wav", (b) => {
    b.writeUInt16LE(0, 22);
    return b;
  });
  damaged("text.wav", () => Buffer.from("Dear diary, today I was angry.\n".repeat(50)));
  damaged("song.wav", () => Buffer.concat([Buffer.from("ID3\x03"), Buffer.alloc(5000, 7)]));
  damaged("long.wav", (b) => {
    b.writeUInt32LE(600 * 32000, 40);
    b.writeUInt32LE(600 * 32000 + 36, 4);
    return b;
  });
  truncateSync(path("long.wav"), 600 * 32000 + 44);
  await writeWav16(host, path("none.wav"), new Float32Array(0));
  await writeWav16(host, path("short.wav"), new Float32Array(399).fill(0.1));

  const wrong: [string, RegExp][] = [
    ["empty.wav", /the file is empty, expected RIFF\/WAVE, MP3, FLAC or Ogg \(Vorbis, Opus\)$/m],
    ["none.wav", /it holds no samples$/m],
    ["short.wav", /it is too short: 24\.9 ms, at least 25 ms needed$/m],
    ["header.wav", /chunk "fmt " has 16 bytes, but only \d+ follow$/m],
    ["cut.wav", /it is cut off: \d+ bytes of samples announced, \d+ are there$/m],
    ["codec.wav", /its codec is MP3 \(tag 85\), expected PCM or float$/m],
    ["channels.wav", /it has 0 channels$/m],
    ["text.wav", /it is not a sound file, expected RIFF\/WAVE, MP3, FLAC or Ogg \(Vorbis, Opus\)$/m],
    ["song.wav", /it is cut off: it ends within its ID3 tag$/m],
    ["absent.wav", /no such file or folder$/m],
  ];
  for (const [i, [name, message]] of wrong.entries())
    await predict([path(name), "--model", demo], message, { spawned: i === 0 });
  const whole = [path("long.wav"), "--segments", "never", "--model", demo];
  await predict(whole, /it is too long: 600\.0 s, at most 300 s accepted$/m, { spawned: false });
});

test("predict refuses a model folder in which something is missing or wrong", async () => {
  const remove = (file: string) => (path: string) => rmSync(`${path}/${file}`);
  const wrong: [string, (path: string) => void | Promise<void>, RegExp][] = [
    ["no-letters", remove("vocab.json"), /it holds no vocab\.json, which the CTC decoder needs$/m],
    ["no-pieces", remove("vocab.txt"), /it holds neither tokenizer\.json nor vocab\.txt, which BERT needs$/m],
    ["no-config", remove("config.json"), /config\.json: no such file or folder$/m],
    ["no-weights", remove("model.safetensors"), /it holds no \*\.safetensors, expected model\.safetensors/],
    ["cut-config", config((text) => text.slice(0, 200)), /config\.json: not JSON, line \d+, column \d+: /],
    ["list", config(() => "[]"), /config\.json: it is \[\] but should be an object$/m],
    [
      "heads",
      config((t) => t.replace('"num_attention_heads": 4', '"num_attention_heads": 5')),
      /num_attention_heads is 5 but should be a divisor of hidden_size, \d+$/m,
    ],
    [
      "width",
      config((t) => t.replace('"d_s": 64', '"d_s": 65')),
      /d_s is 65 but should be HuBERT's hidden_size, 64$/m,
    ],
    [
      "cut-weights",
      (p) => truncateSync(`${p}/model.safetensors`, 100_000),
      /model\.safetensors: tensor "[^"]+" ends at byte \d+, but the buffer has \d+$/m,
    ],
    [
      "no-header",
      (p) => writeFileSync(`${p}/model.safetensors`, Buffer.alloc(64, 255)),
      /the header is \d+ bytes, at most 100000000 are allowed$/m,
    ],
    [
      "pickle",
      (p) => {
        rmSync(`${p}/model.safetensors`);
        writeFileSync(`${p}/pytorch_model.bin`, "x");
      },
      /pytorch_model\.bin: it is of an unknown kind, what torch\.save\(\) wrote expected$/m,
    ],
  ];
  for (const [i, [name, change, message]] of wrong.entries())
    await predict([clip, "--model", await model(name, change)], message, { spawned: i === 0 });
  await predict([clip, "--model", join(folder, "nowhere")], /Cannot open model .*nowhere: it is no folder$/m);
});

test("predict refuses weights that do not fit their config, or are not finite", async () => {
  const wrong: [string, (path: string) => Promise<void>, RegExp][] = [
    ["key", weights((t) => t.delete("cmgi.gate_s.weight")), /it holds no cmgi\.gate_s\.weight/],
    [
      "shape",
      weights((t) => Object.assign(t.get("lm_head.bias")!, { shape: [16, 2] })),
      /lm_head\.bias .*\(16, 2\).*\(32\)/,
    ],
    [
      "nan",
      weights((t) => {
        floats(t, "bert.encoder.layer.1.output.dense.bias")[3] = Number.NaN;
      }),
      /bert\.encoder\.layer\.1\.output\.dense\.bias holds a value that is not finite, at element 3$/m,
    ],
  ];
  for (const [i, [name, change, message]] of wrong.entries()) {
    const ending = { opensGpu: true, spawned: i === 0 };
    await predict([clip, "--model", await model(name, change)], message, ending);
  }
});

test("predict says so where there is no adapter, none of that name, or too little GPU memory", async () => {
  const voodoo = ["--adapter", "voodoo"];
  await predict([clip, "--model", demo, ...voodoo], /Cannot find adapter 'voodoo': available are ./, {
    opensGpu: true,
  });
  await predict(
    [clip, "--model", demo, "--memory", "0.25"],
    /Cannot allocate .* on the GPU: .* the limit is 262144 bytes$/m,
    { opensGpu: true, spawned: true },
  );
  if (process.platform !== "linux") return; // drivers are named by variables on Linux alone
  const env = { VK_DRIVER_FILES: join(folder, "no-driver.json") };
  const message = /Cannot open a GPU: no Vulkan driver is installed; `wavegate doctor` says how to get one$/m;
  await predict([clip, "--model", demo], message, { env });
  await refuses("validate", ["test/reference/bert-tiny"], message, { env });
  await refuses("profile", [demo], message, { env });
});

test("validate and profile refuse a case with damaged parts", async () => {
  const damage = (name: string, file: string, bytes: number) => {
    const path = join(folder, name);
    cpSync(`${root}test/reference/cmgi/small`, path, { recursive: true });
    truncateSync(`${path}/${file}`, bytes);
    return path;
  };
  const gpu = { opensGpu: true };
  const inputs = damage("inputs", "inputs.safetensors", 700);
  await refuses("validate", [inputs], /inputs\.safetensors: /, { ...gpu, spawned: true });
  await refuses(
    "validate",
    [damage("outputs", "outputs.safetensors", 4)],
    /outputs\.safetensors: the file is 4 bytes/,
    gpu,
  );
  await refuses("validate", [damage("case", "case.json", 20)], /case\.json: not JSON, /, gpu);
  await refuses("profile", [damage("whole", "config.json", 0)], /config\.json: not JSON, /);
});

test("wrong usage ends with status 2", async () => {
  const usage = { status: 2 };
  await predict([], /Cannot run without FILE…$/m, { ...usage, spawned: true });
  await predict([clip, "--beam", "0"], /Cannot read --beam 0: it is a whole number of at least 1$/m, usage);
  await predict(
    [clip, "--batch", "1.5"],
    /Cannot read --batch 1\.5: it is a whole number of at least 1$/m,
    usage,
  );
  await predict([clip, "--dtype", "f8"], /Cannot read --dtype f8: it is one of f32, f16$/m, usage);
  await predict([clip, "--memory", "0"], /Cannot read --memory 0: it is a number of MiB above 0$/m, usage);
  await predict([clip, "--loud"], /Unknown option '--loud'/, usage);
});
