import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { after, beforeEach, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { type PulledModel, type PullOptions, pullModel, resolveModel } from "../src/hub/mod.ts";
import { modelName } from "../src/hub/name.ts";
import { type HubSettings, hubSettings } from "../src/hub/settings.ts";
import { type Asked, COMMIT, HubServer, hashOf, refuse, send } from "./hub_server.ts";
import { temporary } from "./temporary.ts";

const host = await currentHost();
const noise = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + seed, 2654435761) >>> 24);
const weights = noise(300_000);
const config = '{"model_type":"hubert"}';
const OTHER = "f".repeat(40);
const revisions = { main: COMMIT, [COMMIT]: COMMIT, v1: OTHER, [OTHER]: OTHER, "refs/pr/1": COMMIT };
const index = (...files: string[]) =>
  JSON.stringify({ weight_map: Object.fromEntries(files.map((file, i) => [`key${i}`, file])) });
const server = await HubServer.start({
  "org/model": {
    files: {
      ".gitattributes": "",
      "README.md": "card",
      "config.json": config,
      "vocab.json": "{}",
      "model.safetensors": weights,
      "pytorch_model.bin": weights,
      "tf_model.h5": weights,
      "bert/vocab.txt": "a\nb\n",
      "bert/notes.txt": "",
      "clips/config.json": "{}",
    },
    revisions,
  },
  "org/words": {
    files: {
      "config.json": config,
      "language_model/attrs.json": "{}",
      "language_model/3-gram.arpa": "grams",
      "language_model/3-gram.bin": "grams",
      "model.safetensors": noise(100, 5),
    },
    revisions,
  },
  "org/shards": {
    files: {
      "config.json": config,
      "model.safetensors.index.json": index(
        "model-1.safetensors",
        "model-2.safetensors",
        "model-1.safetensors",
      ),
      "model-1.safetensors": noise(2000, 1),
      "model-2.safetensors": noise(3000, 2),
      "model.fp16.safetensors": noise(3000, 3),
    },
    revisions,
  },
  "org/bin": { files: { "config.json": config, "pytorch_model.bin": weights }, revisions },
  "org/bins": {
    files: {
      "config.json": config,
      "pytorch_model.bin.index.json": index("pytorch_model-1.bin", "pytorch_model-2.bin"),
      "pytorch_model-1.bin": noise(2000),
    },
    revisions,
  },
  "org/flax": { files: { "config.json": config, "flax_model.msgpack": weights }, revisions },
  "org/bare": { files: { "model.safetensors": weights }, revisions },
});
after(() => server.stop());
beforeEach(() => {
  server.intercept = () => undefined;
  server.list = (entries) => entries;
  server.takeAsked();
});

interface Pulling {
  readonly settings: HubSettings;
  readonly notes: string[];
  readonly waits: number[];
  /** Pulls, and waits for nothing. */
  pull(name: string, options?: PullOptions): Promise<PulledModel>;
}

/** Pulls into an empty cache. */
const withCache = (body: (pulling: Pulling) => Promise<void>, more: Partial<HubSettings> = {}) =>
  temporary(async (cache) => {
    const settings = { endpoint: server.endpoint, cache, offline: false, timeout: 10, ...more };
    const [notes, waits]: [string[], number[]] = [[], []];
    const own: PullOptions = {
      settings,
      onNote: (line) => void notes.push(line),
      sleep: async (milliseconds) => void waits.push(milliseconds),
    };
    const pull = (name: string, options = {}) => pullModel(host, name, { ...own, ...options });
    await body({ settings, notes, waits, pull });
  });

const filesAsked = () =>
  server
    .takeAsked()
    .filter(({ path, host }) => host === "hub" && path.includes("/resolve/"))
    .map(({ path }) => path.replace(/^.*\/resolve\/\w+\//, ""));

/** All files below a folder, without those of locks. */
const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (path) => !statSync(join(folder, path)).isDirectory() && !path.startsWith(".locks"),
  );

test("pullModel() downloads what is read here, in the layout of huggingface_hub", async () => {
  const token = { value: "hf_secret", from: "HF_TOKEN" };
  await withCache(
    async ({ settings: { cache }, pull, notes }) => {
      const shown: string[] = [];
      const onProgress: PullOptions["onProgress"] = ({ path, bytes, of }) => {
        if (bytes === of && shown.at(-1) !== path) shown.push(path);
      };
      const model = await pull("org/model", { onProgress });
      const { folder, downloaded } = model;
      const names = ["config.json", "vocab.json", "bert/vocab.txt", "model.safetensors"];
      const repository = join(cache, "models--org--model");
      assert.equal(folder, join(repository, "snapshots", COMMIT));
      assert.deepEqual([model.revision, model.commit], ["main", COMMIT]);
      assert.deepEqual(filesBelow(folder).sort(), [...names].sort());
      assert.deepEqual(shown, names);
      assert.equal(downloaded, weights.length + config.length + 2 + 4);
      assert.deepEqual(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
      assert.equal(readFileSync(join(repository, "refs/main"), "utf8"), COMMIT);
      const link = (path: string) => readlinkSync(join(folder, path));
      assert.equal(link("model.safetensors"), `../../blobs/${hashOf("sha256", weights)}`);
      assert.equal(link("bert/vocab.txt"), `../../../blobs/${hashOf("sha1", "blob 4\0", "a\nb\n")}`);
      assert.equal(readdirSync(join(repository, "blobs")).length, 4);
      assert.deepEqual(readdirSync(join(cache, ".locks/models--org--model")), []);
      // The token goes to the hub alone, and nothing is asked for compressed.
      const asked = server.takeAsked();
      assert.ok(asked.some((each) => each.host === "store"));
      for (const each of asked) {
        assert.equal(each.authorization, each.host === "hub" ? "Bearer hf_secret" : undefined);
        assert.equal(each.encoding, "identity");
      }
      // What is there is not asked for again, except where it is cut off; also not for another name of the commit.
      assert.equal((await pull("org/model")).downloaded, 0);
      assert.deepEqual(filesAsked(), []);
      await truncate(join(folder, "model.safetensors"), 10);
      assert.equal((await pull("org/model@refs/pr/1")).downloaded, weights.length);
      assert.deepEqual(filesAsked(), ["model.safetensors"]);
      assert.equal(readFileSync(join(repository, "refs/refs/pr/1"), "utf8"), COMMIT);
      // Another commit with the same files takes their bytes from the cache.
      assert.equal((await pull("org/model@v1")).downloaded, 0);
      assert.deepEqual(filesAsked(), []);
      assert.equal(readdirSync(join(repository, "snapshots", OTHER)).length, 4);
      assert.deepEqual(notes, []);
    },
    { token },
  );
});

test("pullModel() takes safetensors before pickles, and all shards that an index names", async () => {
  await withCache(async ({ pull }) => {
    const holds = async (name: string) => filesBelow((await pull(name)).folder).sort();
    const shards = ["model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"];
    assert.deepEqual(await holds("org/shards"), ["config.json", ...shards]);
    assert.deepEqual(await holds("org/bin"), ["config.json", "pytorch_model.bin"]);
    await assert.rejects(pull("org/bins"), {
      message:
        "Cannot pull org/bins: pytorch_model.bin.index.json names pytorch_model-2.bin, which is not among its files",
    });
    await assert.rejects(pull("org/flax"), {
      message: /: it has neither model.safetensors nor pytorch_model.bin: it has flax_model.msgpack$/,
    });
    await assert.rejects(pull("org/bare"), { message: "Cannot pull org/bare: it has no config.json" });
    // What a caller does not want costs no more than its config.
    const check = () => Promise.reject(new Error("unknown"));
    server.takeAsked();
    await assert.rejects(pull("org/model", { check }), { message: "unknown" });
    assert.deepEqual(filesAsked(), ["config.json", "vocab.json", "bert/vocab.txt"]);
  });
});

test("pullModel() downloads a language model as ARPA file", async () => {
  await withCache(async ({ pull }) => {
    const { folder } = await pull("org/words");
    const names = [
      "config.json",
      "language_model/3-gram.arpa",
      "language_model/attrs.json",
      "model.safetensors",
    ];
    assert.deepEqual(filesBelow(folder).sort(), names);
    server.takeAsked();
  });
});

test("pullModel() goes on by ranges where connections are cut, and ends with the right bytes", async () => {
  await withCache(async ({ pull, notes }) => {
    let cuts = 0;
    server.intercept = ({ host: where, range }, response, bytes) => {
      if (where !== "store" || cuts === 20) return;
      cuts++;
      const from = Number(/\d+/.exec(range ?? "0"));
      const part = bytes!.subarray(from, from + 10_000 + 17 * cuts);
      const headers = { "content-length": bytes!.length - from };
      const ranged = { "content-range": `bytes ${from}-${bytes!.length - 1}/${bytes!.length}` };
      response.writeHead(range ? 206 : 200, { ...headers, ...(range ? ranged : {}) });
      response.write(part, () => setTimeout(() => response.destroy(), 5));
      return true;
    };
    const { folder, downloaded } = await pull("org/model");
    assert.equal(cuts, 20);
    assert.equal(downloaded, weights.length + config.length + 2 + 4);
    const ranges = server.takeAsked().flatMap((asked) => (asked.host === "store" ? [asked.range] : []));
    assert.equal(ranges.length, 21);
    const begins = ranges.slice(1).map((range) => Number(/^bytes=(\d+)-$/.exec(range!)![1]));
    assert.ok(
      begins.every((begin, i) => i === 0 || begin > begins[i - 1]),
      begins.join(),
    );
    assert.equal(
      hashOf("sha256", readFileSync(join(folder, "model.safetensors"))),
      hashOf("sha256", weights),
    );
    assert.deepEqual(notes, []);
  });
});

test("pullModel() begins anew where the server sends no ranges, or an earlier part was bad", async () => {
  await withCache(async ({ pull, settings, notes }) => {
    const blobs = join(settings.cache, "models--org--model/blobs");
    const incomplete = join(blobs, `${hashOf("sha256", weights)}.incomplete`);
    await mkdir(blobs, { recursive: true });
    await writeFile(incomplete, weights.subarray(0, 1234));
    server.intercept = ({ host: where }, response, bytes) => {
      if (where !== "store") return;
      send(response, bytes!);
      return true;
    };
    const { folder } = await pull("org/model");
    assert.deepEqual(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
    assert.deepEqual(notes, []);
    // A part of other bytes, and one that is too long.
    server.intercept = () => undefined;
    for (const [left, told] of [
      [noise(1234, 77), 1],
      [noise(weights.length + 1), 0],
      [weights, 0],
    ] as const) {
      await rm(join(folder, "model.safetensors"));
      await rm(join(blobs, hashOf("sha256", weights)));
      await writeFile(incomplete, left);
      await pull("org/model");
      assert.deepEqual(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
      assert.equal(notes.splice(0).length, told);
      assert.ok(!existsSync(incomplete));
    }
  });
});

test("pullModel() refuses bytes that are not those of the listing, and keeps none of them", async () => {
  const others = noise(weights.length, 5);
  type Fault = (response: import("node:http").ServerResponse, asked: Asked) => void;
  const faults: [name: string, fault: Fault, message: RegExp][] = [
    [
      "other bytes",
      (response) => send(response, others),
      /the SHA-256 of model.safetensors is \w{64}, expected/,
    ],
    [
      "a shorter file",
      (response) => send(response, weights.subarray(0, 5000)),
      /model.safetensors should have 300000 bytes, and comes with 5000; what came is removed$/,
    ],
    [
      "a longer file of unknown length",
      (response) => response.writeHead(200).end(noise(weights.length + 1)),
      /model.safetensors comes with more than the 300000 bytes that it should have/,
    ],
    [
      "a part from elsewhere",
      (response, { range }) => {
        if (range) response.writeHead(206, { "content-range": "bytes 7-9/300000" }).end("abc");
        else response.writeHead(200).write(weights.subarray(0, 100), () => response.destroy());
      },
      /model.safetensors comes from byte 7, asked for from \d+/,
    ],
    [
      "an end too early",
      (response, { range }) => {
        if (range) response.writeHead(416).end();
        else response.writeHead(200).end(weights.subarray(0, 100));
      },
      /model.safetensors should have 300000 bytes, and ends before byte 100/,
    ],
    [
      "a part of a longer file",
      (response) => response.writeHead(206, { "content-range": "bytes 0-9/10" }).end("0123456789"),
      /should have 300000 bytes, and comes with 10;/,
    ],
  ];
  for (const [name, fault, message] of faults) {
    await withCache(async ({ pull, settings: { cache } }) => {
      server.intercept = (asked, response) => {
        if (asked.host !== "store") return;
        fault(response, asked);
        return true;
      };
      await assert.rejects(pull("org/model"), { message }, name);
      assert.ok(!filesBelow(cache).some((path) => /incomplete|safetensors|refs/.test(path)), name);
    });
  }
  await withCache(async ({ pull, settings: { cache } }) => {
    server.intercept = ({ path }, response) => {
      if (!path.endsWith(`resolve/${COMMIT}/config.json`)) return;
      send(response, new TextEncoder().encode(config.replace("u", "U")));
      return true;
    };
    await assert.rejects(pull("org/model"), { message: /the git SHA-1 of config.json is \w{40}, expected/ });
    assert.deepEqual(filesBelow(cache), []);
  });
});

test("pullModel() gives up a download that brings nothing, and the next one goes on from there", async () => {
  await withCache(
    async ({ pull, waits, settings: { cache } }) => {
      let sent = false;
      server.intercept = ({ host: where }, response) => {
        if (where !== "store") return;
        if (sent) response.destroy();
        else response.writeHead(200).write(weights.subarray(0, 20_000)); // and then nothing
        sent = true;
        return true;
      };
      await assert.rejects(pull("org/model"), {
        message: /cannot be reached: the connection broke off, 5 times/,
      });
      assert.deepEqual(waits, [500, 500, 1000, 2000, 4000]);
      const name = `${hashOf("sha256", weights)}.incomplete`;
      assert.equal(statSync(join(cache, "models--org--model/blobs", name)).size, 20_000);
      server.intercept = () => undefined;
      server.takeAsked();
      await pull("org/model");
      assert.ok(server.asked.some(({ range }) => range === "bytes=20000-"));
    },
    { timeout: 0.3 },
  );
});

test("pullModel() says in one line why the hub gives a model not", async () => {
  const token = { value: "hf_x", from: "HF_TOKEN" };
  type Case = [status: number, headers: Record<string, string>, without: RegExp, withToken: RegExp];
  const wants = "it wants a token: set HF_TOKEN, or write it to HF_HOME/token$";
  const may = "the token of HF_TOKEN may not read it$";
  const cases: Case[] = [
    [401, {}, RegExp(`has no model of that name, or ${wants}`), RegExp(`no model of that name, or ${may}`)],
    [
      401,
      { "x-error-message": "Invalid credentials in Authorization header" },
      /has no model/,
      /^Cannot pull org\/model: 127\S+ does not take the token of HF_TOKEN: it is wrong, or was revoked$/,
    ],
    [
      403,
      { "x-error-code": "GatedRepo" },
      RegExp(`grant access at http://\\S+/org/model, and ${wants}`),
      RegExp(may),
    ],
    [403, { "x-error-message": "not for you" }, /refuses it \(not for you\); it wants a token/, RegExp(may)],
    [404, {}, /no model of that name/, /no model of that name/],
    [404, { "x-error-code": "RepoNotFound" }, /no model of that name/, /no model of that name/],
    [
      404,
      { "x-error-code": "RevisionNotFound" },
      /has no revision main of it$/,
      /has no revision main of it$/,
    ],
    [418, {}, /127\S+ answers 418$/, /answers 418$/],
    [429, { "retry-after": "4000" }, /answers 429, too many requests, and asks to wait 4000 s$/, /429/],
  ];
  for (const [status, headers, without, withToken] of cases) {
    server.intercept = (_, response) => {
      refuse(response, status, undefined, headers);
      return true;
    };
    for (const [message, more] of [
      [without, {}],
      [withToken, { token }],
    ] as const)
      await withCache(async ({ pull, waits, settings: { cache } }) => {
        await assert.rejects(pull("org/model"), ({ message: said }: Error) => {
          assert.match(said, message);
          assert.ok(!/\n|hf_x/.test(said));
          return true;
        });
        assert.deepEqual([waits, readdirSync(cache)], [[], []]);
      }, more);
  }
  await withCache(async ({ pull }) => {
    server.intercept = () => undefined;
    await assert.rejects(pull("org/model@v9"), {
      message: /^Cannot pull org\/model@v9: 127\S+ has no revision v9 of it$/,
    });
    await assert.rejects(pull("org/none"), {
      message: /^Cannot pull org\/none: 127\S+ has no model of that name/,
    });
    server.intercept = (_, response) => {
      response.writeHead(200, { "content-type": "text/html" }).end("<html>Log in to this network");
      return true;
    };
    await assert.rejects(pull("org/model"), {
      message: /^Cannot pull org\/model: http\S+ answers what no hub does: /,
    });
    server.intercept = () => undefined;
    server.list = (entries) => entries.map((entry) => ({ ...entry, oid: "../../x" }));
    await assert.rejects(pull("org/model"), {
      message: /answers what no hub does: Cannot use the listing of org\/model/,
    });
    server.list = (entries) => [
      ...entries,
      { ...entries[0], path: "../config.json" },
      { ...entries[0], path: "a/../b" },
    ];
    assert.ok(!(await pull("org/model")).files.some(({ path }) => path.includes("..")));
  });
});

test("pullModel() waits as long as the hub asks to, and tries again what may pass", async () => {
  const date = new Date(Date.now() + 30_000).toUTCString();
  const cases: [status: number, headers: Record<string, string>, least: number, most: number][] = [
    [429, { "retry-after": "7" }, 7000, 7000],
    [429, { "retry-after": date }, 25_000, 30_000],
    [429, { ratelimit: '"api";r=0;t=55' }, 55_000, 55_000],
    [503, {}, 500, 500],
    [500, {}, 500, 500],
    [408, {}, 500, 500],
  ];
  for (const [status, headers, least, most] of cases) {
    await withCache(async ({ pull, waits, notes }) => {
      let refused = 0;
      server.intercept = (_, response) => {
        if (refused++ > 0) return;
        refuse(response, status, undefined, headers);
        return true;
      };
      await pull("org/model");
      assert.equal(waits.length, 1);
      assert.ok(waits[0] >= least && waits[0] <= most, `${status}: ${waits}`);
      assert.equal(notes.length, most >= 5000 ? 1 : 0);
      if (most >= 5000) assert.match(notes[0], /^127\S+ answers 429, too many requests: waiting \d+ s$/);
    });
  }
  await withCache(async ({ pull, waits }) => {
    server.intercept = (_, response) => {
      refuse(response, 502);
      return true;
    };
    await assert.rejects(pull("org/model"), {
      message: /^Cannot pull org\/model: 127\S+ answers 502, 5 times$/,
    });
    assert.deepEqual(waits, [500, 1000, 2000, 4000]);
  });
});

test("pullModel() follows no redirect that leads nowhere", async () => {
  for (const [location, message] of [
    ["/again", /redirects in a circle$/],
    ["ftp://127.0.0.1/x", /redirects to ftp:\/\/127.0.0.1, https: expected$/],
  ] as const)
    await withCache(async ({ pull }) => {
      server.intercept = (_, response) => {
        response.writeHead(307, { location }).end();
        return true;
      };
      await assert.rejects(pull("org/model"), { message });
    });
});

test("pullModel() takes what the cache holds where the hub is out of reach, and says so", async () => {
  await withCache(async ({ pull, settings, notes }) => {
    const { cache } = settings;
    const gone = await HubServer.start({});
    const nowhere = gone.endpoint;
    await gone.stop();
    const how = "wavegate pull org/model downloads it where there is a network";
    const offline = { settings: { ...settings, offline: true } };
    const away = { settings: { ...settings, endpoint: nowhere } };
    await assert.rejects(pull("org/model", offline), {
      message: `Cannot pull org/model: HF_HUB_OFFLINE is set, and ${cache} holds no main of it; ${how}`,
    });
    const refused = /^Cannot pull org\/model: 127.0.0.1:\d+ cannot be reached: the connection was refused$/;
    await assert.rejects(pull("org/model", away), { message: refused });
    const { folder } = await pull("org/model");
    server.takeAsked();
    assert.equal((await pull("org/model", offline)).folder, folder);
    assert.equal((await pull(`org/model@${COMMIT}`, offline)).folder, folder);
    assert.equal(notes.length, 0);
    assert.equal((await pull("org/model", away)).folder, folder);
    assert.match(
      notes.splice(0).join(),
      /refused; taking org\/model as it is in the cache, commit 0123456789/,
    );
    server.intercept = (_, response) => {
      refuse(response, 503);
      return true;
    };
    assert.equal((await pull("org/model")).folder, folder);
    assert.match(notes.splice(0).join(), /answers 503, 5 times; taking/);
    // A commit in the cache is the same everywhere: it is not looked up.
    server.takeAsked();
    const open = (name: string) => resolveModel(host, name, { settings, onNote: (line) => notes.push(line) });
    assert.equal(await open(`org/model@${COMMIT}`), folder);
    assert.deepEqual([server.takeAsked(), notes], [[], []]);
    await rm(join(folder, "model.safetensors"));
    await rm(join(folder, "config.json"));
    await assert.rejects(pull("org/model", offline), {
      message: `Cannot pull org/model: HF_HUB_OFFLINE is set, and ${folder} lacks config.json, model.safetensors; ${how}`,
    });
    server.intercept = () => undefined;
    const sharded = (await pull("org/shards")).folder;
    await rm(join(sharded, "model-2.safetensors"));
    await assert.rejects(pull("org/shards", offline), { message: /lacks model-2.safetensors; / });
  });
});

test("pullModel() waits for another process that pulls the same model", async () => {
  await withCache(async ({ pull, settings, notes }) => {
    const lock = join(settings.cache, ".locks/models--org--model/lock");
    await mkdir(join(lock, ".."), { recursive: true });
    await writeFile(lock, JSON.stringify({ pid: 1, host: "another machine" }));
    let looks = 0;
    const sleep = async () => {
      if (++looks === 3) await rm(lock);
    };
    await pull("org/model", { sleep });
    assert.equal(looks, 3);
    assert.match(notes.join("\n"), /^waiting: Cannot pull in \S+: process 1 of another machine is at it; if/);
  });
});

test("pullModel() stops where it is told to, and where the disk has no room", async () => {
  await withCache(async ({ pull, settings }) => {
    const controller = new AbortController();
    server.intercept = ({ host: where }, response) => {
      if (where !== "store") return;
      response.writeHead(200).write(weights.subarray(0, 20_000));
      setTimeout(() => controller.abort(new Error("stopped")), 50);
      return true;
    };
    await assert.rejects(pull("org/model", { signal: controller.signal }), { message: "stopped" });
    assert.deepEqual(readdirSync(join(settings.cache, ".locks/models--org--model")), []);
    server.intercept = () => undefined;
    const full: Host = { ...host, freeDisk: async () => 1000 };
    await assert.rejects(pullModel(full, "org/model", { settings }), {
      message: `Cannot pull org/model: it takes 0 MiB more, and the disk of ${settings.cache} has 0 MiB left; HF_HUB_CACHE names another folder`,
    });
    // One that is full all the same.
    const files = filesBelow(settings.cache);
    const fuller: Host = {
      ...host,
      async openPartial(path) {
        const file = await host.openPartial(path);
        const write = () => Promise.reject(Object.assign(new Error("Cannot write"), { code: "ENOSPC" }));
        return { ...file, size: 0, write };
      },
    };
    await assert.rejects(pullModel(fuller, "org/model", { settings }), { message: "Cannot write" });
    assert.deepEqual(
      filesBelow(settings.cache),
      files.filter((path) => !path.endsWith(".incomplete")),
    );
  });
});

test("pullModel() needs no links, and no cache that it may write to where all is there", async () => {
  const linkless: Host = { ...host, link: async () => false };
  await withCache(async ({ settings }) => {
    const { folder } = await pullModel(linkless, "org/model", { settings });
    assert.deepEqual(new Uint8Array(readFileSync(join(folder, "model.safetensors"))), weights);
    assert.deepEqual(readdirSync(join(settings.cache, "models--org--model/blobs")), []);
    assert.equal((await pullModel(linkless, "org/model", { settings })).downloaded, 0);
  });
  await withCache(async ({ settings, pull, notes }) => {
    await pull("org/model");
    const sealed: Host = {
      ...host,
      createAtomic: () => Promise.reject(new Error("Cannot write: the file system is read-only")),
      makeDirectory: () => Promise.reject(new Error("Cannot create: the file system is read-only")),
    };
    await pullModel(sealed, "org/model", { settings });
    await pullModel(sealed, "org/model@refs/pr/1", { settings, onNote: (line) => notes.push(line) });
    assert.deepEqual(notes, [
      "refs/pr/1 of org/model is not remembered: Cannot create: the file system is read-only",
    ]);
  });
});

test("resolveModel() prefers a folder, and does not tell the hub of slips of the pen", async () => {
  await withCache(async ({ settings, pull }) => {
    const before = process.cwd();
    const notes: string[] = [];
    const resolve = (name: string) =>
      resolveModel(host, name, { settings, onNote: (line) => void notes.push(line) });
    try {
      process.chdir(settings.cache);
      await mkdir("org/model", { recursive: true });
      for (const path of ["org/model", "org", "./org/none", "/nowhere", "a/b/c", "org/model/"])
        assert.equal(await resolve(path), path);
      await assert.rejects(resolve("org/none"), {
        message:
          "Cannot open model org/none: the folder org holds none of that name; org/none@main is that of the hub",
      });
      assert.deepEqual([server.takeAsked(), notes], [[], []]);
      await assert.rejects(resolve("nobody/none"), {
        message:
          /^Cannot open model nobody\/none: there is no such folder, and from the hub: 127\S+ has no model/,
      });
      const { folder } = await pull("org/model");
      assert.equal(await resolve("org/model@main"), folder);
      assert.equal(await resolve("org/model"), "org/model");
      assert.deepEqual(notes, [
        "org/model is taken from this folder; org/model@main is the model of the hub",
      ]);
      await rm("org/model", { recursive: true });
      assert.equal(await resolve("org/model"), folder);
    } finally {
      process.chdir(before);
    }
  });
});

test("modelName() takes what the hub would, and no path", () => {
  assert.deepEqual(modelName("facebook/hubert-large-ls960-ft"), {
    ...{ id: "facebook/hubert-large-ls960-ft", revision: "main", pinned: false },
  });
  assert.deepEqual(modelName("a/b@refs/pr/1"), { id: "a/b", revision: "refs/pr/1", pinned: true });
  for (const text of "a|a/|/a|a/b/c|./a|a/..|../a|a/b--c|a/-b|a/b.git|a/b@|a/b@../x|a/b@a..b|a/b@/x|a/b@x/|a/b@ä b|~/a|a b/c|a\\b/c".split(
    "|",
  ))
    assert.equal(modelName(text), undefined, text);
});

test("hubSettings() reads the variables of huggingface_hub", async () => {
  await temporary(async (folder) => {
    const settings = (environment: Readonly<Record<string, string | undefined>>) =>
      hubSettings({ ...host, homeDirectory: () => folder, environment: (name) => environment[name] });
    const plain = await settings({});
    assert.deepEqual(plain, {
      endpoint: "https://huggingface.co",
      cache: `${folder}/.cache/huggingface/hub`,
      offline: false,
      token: undefined,
      timeout: 10,
    });
    const cacheOf = async (environment: Record<string, string>) => (await settings(environment)).cache;
    assert.equal(await cacheOf({ XDG_CACHE_HOME: "/x" }), "/x/huggingface/hub");
    assert.equal(await cacheOf({ HF_HOME: "~/hf", XDG_CACHE_HOME: "/x" }), `${folder}/hf/hub`);
    assert.equal(await cacheOf({ HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/c" }), "/c");
    assert.equal(
      await cacheOf({ HUGGINGFACE_HUB_CACHE: "/c", HF_HUB_CACHE: `$A/$${"{B}"}/$C`, A: "/a", B: "b" }),
      "/a/b/$C",
    );
    assert.equal((await settings({ HF_ENDPOINT: "http://mirror:1/" })).endpoint, "http://mirror:1");
    assert.equal((await settings({ HF_HUB_OFFLINE: "1" })).offline, true);
    assert.equal((await settings({ TRANSFORMERS_OFFLINE: "yes" })).offline, true);
    assert.equal((await settings({ HF_HUB_OFFLINE: "0" })).offline, false);
    await mkdir(`${folder}/.cache/huggingface`, { recursive: true });
    const file = `${folder}/.cache/huggingface/token`;
    await writeFile(file, "hf_file\n");
    assert.deepEqual((await settings({})).token, { value: "hf_file", from: file });
    assert.deepEqual((await settings({ HF_TOKEN: " hf_a\n" })).token, { value: "hf_a", from: "HF_TOKEN" });
    assert.equal((await settings({ HF_TOKEN: "hf_a", HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" })).token, undefined);
    const bad: [environment: Record<string, string>, message: string][] = [
      [
        { HF_ENDPOINT: "mirror" },
        "Cannot use HF_ENDPOINT: it is mirror but should be an address as https://huggingface.co",
      ],
      [
        { HF_TOKEN: "hf a" },
        "Cannot use the token in HF_TOKEN: it holds white space or letters that no token has",
      ],
      [
        { HF_HUB_DOWNLOAD_TIMEOUT: "x" },
        "Cannot use HF_HUB_DOWNLOAD_TIMEOUT: it is x but should be a number of seconds",
      ],
    ];
    for (const [environment, message] of bad) await assert.rejects(settings(environment), { message });
  });
});
