// HTTP(S) for registries: kept-alive connections, redirects that don't carry credentials elsewhere, errors in a user's words. One request at a
// time each; what a status means is decided in registry-client.ts.
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Clock } from "../../base/clock.ts";
import { endUnlessConnected } from "../../base/connect-deadline.ts";
import { GantryError } from "../../base/errors.ts";
import type { RegistrySettings } from "./registry-config.ts";

export interface HttpRequest {
  readonly url: string;
  readonly method?: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly headers: Readonly<Record<string, string>>;
  /** Anew for each attempt. Its length stands in the headers. */
  readonly body?: string | (() => AsyncIterable<Uint8Array>) | undefined;
  readonly settings: RegistrySettings;
  readonly signal: AbortSignal;
}

const MAX_REDIRECTS = 5;
/** For the connection with its TLS handshake, as docker's: who is there answers within a second. */
const CONNECT_TIMEOUT_MS = 10_000;
const MAX_SOCKETS_PER_HOST = 8;
/** Certificate faults: trying again can't help, another configuration can. */
const TLS_ERROR = /^(?:CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|EPROTO|HOSTNAME_MISMATCH)/;

interface Agents {
  readonly "http:": http.Agent;
  readonly "https:": https.Agent;
}

export class HttpClient {
  readonly #clock: Clock;
  readonly #idleTimeoutMs: number;
  readonly #env: NodeJS.ProcessEnv;
  /** By proxy; "" is what the environment says. */
  readonly #agents = new Map<string, Agents>();

  constructor(clock: Clock, idleTimeoutMs: number, env: NodeJS.ProcessEnv) {
    this.#clock = clock;
    this.#idleTimeoutMs = idleTimeoutMs;
    this.#env = env;
  }

  #agentsFor(proxy: string): Agents {
    let agents = this.#agents.get(proxy);
    if (agents === undefined) {
      // proxyEnv: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as everyone's tools read them.
      const proxyEnv = proxy === "" ? this.#env : proxy === "none" ? {} : { HTTP_PROXY: proxy, HTTPS_PROXY: proxy };
      const options = { keepAlive: true, maxSockets: MAX_SOCKETS_PER_HOST, timeout: this.#idleTimeoutMs, proxyEnv };
      this.#agents.set(proxy, agents = { "http:": new http.Agent(options), "https:": new https.Agent(options) });
    }
    return agents;
  }

  /** The response's head; its body must be read or destroyed. Errors: "Timeout" when nothing came, "ServiceUnavailable" (retryable unless it is the certificate), "Cancelled". */
  async send(request: HttpRequest): Promise<IncomingMessage> {
    let url = new URL(request.url);
    let headers = request.headers;
    for (let redirects = 0; ; redirects++) {
      const response = await this.#once(url, headers, request);
      const { statusCode: status = 0, headers: { location } } = response;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined || !["GET", "HEAD"].includes(request.method ?? "GET")) return response;
      response.resume();
      const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
      if (redirects === MAX_REDIRECTS || next === undefined || !/^https?:$/.test(next.protocol)) {
        throw new GantryError("ServiceUnavailable", `${url.host} redirects ${redirects === MAX_REDIRECTS ? "in circles" : `to ${JSON.stringify(location)}`}`);
      }
      if (url.protocol === "https:" && next.protocol === "http:") {
        throw new GantryError("ServiceUnavailable", `${url.host} redirects to ${next.origin}, which is not encrypted`, { retryable: false });
      }
      // Storage behind a registry has its own authorization, in the URL; the registry's is nobody else's business.
      if (next.origin !== url.origin) headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== "authorization"));
      url = next;
    }
  }

  close(): void {
    for (const agents of this.#agents.values()) {
      agents["http:"].destroy();
      agents["https:"].destroy();
    }
  }

  #once(url: URL, headers: Readonly<Record<string, string>>, { method = "GET", body, settings, signal }: HttpRequest): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const protocol = url.protocol === "http:" ? "http:" : "https:";
      const options: https.RequestOptions = {
        method, signal, agent: this.#agentsFor(settings.proxy ?? "")[protocol], headers: { "user-agent": "gantry", ...headers },
        ...(settings.caPem === undefined ? {} : { ca: settings.caPem }),
        ...(settings.skipTlsVerify === true ? { rejectUnauthorized: false } : {}),
      };
      const request = protocol === "http:" ? http.request(url, options) : https.request(url, options);
      let silence: "Timeout" | "ServiceUnavailable" = "Timeout";
      request.setTimeout(this.#idleTimeoutMs, () => request.destroy(new GantryError(silence, `${url.host} sent nothing for ${this.#idleTimeoutMs / 1000} s`)));
      request.once("response", (response) => {
        silence = "ServiceUnavailable"; // in the middle of its answer
        resolve(response);
      });
      const limitMs = Math.min(CONNECT_TIMEOUT_MS, this.#idleTimeoutMs);
      endUnlessConnected(request, this.#clock, limitMs, () => new GantryError("Timeout", `cannot reach registry ${url.origin}: no connection within ${limitMs / 1000} s; check its name and port, and the network between`));
      // Also after the response began: without a listener a late error would end the process.
      request.on("error", (error) => reject(networkError(error, url.origin, signal)));
      if (typeof body !== "function") {
        request.end(body);
        return;
      }
      const feed = Readable.from(body(), { objectMode: false });
      // An answer before the end of the body is a refusal: what it says counts, not that the rest could not be sent.
      request.once("response", () => feed.unpipe(request));
      pipeline(feed, request).catch((error: unknown) => reject(networkError(error, url.origin, signal)));
    });
  }
}

/** Says what happened to a connection, and what to do about it. */
export const networkError = (error: unknown, origin: string, signal: AbortSignal): GantryError => {
  if (signal.aborted) return new GantryError("Cancelled", "was cancelled", { cause: signal.reason });
  if (error instanceof GantryError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? "";
  const unavailable = (why: string, retryable = true): GantryError => new GantryError("ServiceUnavailable", `cannot reach registry ${origin}: ${why}`, { cause: error, retryable });
  if (code === "ECONNREFUSED") return unavailable("nothing listens there; is it running?");
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return unavailable("its name cannot be resolved; check the name and this node's DNS", code === "EAI_AGAIN");
  if (code === "EPROTO" || code === "ERR_SSL_WRONG_VERSION_NUMBER") return unavailable("it does not speak TLS; if it is meant to be plain HTTP, set \"http\" for it in the registry configuration", false);
  if (TLS_ERROR.test(code)) return unavailable("its certificate is not trusted; give its CA as \"caPem\" in the registry configuration", false);
  return unavailable(code === "" ? "the connection broke" : `the connection broke (${code})`);
};
