// Pulls from and pushes to OCI registries: manifests and blobs, with mirrors, credentials, retries and resumption.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md (1.1)
import type { IncomingMessage } from "node:http";
import { backoffDelayMs, type BackoffPolicy } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError, GantryError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";
import { uploadBlob, type UploadBlob, type UploadTarget } from "./blob-upload.ts";
import type { Ingest } from "./content-store.ts";
import { digestOf, isDigest, matches, type Digest } from "./digest.ts";
import { HttpClient, networkError, type HttpRequest } from "./http-client.ts";
import { ACCEPTED_MANIFESTS, MAX_MANIFEST_BYTES } from "./manifest.ts";
import { formatReference, type Reference } from "./reference.ts";
import { basicHeader, credentialsFor, parseChallenge, parseToken, tokenRequest } from "./registry-auth.ts";
import { endpointsFor, type Endpoint, type RegistryConfig } from "./registry-config.ts";
import { throwIfAborted } from "./shared-task.ts";

export interface RegistryClientOptions {
  readonly registries: RegistryConfig;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly idleTimeoutMs: number;
  /** Where HTTP_PROXY, HTTPS_PROXY and NO_PROXY are read. */
  readonly env: NodeJS.ProcessEnv;
  readonly onBytes: (bytes: number) => void;
  /** Larger blobs are pushed in pieces of this size. */
  readonly chunkBytes?: number;
}

/** Where one image is pushed to. */
export interface PushTarget {
  /** `mountFrom`: repositories of the same registry that are thought to have the blob. Errors as for pulls. */
  blob(blob: UploadBlob, mountFrom: readonly string[], signal: AbortSignal, onProgress: (bytes: number) => void): Promise<"exists" | "mounted" | "uploaded">;
  manifest(selector: string, bytes: Uint8Array, mediaType: string, signal: AbortSignal): Promise<void>;
}

export interface FetchedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** One image's repository, wherever it is served from. */
export interface Repository {
  /** `selector` is a tag or a digest. Errors: "NotFound", "Unauthorized", "Invalid" (digest), "ServiceUnavailable", "Cancelled". */
  manifest(selector: string, signal: AbortSignal): Promise<FetchedManifest>;
  /** Fills and commits `ingest`, or closes it with what came so far. `onProgress` gets the bytes that are there. Errors as above. */
  blob(ingest: Ingest, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void>;
}

/** A place that answered, with the credential that it answered to. */
interface Source {
  readonly endpoint: Endpoint;
  readonly credential: RegistryCredential | undefined;
}

type Action = "pull" | "push" | "login";

interface Attempt {
  readonly method?: HttpRequest["method"];
  readonly headers?: Readonly<Record<string, string>>;
  /** Below /v2/REPOSITORY/, or a URL of the registry's. */
  readonly to: string | URL;
  readonly body?: HttpRequest["body"];
  readonly action?: Action;
  readonly signal: AbortSignal;
}

const ATTEMPTS = 5;
const RETRY: BackoffPolicy = { initialMs: 250, maxMs: 8_000, factor: 2, jitter: 1 };
const MAX_RETRY_AFTER_MS = 30_000;
const MAX_ERROR_BODY_BYTES = 64 * 1024;
/** A token is renewed this long before it ends, so that it does not end on its way. */
const TOKEN_MARGIN_MS = 10_000;
const MAX_TOKENS = 256;
/** As docker's engine: enough for all but the largest layers, small enough to send again. */
const CHUNK_BYTES = 64 * 1024 * 1024;

export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #http: HttpClient;
  /** Authorization headers that worked. */
  readonly #authorizations = new Map<string, { readonly header: string; readonly untilMs: number }>();

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    this.#http = new HttpClient(options.clock, options.idleTimeoutMs, options.env);
  }

  #sources(reference: Reference, credentials: readonly RegistryCredential[]): readonly Source[] {
    return endpointsFor(this.#options.registries, reference.registry, reference.repository).flatMap((endpoint): Source[] => {
      const fitting = credentialsFor(credentials, endpoint.host, endpoint.repository);
      return (fitting.length === 0 ? [undefined] : fitting).map((credential) => ({ endpoint, credential }));
    });
  }

  /** Tries the source that worked last, then the others in their order; the registry itself has the last word. */
  #anywhere(name: string, sources: readonly Source[]): <T>(what: string, work: (source: Source) => Promise<T>) => Promise<T> {
    let preferred: Source | undefined;
    return async <T>(what: string, work: (source: Source) => Promise<T>): Promise<T> => {
      const order = preferred === undefined ? sources : [preferred, ...sources.filter((s) => s !== preferred)];
      for (const [i, source] of order.entries()) {
        try {
          const result = await work(source);
          preferred = source;
          return result;
        } catch (error) {
          const failure = error instanceof GantryError ? error : new GantryError("InternalError", describeError(error), { cause: error });
          const last = i === order.length - 1;
          if (last || !isCode(failure, "NotFound", "Unauthorized", "ServiceUnavailable", "Timeout", "TooManyRequests", "Invalid")) {
            throw new GantryError(failure.code === "TooManyRequests" || failure.code === "Timeout" ? "ServiceUnavailable" : failure.code, `${what}: ${failure.message}`, { cause: failure.cause, retryable: failure.retryable });
          }
          this.#options.logger.debug("image source failed; trying the next", { image: name, registry: source.endpoint.origin, err: failure });
        }
      }
      throw new GantryError("InternalError", `${what}: no registry to ask`);
    };
  }

  repository(reference: Reference, credentials: readonly RegistryCredential[]): Repository {
    const name = formatReference(reference);
    const anywhere = this.#anywhere(name, this.#sources(reference, credentials));
    return {
      manifest: (selector, signal) => anywhere(name, (source) => this.#retrying(signal, () => this.#manifest(source, selector, signal))),
      blob: async (ingest, signal, onProgress) => {
        let committed = false;
        try {
          await anywhere(`${name}, blob ${ingest.digest}`, (source) => this.#blob(source, ingest, signal, onProgress));
          await ingest.commit();
          committed = true;
        } finally {
          if (!committed) await ingest.close().catch(() => undefined);
        }
      },
    };
  }

  /** Mirrors are left out: they follow by themselves. */
  pushTarget(reference: Reference, credentials: readonly RegistryCredential[]): PushTarget {
    const name = formatReference(reference);
    const { clock, random, chunkBytes = CHUNK_BYTES } = this.#options;
    const anywhere = this.#anywhere(name, this.#sources(reference, credentials).filter(({ endpoint }) => !endpoint.isMirror));
    return {
      blob: (blob, mountFrom, signal, onProgress) => anywhere(`${name}, blob ${blob.digest}`, (source) =>
        uploadBlob(this.#uploadTarget(source, signal), blob, { mountFrom, chunkBytes, clock, random, signal, onProgress })),
      manifest: (selector, bytes, mediaType, signal) => anywhere(name, (source) => this.#retrying(signal, async () => {
        const body = async function* (): AsyncGenerator<Uint8Array, void> {
          yield bytes;
        };
        const headers = { "content-type": mediaType, "content-length": String(bytes.length) };
        const response = await this.#send(source, { method: "PUT", to: `manifests/${selector}`, headers, body, action: "push", signal });
        if (response.statusCode !== 201) throw await this.#failure(source, response, `place for the manifest ${JSON.stringify(selector)}`, signal, "push");
        response.resume();
      })),
    };
  }

  /** Does this registry take these credentials? Errors: "Unauthorized", "ServiceUnavailable". */
  async login(registry: string, credential: RegistryCredential, signal: AbortSignal): Promise<void> {
    const sources = endpointsFor(this.#options.registries, registry, "").filter((e) => !e.isMirror).map((endpoint) => ({ endpoint, credential }));
    await this.#anywhere(registry, sources)(`login to ${registry}`, async (source) => {
      const response = await this.#send(source, { to: new URL(`${source.endpoint.origin}/v2/`), action: "login", signal });
      if (response.statusCode !== 200) throw await this.#failure(source, response, "API of version 2", signal, "login");
      response.resume();
    });
  }

  #uploadTarget(source: Source, signal: AbortSignal): UploadTarget {
    return {
      origin: source.endpoint.origin,
      send: (request) => this.#send(source, { ...request, action: "push", signal }),
      failure: (response, what) => this.#failure(source, response, what, signal, "push"),
    };
  }

  close(): void {
    this.#http.close();
  }

  async #manifest(source: Source, selector: string, signal: AbortSignal): Promise<FetchedManifest> {
    const response = await this.#send(source, { to: `manifests/${selector}`, headers: { accept: ACCEPTED_MANIFESTS.join(", ") }, signal });
    if (response.statusCode !== 200) throw await this.#failure(source, response, isDigest(selector) ? `manifest ${selector}` : `tag ${JSON.stringify(selector)}`, signal);
    const bytes = await readBody(response, MAX_MANIFEST_BYTES, source.endpoint.origin, signal);
    const stated = header(response, "docker-content-digest");
    const expected = isDigest(selector) ? selector : stated !== undefined && isDigest(stated) ? stated : digestOf(bytes);
    if (!matches(expected, bytes)) {
      throw new GantryError("Invalid", `registry ${source.endpoint.origin} sent a manifest with the digest ${digestOf(bytes)} instead of ${expected}: it is damaged or was tampered with`);
    }
    return { digest: expected, mediaType: (header(response, "content-type")?.split(";")[0] ?? "").trim(), bytes };
  }

  /** Goes on where it broke off. Gives up after ATTEMPTS in a row that brought nothing, or when the content is wrong twice. */
  async #blob(source: Source, ingest: Ingest, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void> {
    for (let fruitless = 0, wrong = 0; ;) {
      const before = ingest.offsetBytes;
      try {
        if (before < ingest.sizeBytes || ingest.sizeBytes === 0) await this.#blobOnce(source, ingest, signal, onProgress);
        if (ingest.verify()) return;
        if (ingest.offsetBytes === ingest.sizeBytes) {
          await ingest.reset();
          // Once may be an old part that was damaged on disk; a whole fresh download that is wrong is the registry's doing.
          if (before === 0 || ++wrong > 1) {
            throw new GantryError("Invalid", `registry ${source.endpoint.origin} sent content that does not have this digest: it is damaged or was tampered with`);
          }
          continue;
        }
        throw new GantryError("ServiceUnavailable", `registry ${source.endpoint.origin} sent ${ingest.offsetBytes} of ${ingest.sizeBytes} bytes`);
      } catch (error) {
        throwIfAborted(signal);
        if (!(error instanceof GantryError) || !error.retryable) throw error;
        fruitless = ingest.offsetBytes > before ? 1 : fruitless + 1;
        if (fruitless >= ATTEMPTS) throw error;
        this.#options.logger.debug("blob download broke off; going on", { registry: source.endpoint.origin, blob: ingest.digest, offsetBytes: ingest.offsetBytes, err: error });
        await this.#options.clock.sleep(this.#delayMs(error, fruitless), signal).catch(() => throwIfAborted(signal));
      }
    }
  }

  async #blobOnce(source: Source, ingest: Ingest, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void> {
    const from = ingest.offsetBytes;
    const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
    const response = await this.#send(source, { to: `blobs/${ingest.digest}`, headers, signal });
    const { statusCode: status } = response;
    if (status === 416) {
      response.resume();
      await ingest.reset();
      throw new GantryError("ServiceUnavailable", `registry ${source.endpoint.origin} does not have the rest of this blob`);
    }
    if (status !== 200 && status !== 206) throw await this.#failure(source, response, "blob", signal);
    // A registry may ignore the range and send all of it.
    const start = status === 206 ? Number(/^bytes (\d+)-/.exec(header(response, "content-range") ?? "")?.[1] ?? Number.NaN) : 0;
    if (start !== from && start !== 0) {
      response.destroy();
      throw new GantryError("ServiceUnavailable", `registry ${source.endpoint.origin} answered the range from ${from} with ${JSON.stringify(header(response, "content-range"))}`, { retryable: false });
    }
    if (start !== from) await ingest.reset();
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        await ingest.append(chunk);
        this.#options.onBytes(chunk.length);
        onProgress(ingest.offsetBytes);
      }
    } catch (error) {
      throw networkError(error, source.endpoint.origin, signal);
    }
  }

  async #retrying<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures++) {
      throwIfAborted(signal);
      try {
        return await work();
      } catch (error) {
        throwIfAborted(signal);
        // Who says nothing at all was waited for long enough: a mirror, or the pod's next attempt, is better than the same again.
        if (!(error instanceof GantryError) || !error.retryable || error.code === "Timeout" || failures >= ATTEMPTS) throw error;
        await this.#options.clock.sleep(this.#delayMs(error, failures), signal).catch(() => throwIfAborted(signal));
      }
    }
  }

  #delayMs(error: GantryError, failures: number): number {
    const asked = (error.retryAfterSeconds ?? 0) * 1000;
    return Math.max(Math.min(asked, MAX_RETRY_AFTER_MS), backoffDelayMs(RETRY, failures, this.#options.random));
  }

  /** One request, authorized as the registry asks for. */
  async #send(source: Source, { action = "pull", ...attempt }: Attempt): Promise<IncomingMessage> {
    const { endpoint, credential } = source;
    const url = typeof attempt.to === "string" ? `${endpoint.origin}/v2/${endpoint.repository}/${attempt.to}` : attempt.to.href;
    // An upload may lie elsewhere, on a host that has no business with our credentials.
    const isElsewhere = new URL(url).origin !== endpoint.origin;
    const key = JSON.stringify([endpoint.origin, endpoint.repository, action, credential]);
    const cached = this.#authorizations.get(key);
    const authorization = cached !== undefined && cached.untilMs > this.#options.clock.monotonicMs() ? cached.header : undefined;
    const { method = "GET", body, signal } = attempt;
    const send = (header: string | undefined): Promise<IncomingMessage> => this.#http.send({
      url, method, body, signal, settings: endpoint.settings, headers: { ...attempt.headers, ...(header === undefined || isElsewhere ? {} : { authorization: header }) },
    });
    const response = await send(authorization);
    if (response.statusCode !== 401 || isElsewhere) return response;
    const challenge = parseChallenge(header(response, "www-authenticate"));
    if (challenge === undefined || (challenge.scheme === "basic" && (credential === undefined || credential.username === "" || authorization !== undefined))) return response;
    response.resume();
    this.#authorizations.delete(key);
    const granted = challenge.scheme === "basic"
      ? { header: basicHeader(credential!), untilMs: Number.POSITIVE_INFINITY }
      : await this.#token(challenge, source, action, attempt.signal);
    const answer = await send(granted.header);
    if (answer.statusCode !== 401) {
      if (this.#authorizations.size >= MAX_TOKENS) this.#authorizations.clear();
      this.#authorizations.set(key, granted);
    }
    return answer;
  }

  async #token(challenge: Parameters<typeof tokenRequest>[0], { endpoint, credential }: Source, action: Action, signal: AbortSignal): Promise<{ readonly header: string; readonly untilMs: number }> {
    const scope = action === "login" ? "" : `repository:${endpoint.repository}:${action === "push" ? "pull,push" : "pull"}`;
    const request = tokenRequest(challenge, endpoint.origin, scope, credential);
    const where = new URL(request.url).origin;
    const response = await this.#http.send({ ...request, settings: endpoint.settings, signal });
    const bytes = await readBody(response, MAX_ERROR_BODY_BYTES, where, signal);
    if (response.statusCode !== 200) {
      const server = (response.statusCode ?? 500) >= 500 || response.statusCode === 429;
      throw new GantryError(server ? "ServiceUnavailable" : "Unauthorized", `the token service ${where} answered ${response.statusCode}${credential === undefined ? " to an anonymous request" : ` to user ${JSON.stringify(credential.username)}`}`);
    }
    const { token, lifeMs } = parseToken(bytes, `the answer of the token service ${where}`);
    return { header: `Bearer ${token}`, untilMs: this.#options.clock.monotonicMs() + Math.max(0, lifeMs - TOKEN_MARGIN_MS) };
  }

  async #failure({ endpoint, credential }: Source, response: IncomingMessage, what: string, signal: AbortSignal, action: Action = "pull"): Promise<GantryError> {
    const status = response.statusCode ?? 0;
    const said = registryMessage(await readBody(response, MAX_ERROR_BODY_BYTES, endpoint.origin, signal).catch(() => Buffer.alloc(0)));
    const detail = said === "" ? "" : ` (it says: ${said})`;
    const registry = `registry ${endpoint.origin}`;
    if (status === 404) return new GantryError("NotFound", `${registry} has no ${what}${endpoint.repository === "" ? "" : ` in repository ${endpoint.repository}`}${detail}`);
    if (status === 401 || status === 403) {
      const who = credential === undefined
        ? `without credentials; a pod needs an imagePullSecret for it, a command 'gantry login ${endpoint.host}'`
        : `to user ${JSON.stringify(credential.username)}; check the name, the password and the user's rights`;
      return new GantryError("Unauthorized", `${registry} denies ${action === "login" ? "access" : action === "push" ? `pushing to repository ${endpoint.repository}` : `repository ${endpoint.repository}`} ${who}${detail}`);
    }
    const retryAfter = Number(header(response, "retry-after"));
    const after = Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfterSeconds: retryAfter } : {};
    if (status === 429) return new GantryError("TooManyRequests", `${registry} limits how often it is asked${detail}`, after);
    if (status >= 500) return new GantryError("ServiceUnavailable", `${registry} answered ${status} for ${what}${detail}`, after);
    const hint = status === 400 && action === "pull" && endpoint.origin.startsWith("http:") ? "; if it speaks TLS, set \"http\" to false for it in the registry configuration" : "";
    return new GantryError("ServiceUnavailable", `${registry} answered ${status} for ${what}${detail}${hint}`, { retryable: false });
  }
}

const header = (response: IncomingMessage, name: string): string | undefined => {
  const value = response.headers[name];
  return Array.isArray(value) ? value.join(", ") : value;
};

const readBody = async (response: IncomingMessage, maxBytes: number, origin: string, signal: AbortSignal): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) throw new GantryError("Invalid", `registry ${origin} sent more than ${maxBytes} bytes where that is the limit`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw networkError(error, origin, signal);
  }
  return Buffer.concat(chunks);
};

/** distribution-spec, "Error Codes". */
const registryMessage = (body: Buffer): string => {
  try {
    const { errors } = JSON.parse(body.toString("utf8")) as { errors?: { code?: string; message?: string }[] };
    return (errors ?? []).map((e) => e.message ?? e.code ?? "").filter((text) => text !== "").join("; ").slice(0, 300);
  } catch {
    return "";
  }
};
