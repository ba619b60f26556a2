/** Where the hub and its cache are, by the environment variables of Python's huggingface_hub. */
import type { Host } from "../host/host.ts";

/** Settings of all requests. */
export interface HubSettings {
  /** The hub's address, without a slash at its end. */
  readonly endpoint: string;
  /** The folder of the cache, which may not exist yet. */
  readonly cache: string;
  /** True: nothing is requested. */
  readonly offline: boolean;
  /** Says who asks. `from` names where it was found. */
  readonly token?: { readonly value: string; readonly from: string };
  /** Seconds without a byte after which a request is given up. */
  readonly timeout: number;
}

const ENDPOINT = "https://huggingface.co";
const TIMEOUT = 10;

/**
 * Reads HF_ENDPOINT, HF_HUB_CACHE (else HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or
 * ~/.cache/huggingface/hub), HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE), HF_TOKEN (else HUGGING_FACE_HUB_TOKEN, or the file
 * HF_TOKEN_PATH or HF_HOME/token), HF_HUB_DISABLE_IMPLICIT_TOKEN and HF_HUB_DOWNLOAD_TIMEOUT. Throws one line about a value
 * that cannot be meant.
 */
export async function hubSettings(host: Host): Promise<HubSettings> {
  const get = (name: string) => host.environment(name) || undefined;
  const path = (name: string) => expand(host, get(name));
  const home = path("HF_HOME") ?? `${get("XDG_CACHE_HOME") ?? `${host.homeDirectory()}/.cache`}/huggingface`;
  return {
    endpoint: endpointOf(get("HF_ENDPOINT")),
    cache: path("HF_HUB_CACHE") ?? path("HUGGINGFACE_HUB_CACHE") ?? `${home}/hub`,
    offline: isTrue(get("HF_HUB_OFFLINE") ?? get("TRANSFORMERS_OFFLINE")),
    token: isTrue(get("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
      ? undefined
      : await tokenOf(host, path("HF_TOKEN_PATH") ?? `${home}/token`),
    timeout: timeoutOf(get("HF_HUB_DOWNLOAD_TIMEOUT")),
  };
}

const isTrue = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? "");

/** A path with ~ and $NAME replaced, as Python's expanduser() and expandvars() do. */
function expand(host: Host, path: string | undefined): string | undefined {
  return path
    ?.replace(/^~(?=$|[/\\])/, () => host.homeDirectory())
    .replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, plain, braced) => host.environment(plain ?? braced) ?? whole);
}

function endpointOf(text = ENDPOINT): string {
  const url = parseUrl(text);
  if (!url || !/^https?:$/.test(url.protocol))
    throw new Error(`Cannot use HF_ENDPOINT: it is ${text} but should be an address as ${ENDPOINT}`);
  return text.replace(/\/+$/, "");
}

function parseUrl(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

async function tokenOf(host: Host, file: string): Promise<HubSettings["token"]> {
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
    const value = host.environment(name)?.trim();
    if (value) return checked({ value, from: name });
  }
  if ((await host.kind(file)) !== "file") return undefined;
  const value = (await host.readText(file)).trim();
  return value === "" ? undefined : checked({ value, from: file });
}

/** Throws where a token could not stand in a header; the message does not show it. */
function checked(token: { value: string; from: string }): HubSettings["token"] {
  if (/^[\x21-\x7e]+$/.test(token.value)) return token;
  throw new Error(`Cannot use the token in ${token.from}: it holds white space or letters that no token has`);
}

function timeoutOf(text: string | undefined): number {
  const seconds = text === undefined ? TIMEOUT : Number(text);
  if (seconds > 0 && Number.isFinite(seconds)) return seconds;
  throw new Error(`Cannot use HF_HUB_DOWNLOAD_TIMEOUT: it is ${text} but should be a number of seconds`);
}
