/**
 * A hub on this machine, as far as pulling goes, and a second host to which it redirects for large files. Faults are put in by
 * `intercept`.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly host: "hub" | "store";
  readonly path: string;
  readonly range?: string;
  readonly authorization?: string;
  readonly encoding?: string;
}

/** Answers a request itself: true. */
type Intercept = (asked: Asked, response: ServerResponse, bytes?: Uint8Array) => boolean | undefined;

export interface ServedModel {
  /** Files that are stored as git stores them; those over 1,000 bytes are large, which are stored elsewhere. */
  readonly files: Readonly<Record<string, Uint8Array | string>>;
  /** Commits by revision. */
  readonly revisions: Readonly<Record<string, string>>;
}

const LARGE = 1000;
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
export const hashOf = (algorithm: "sha1" | "sha256", ...parts: (Uint8Array | string)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash(algorithm)).digest("hex");
const bytesOf = (content: Uint8Array | string) =>
  typeof content === "string" ? new TextEncoder().encode(content) : content;

export class HubServer {
  readonly asked: Asked[] = [];
  readonly #models: Readonly<Record<string, ServedModel>>;
  readonly #hub: Server;
  readonly #store: Server;
  intercept: Intercept = () => undefined;
  /** Entries on a page of a listing. */
  page = 3;
  /** Changes a listing. */
  list: (entries: Record<string, unknown>[]) => Record<string, unknown>[] = (entries) => entries;

  private constructor(models: Readonly<Record<string, ServedModel>>) {
    this.#models = models;
    this.#hub = createServer((request, response) => this.#answer("hub", request, response));
    this.#store = createServer((request, response) => this.#answer("store", request, response));
  }

  static async start(models: Readonly<Record<string, ServedModel>>): Promise<HubServer> {
    const server = new HubServer(models);
    for (const each of [server.#hub, server.#store])
      await new Promise<void>((resolve) => each.listen(0, "127.0.0.1", () => resolve()));
    return server;
  }

  async stop(): Promise<void> {
    for (const each of [this.#hub, this.#store]) {
      each.closeAllConnections();
      await new Promise((resolve) => each.close(resolve));
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  get store(): string {
    return `http://127.0.0.1:${(this.#store.address() as AddressInfo).port}`;
  }

  /** Paths of the files that were asked for since the last call. */
  takeAsked(): Asked[] {
    return this.asked.splice(0);
  }

  #answer(host: Asked["host"], request: IncomingMessage, response: ServerResponse): void {
    const { range, authorization } = request.headers;
    const encoding = String(request.headers["accept-encoding"]);
    const asked: Asked = { host, path: request.url!, range, authorization, encoding };
    this.asked.push(asked);
    const url = new URL(request.url!, this.endpoint);
    const [api, info] = [
      /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)(?:\/(.*))?$/.exec(url.pathname),
      /^\/api\/models\/([^/]+\/[^/]+)\/revision\/([^/]+)$/.exec(url.pathname),
    ];
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const model = this.#models[(api ?? info ?? file)?.[1] ?? ""];
    const content = file && model?.files[decodeURIComponent(file[3])];
    const bytes = content == null ? undefined : bytesOf(content);
    if (this.intercept(asked, response, bytes)) return;
    const commit = model?.revisions[decodeURIComponent((api ?? info ?? file)![2])];
    if (!model) refuse(response, 401, "RepoNotFound");
    else if (commit === undefined) refuse(response, 404, "RevisionNotFound");
    else if (info) json(response, { _id: "1", id: info[1], lastModified: 0, sha: commit });
    else if (api) this.#list(response, url, model, api[3]);
    else if (!bytes) refuse(response, 404, "EntryNotFound");
    else if (host === "hub" && bytes.length > LARGE)
      response.writeHead(302, { location: `${this.store}${request.url}?signed` }).end();
    else send(response, bytes, range);
  }

  #list(response: ServerResponse, url: URL, { files }: ServedModel, folder = ""): void {
    const prefix = folder === "" ? "" : `${folder}/`;
    const below = Object.keys(files).filter((path) => path.startsWith(prefix));
    const names = [...new Set(below.map((path) => path.slice(prefix.length).split("/")[0]))];
    const entries = names.map((name) => {
      const path = `${prefix}${name}`;
      if (!(path in files)) return { type: "directory", path, size: 0, oid: "0".repeat(40) };
      const bytes = bytesOf(files[path]);
      const oid = hashOf("sha1", `blob ${bytes.length}\0`, bytes);
      const lfs = { oid: hashOf("sha256", bytes), size: bytes.length, pointerSize: 134 };
      return { type: "file", path, size: bytes.length, oid, ...(bytes.length > LARGE ? { lfs } : {}) };
    });
    const from = Number(url.searchParams.get("cursor") ?? 0);
    const next = from + this.page;
    url.searchParams.set("cursor", String(next));
    const link = next < entries.length ? { link: `<${url.href}>; rel="next"` } : {};
    json(response, this.list(entries.slice(from, next)), link);
  }
}

function json(response: ServerResponse, value: unknown, headers = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
}

export function refuse(response: ServerResponse, status: number, code?: string, headers = {}): void {
  response.writeHead(status, { ...(code ? { "x-error-code": code } : {}), ...headers }).end("no");
}

/** Answers with bytes, or the range of them that was asked for. */
export function send(response: ServerResponse, bytes: Uint8Array, range?: string): void {
  const [, first] = /^bytes=(\d+)-$/.exec(range ?? "") ?? [];
  if (first === undefined) {
    response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    return;
  }
  const begin = Number(first);
  if (begin >= bytes.length) {
    response.writeHead(416).end();
    return;
  }
  const headers = {
    "content-range": `bytes ${begin}-${bytes.length - 1}/${bytes.length}`,
    "content-length": bytes.length - begin,
  };
  response.writeHead(206, headers).end(bytes.subarray(begin));
}
