/** Models by name on the command line: wavegate pull, and verbs that take a model. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { verb as evaluate } from "../tools/evaluate.ts";
import { locateFolder } from "../tools/workload.ts";
import { verb as inspect } from "../tools/inspect.ts";
import { verb as predict } from "../tools/predict.ts";
import { verb as pull } from "../tools/pull.ts";
import { verb as train } from "../tools/train.ts";
import { COMMIT, HubServer, hashOf } from "./hub_server.ts";
import { temporary } from "./temporary.ts";
import { runHere } from "./verb.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const demo = (name: string) => new Uint8Array(readFileSync(join(root, "weights/demo", name)));
const weights = demo("model.safetensors");
const config = '{"model_type":"bert","architectures":["BertModel"]}';
const revisions = { main: COMMIT, [COMMIT]: COMMIT };
const server = await HubServer.start({
  "org/encoder": { files: { "config.json": config, "model.safetensors": weights }, revisions },
  "org/whisper": {
    files: { "config.json": '{"model_type":"whisper"}', "model.safetensors": weights },
    revisions,
  },
});
after(() => server.stop());
beforeEach(() => {
  server.intercept = () => undefined;
  server.takeAsked();
});

/** Runs `body` with an empty cache, by the environment. */
const withCache = (body: (cache: string) => Promise<void>) =>
  temporary(async (cache) => {
    const names = [
      "HF_ENDPOINT",
      "HF_HUB_CACHE",
      "HF_HUB_OFFLINE",
      "HF_TOKEN",
      "HF_HOME",
      "TRANSFORMERS_OFFLINE",
    ];
    const before = names.map((name) => [name, process.env[name]] as const);
    for (const name of names) delete process.env[name];
    Object.assign(process.env, { HF_ENDPOINT: server.endpoint, HF_HUB_CACHE: cache, HF_HOME: cache });
    try {
      await body(cache);
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  });

const folderIn = (cache: string, name = "encoder") => join(cache, `models--org--${name}/snapshots`, COMMIT);

test("wavegate pull prints the folder, and tells of what came on stderr", async () => {
  await withCache(async (cache) => {
    const first = await runHere(pull, "org/encoder");
    assert.equal(first.error, undefined);
    assert.deepEqual(first.printed, [folderIn(cache)]);
    assert.match(first.notes[0], /^pull: config.json: \d+ B in /);
    assert.match(first.notes[1], /^pull: model.safetensors: \d+\.\d \wiB in /);
    assert.match(first.notes[2], /^pull: org\/encoder: 2 files of (\d+\.\d \wiB), \1 of them downloaded$/);
    assert.equal(first.notes.length, 3);
    const again = await runHere(pull, `org/encoder@${COMMIT}`, "--json");
    assert.deepEqual(again.json.models, [
      {
        ...{ id: "org/encoder", revision: COMMIT, commit: COMMIT, folder: folderIn(cache), downloaded: 0 },
        files: [
          { path: "config.json", bytes: config.length },
          { path: "model.safetensors", bytes: weights.length },
        ],
      },
    ]);
    const { error } = await runHere(pull, "encoder");
    assert.match(
      error!.message,
      /^Cannot read "encoder": models of the hub are named ORG\/NAME or ORG\/NAME@REV/,
    );
    const unknown = await runHere(pull, "org/whisper");
    assert.match(
      unknown.error!.message,
      /config.json: it is a Whisper model .*HuBERT, wav2vec 2.0 or BERT expected/,
    );
    assert.deepEqual(readdirSync(folderIn(cache, "whisper")), ["config.json"]);
  });
});

test("verbs take a model of the hub for a folder", async () => {
  await withCache(async (cache) => {
    const shown = await runHere(inspect, "org/encoder", "--keys");
    assert.equal(shown.error, undefined);
    assert.ok(shown.printed.length > 10);
    const path = folderIn(cache);
    const clip = join(root, "weights/demo/case.json");
    const { error: heard } = await runHere(predict, clip, "--model", "org/encoder");
    assert.ok(heard!.message.startsWith(`Cannot recognise with ${path}: it is a BertModel`), heard!.message);
    const { error: measured } = await runHere(evaluate, "--model", "org/encoder@main", "--data", "nowhere");
    assert.ok(
      measured!.message.startsWith(`Cannot recognise with ${path}: it is a BertModel`),
      measured!.message,
    );
    const out = join(cache, "run");
    const run = ["--system", "acoustic", "--data", join(cache, "nowhere"), "--out", out];
    server.takeAsked();
    const wrong = await runHere(train, ...run, "--hubert", "org/other", "--set", "nothing=1");
    assert.match(wrong.error!.message, /there is no key nothing/);
    assert.deepEqual(server.takeAsked(), []);
    const absent = await runHere(train, ...run, "--hubert", "org/other");
    assert.match(
      absent.error!.message,
      /^Cannot open model org\/other: there is no such folder, and from the hub: /,
    );
    const host = await currentHost();
    const output = {
      ...{ note() {}, signal: new AbortController().signal },
      progress: () => ({ update() {}, stop() {} }),
    };
    for (const [given, located] of [
      [["org/encoder"], [path]],
      [
        ["predict", "org/encoder"],
        ["predict", path],
      ],
      [["train"], ["train"]],
      [[], []],
    ])
      assert.deepEqual(await locateFolder(host, given, "tune", output), located);
    process.env.HF_HUB_OFFLINE = "1";
    const { error: offline } = await runHere(predict, clip, "--model", "org/none");
    assert.equal(
      offline!.message,
      `Cannot open model org/none: there is no such folder, and from the hub: HF_HUB_OFFLINE is set, and ${cache} holds no main of it; wavegate pull org/none downloads it where there is a network`,
    );
  });
});

/** `wavegate pull org/encoder` as a process of its own. */
function start(): { child: ChildProcess; ended: Promise<{ status: number | null; stderr: string }> } {
  const script = join(root, "tools/pull.ts");
  const loader = "Deno" in globalThis ? ["run", "-A", "--no-check"] : ["--import", "tsx"];
  const child = spawn(process.execPath, [...loader, script, "org/encoder"], { cwd: root });
  let stderr = "";
  child.stderr.on("data", (data) => {
    stderr += data;
  });
  const ended = new Promise<{ status: number | null; stderr: string }>((resolve) =>
    child.on("close", (status) => resolve({ status, stderr })),
  );
  return { child, ended };
}

/** Sends the weights in small parts; `onSent` is told how many bytes of them a request was sent. */
function slowly(onSent: (bytes: number) => void, part = 20_000): void {
  server.intercept = ({ host, range }, response, bytes) => {
    if (host !== "store") return;
    const from = Number(/\d+/.exec(range ?? "0"));
    const headers = range ? { "content-range": `bytes ${from}-${bytes!.length - 1}/${bytes!.length}` } : {};
    response.writeHead(range ? 206 : 200, headers);
    let at = from;
    const next = () => {
      if (response.destroyed) return;
      if (at >= bytes!.length) {
        response.end();
        return;
      }
      response.write(bytes!.subarray(at, at + part));
      at += part;
      onSent(at - from);
      setTimeout(next, 5);
    };
    next();
    return true;
  };
}

test("wavegate pull goes on where a killed one, and one that was told to stop, left off", async () => {
  await withCache(async (cache) => {
    const signals = ["SIGKILL", "SIGINT", "SIGKILL"] as const;
    for (const signal of signals) {
      const { child, ended } = start();
      let sent = false;
      slowly((bytes) => {
        if (bytes < 80_000 || sent) return;
        sent = true;
        child.kill(signal);
      });
      const { status, stderr } = await ended;
      assert.ok(sent, stderr);
      // Deno calls the status of a child that ends with 130 a signal.
      if (signal === "SIGINT" && !("Deno" in globalThis)) assert.equal(status, 130, stderr);
      if (signal === "SIGINT") assert.match(stderr, /pull: stopped; the next pull goes on from there/);
      const locks = readdirSync(join(cache, ".locks/models--org--encoder"));
      assert.equal(locks.includes("lock"), signal === "SIGKILL");
      assert.ok(!readdirSync(folderIn(cache)).includes("model.safetensors"));
    }
    server.intercept = () => undefined;
    const { status, stderr } = await start().ended;
    assert.equal(status, 0, stderr);
    const begins = server
      .takeAsked()
      .flatMap(({ host, range }) => (host === "store" ? [range ?? "bytes=0-"] : []));
    const from = begins.map((range) => Number(/\d+/.exec(range)));
    assert.equal(from.length, 4);
    assert.ok(
      from.every((begin, i) => i === 0 || begin > from[i - 1]),
      begins.join(),
    );
    const got = readFileSync(join(folderIn(cache), "model.safetensors"));
    assert.equal(hashOf("sha256", got), hashOf("sha256", weights));
  });
});

test("two processes that pull the same model download it once", async () => {
  await withCache(async (cache) => {
    slowly(() => {}, 200_000);
    const both = [start(), start()];
    const ends = await Promise.all(both.map(({ ended }) => ended));
    for (const { status, stderr } of ends) assert.equal(status, 0, stderr);
    assert.equal(server.takeAsked().filter(({ host }) => host === "store").length, 1);
    assert.deepEqual(readdirSync(join(cache, ".locks/models--org--encoder")), []);
  });
});
