/** A server of static files on this machine: ranges, HEAD and ETag, and faults where a test wants them. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
};

export interface WebServer {
  readonly url: string;
  /** What was asked for: "GET /a.bin bytes=0-9". */
  readonly asked: string[];
  /** Answers a request itself where it returns true. */
  intercept: ((path: string, request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  close(): void;
}

/** Serves the folders, the first that has a file. */
export async function serve(...folders: string[]): Promise<WebServer> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname.replace(/\/$/, "/index.html");
    const { range } = request.headers;
    web.asked.push([request.method, path, range].filter(Boolean).join(" "));
    if (web.intercept?.(path, request, response)) return;
    const file = folders
      .map((folder) => join(folder, path))
      .find((each) => existsSync(each) && statSync(each).isFile());
    if (file === undefined) return void response.writeHead(404).end();
    const all = readFileSync(file);
    const headers = {
      "content-type": TYPES[extname(path)] ?? "application/octet-stream",
      etag: `"${all.length}"`,
    };
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
    if (request.method === "HEAD") response.writeHead(200, headers).end();
    else if (first === undefined) response.writeHead(200, headers).end(all);
    else {
      const part = all.subarray(Number(first), Number(last) + 1);
      const content = `bytes ${first}-${Number(first) + part.length - 1}/${all.length}`;
      response.writeHead(206, { ...headers, "content-range": content }).end(part);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const web: WebServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: [],
    intercept: undefined,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
  return web;
}
