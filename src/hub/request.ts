/**
 * Requests to the hub. Waits where it is asked to, tries again where a failure may pass, follows redirects without giving the
 * token to another host, and says in one line why a request failed.
 */
import type { Host } from "../host/host.ts";
import { type ModelName, showName } from "./name.ts";
import type { HubSettings } from "./settings.ts";

/** What the requests for one model share. */
export interface Hub {
  readonly host: Host;
  readonly settings: HubSettings;
  readonly model: ModelName;
  /** Aborts whatever is going on; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Told of everything that is waited for. */
  readonly onNote: (line: string) => void;
  /** Waits; rejects where `signal` aborts. Tests wait less. */
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** The hub cannot give a model: "Cannot pull ORG/NAME: reason". */
export class HubError extends Error {
  /** What follows the name. */
  readonly reason: string;
  /** Whether the hub could not be asked, or could not answer: then what the cache holds may do. */
  readonly passing: boolean;

  constructor({ model }: Pick<Hub, "model">, reason: string, passing = false) {
    super(`Cannot pull ${showName(model)}: ${reason}`);
    this.reason = reason;
    this.passing = passing;
  }
}

/** Tries of a request, and of a download without a new byte. */
export const TRIES = 5;
/** Most seconds to wait because the hub asks to. */
const MAX_WAIT = 300;
const MAX_REDIRECTS = 10;
/** Most bytes of a listing. */
const MAX_TEXT = 64 * 2 ** 20;

/** Milliseconds before try `attempt` + 1: 0.5 s, 1 s, 2 s … */
export const pause = (attempt: number): number => 500 * 2 ** Math.max(0, attempt - 1);

/**
 * A response whose status is 200 or 206. `persistent`, for the parts of a file: tries again also where the host is not reached
 * at all, and takes 416, beyond the end.
 */
export async function request(
  hub: Hub,
  url: string,
  { headers = {}, persistent = false }: { headers?: Record<string, string>; persistent?: boolean } = {},
): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let failure: Failure;
    try {
      const response = await follow(hub, url, headers);
      const { status } = response;
      if (status === 200 || status === 206 || (persistent && status === 416)) return response;
      failure = refusal(hub, response);
      await response.body?.cancel().catch(() => {});
    } catch (error) {
      if (error instanceof HubError) throw error;
      hub.signal?.throwIfAborted();
      const { host } = new URL(url);
      const why = networkReason(error);
      const passes = persistent || !why.absent;
      failure = {
        reason: `${host} cannot be reached: ${why.text}${proxyHint(hub.host)}`,
        wait: passes ? 0 : undefined,
        passing: true,
      };
    }
    const wait = failure.wait === undefined ? undefined : Math.max(failure.wait * 1000, pause(attempt));
    if (wait === undefined || attempt === TRIES) {
      const tried = wait === undefined ? "" : `, ${TRIES} times`;
      throw new HubError(hub, `${failure.reason}${tried}`, failure.passing);
    }
    if (wait >= 5000) hub.onNote(`${failure.reason}: waiting ${Math.ceil(wait / 1000)} s`);
    await hub.sleep(wait);
  }
}

/** As request(), with the whole body, which is a text. For the library, which asks by it. */
export async function requestText(
  hub: Hub,
  url: string,
  headers: Record<string, string> = {},
): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const response = await request(hub, url, { headers });
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    try {
      for await (const chunk of chunks(hub, response)) {
        size += chunk.length;
        if (size > MAX_TEXT)
          throw new HubError(hub, `${new URL(url).host} answers with over ${MAX_TEXT} bytes`);
        parts.push(chunk);
      }
    } catch (error) {
      hub.signal?.throwIfAborted();
      if (error instanceof HubError) throw error;
      const reason = `the answer of ${new URL(url).host} broke off: ${networkReason(error).text}`;
      if (attempt === TRIES) throw new HubError(hub, reason, true);
      await hub.sleep(pause(attempt));
      continue;
    }
    return new Response(new Blob(parts), { status: response.status, headers: response.headers });
  }
}

/** The body as it comes. Throws where it breaks off, or nothing comes for too long. */
export async function* chunks(hub: Hub, { body }: Response): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  if (!body) return;
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await within(hub, reader.read());
      if (done) return;
      yield value as Uint8Array<ArrayBuffer>;
    }
  } finally {
    // Closes the connection where the body was not read to its end.
    await reader.cancel().catch(() => {});
  }
}

/** Throws where a promise takes longer than the timeout, or the signal aborts. */
function within<T>({ settings, signal }: Hub, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const { timeout } = settings;
    const late = () => reject(new Error(`nothing came for ${timeout} s`));
    const timer = setTimeout(late, timeout * 1000);
    const stop = () => reject(signal?.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    });
  });
}

async function follow(hub: Hub, from: string, headers: Record<string, string>): Promise<Response> {
  const { endpoint, token } = hub.settings;
  let url = new URL(from);
  for (let redirects = 0; ; redirects++) {
    const own = url.origin === new URL(endpoint).origin;
    const controller = new AbortController();
    // Bodies as they are stored: parts of a compressed one could not be told.
    const all = new Headers({ "user-agent": "wavegate", "accept-encoding": "identity", ...headers });
    if (own && token) all.set("authorization", `Bearer ${token.value}`);
    const response = await within(
      hub,
      fetch(url, { headers: all, redirect: "manual", signal: controller.signal }),
    ).catch((error) => {
      controller.abort();
      throw error;
    });
    const location = response.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return response;
    await response.body?.cancel().catch(() => {});
    if (redirects === MAX_REDIRECTS) throw new HubError(hub, `${url.host} redirects in a circle`);
    const next = new URL(location, url);
    if (next.protocol !== "https:" && (url.protocol === "https:" || next.protocol !== "http:"))
      throw new HubError(hub, `${url.host} redirects to ${next.protocol}//${next.host}, https: expected`);
    url = next;
  }
}

interface Failure {
  readonly reason: string;
  /** Seconds to wait at least before it is tried again; undefined where that is of no use. */
  readonly wait?: number;
  readonly passing: boolean;
}

/** Why the hub did not answer with what was asked for, by its status and the headers that huggingface_hub goes by. */
function refusal({ settings: { endpoint, token }, model }: Hub, { status, headers, url }: Response): Failure {
  const { host, origin } = new URL(url || endpoint);
  const code = headers.get("x-error-code");
  const message = headers.get("x-error-message")?.slice(0, 200) ?? "";
  const final = (reason: string): Failure => ({ reason, passing: false });
  // Where the bytes are, elsewhere, nobody knows of models and tokens.
  const hub = origin === new URL(endpoint).origin;
  const access = token
    ? `the token of ${token.from} may not read it`
    : "it wants a token: set HF_TOKEN, or write it to HF_HOME/token";
  if (status === 401 && token && /^Invalid (credentials|username|user token)/i.test(message))
    return final(`${host} does not take the token of ${token.from}: it is wrong, or was revoked`);
  if (code === "GatedRepo")
    return final(`its authors grant access at ${endpoint}/${model.id}, and ${access}`);
  if (code === "RevisionNotFound") return final(`${host} has no revision ${model.revision} of it`);
  if (code === "EntryNotFound") return final(`${host} has no ${decodeURIComponent(new URL(url).pathname)}`);
  if (code === "RepoNotFound" || (hub && (status === 401 || (status === 404 && code === null))))
    return final(`${host} has no model of that name, or ${access}`);
  if (hub && status === 403) return final(`${host} refuses it (${message || "403 Forbidden"}); ${access}`);
  if (status === 429) {
    const wait = waitOf(headers);
    if (wait <= MAX_WAIT) return { reason: `${host} answers 429, too many requests`, wait, passing: true };
    const reason = `${host} answers 429, too many requests, and asks to wait ${Math.ceil(wait)} s`;
    return { reason, passing: true };
  }
  const reason = `${host} answers ${status}${message && `, ${message}`}`;
  if (status === 408 || status >= 500)
    return { reason, wait: Math.min(waitOf(headers), MAX_WAIT), passing: true };
  return final(reason);
}

/** Seconds that Retry-After asks to wait, in seconds or until a date, or RateLimit; 0 where neither says. */
function waitOf(headers: Headers): number {
  const after = headers.get("retry-after") ?? "";
  const until = Date.parse(after);
  if (/^\d+$/.test(after)) return Number(after);
  if (Number.isFinite(until)) return Math.max(0, (until - Date.now()) / 1000);
  return Number(/\bt=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1] ?? 0);
}

const NETWORK: readonly (readonly [pattern: RegExp, text: string, absent: boolean])[] = [
  [/ECONNREFUSED|connection refused/i, "the connection was refused", true],
  [/ENOTFOUND|EAI_AGAIN|dns error|failed to lookup/i, "its name is not known here", true],
  [/ENETUNREACH|EHOSTUNREACH|unreachable/i, "no network leads there", true],
  [/CERT|certificate|SELF_SIGNED/i, "its certificate is not trusted here", true],
  [
    /ECONNRESET|EPIPE|UND_ERR_SOCKET|terminated|connection reset|closed|incomplete|body/i,
    "the connection broke off",
    false,
  ],
];

/** What went wrong on the way, in the words of either runtime; `absent`: where trying again at once is of no use. */
export function networkReason(error: unknown): { text: string; absent: boolean } {
  const { message = String(error), code, cause } = error as NodeJS.ErrnoException;
  const inner = cause as (NodeJS.ErrnoException & { errors?: NodeJS.ErrnoException[] }) | undefined;
  const told = [code, inner?.code, inner?.errors?.[0]?.code, inner?.message, message]
    .filter(Boolean)
    .join(" ");
  const [, text, absent] = NETWORK.find(([pattern]) => pattern.test(told)) ?? [];
  return { text: text ?? (inner?.message || message).split("\n")[0], absent: absent ?? false };
}

/** Node goes by no proxy unless it is told to. */
function proxyHint(host: Host): string {
  const proxy = ["HTTPS_PROXY", "https_proxy"].find((name) => host.environment(name));
  if (proxy === undefined || host.name !== "node" || host.environment("NODE_USE_ENV_PROXY")) return "";
  return `; Node goes by ${proxy} from version 24 on, with NODE_USE_ENV_PROXY=1`;
}
