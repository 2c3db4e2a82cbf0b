// Brings one blob into a registry: not at all when it is there, by a mount when another repository has it, else in one piece or in chunks that
// go on where they broke off. https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push (1.1)
import type { IncomingMessage } from "node:http";
import type { BackoffPolicy } from "../../base/backoff.ts";
import { backoffDelayMs } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Digest } from "./digest.ts";
import { throwIfAborted } from "./shared-task.ts";

export interface UploadBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** From `start` up to but without `end`. Called again for each attempt. */
  read(start: number, end: number): AsyncIterable<Uint8Array>;
}

/** One repository at one registry. */
export interface UploadTarget {
  readonly origin: string;
  /** `to` is below /v2/REPOSITORY/, or a URL that the registry gave. */
  send(request: { readonly method: "HEAD" | "GET" | "POST" | "PUT" | "PATCH" | "DELETE"; readonly to: string | URL; readonly headers?: Readonly<Record<string, string>>; readonly body?: () => AsyncIterable<Uint8Array> }): Promise<IncomingMessage>;
  /** What an answer that is not the wished one means. Reads its body. */
  failure(response: IncomingMessage, what: string): Promise<GantryError>;
}

export interface UploadOptions {
  /** Repositories of this registry that are thought to have the blob. */
  readonly mountFrom: readonly string[];
  readonly chunkBytes: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
}

const ATTEMPTS = 5;
const RETRY: BackoffPolicy = { initialMs: 250, maxMs: 8_000, factor: 2, jitter: 1 };
const MAX_RETRY_AFTER_MS = 30_000;
const OCTETS = "application/octet-stream";

interface Session {
  location: URL;
  /** Bytes that the registry has. */
  offset: number;
}

/** "exists": it was there; "mounted": taken from another repository. Errors: those of `failure`, "ServiceUnavailable", "Cancelled". */
export const uploadBlob = async (target: UploadTarget, blob: UploadBlob, options: UploadOptions): Promise<"exists" | "mounted" | "uploaded"> => {
  const { signal, clock, random, onProgress } = options;
  let session: Session | undefined;
  let mount = options.mountFrom[0];
  for (let fruitless = 0; ;) {
    throwIfAborted(signal);
    const before = session?.offset ?? 0;
    try {
      if (session === undefined) {
        if (await exists(target, blob)) return "exists";
        session = await begin(target, blob, mount);
        if (session === undefined) return "mounted";
      }
      await transfer(target, blob, session, options);
      onProgress(blob.sizeBytes);
      return "uploaded";
    } catch (error) {
      throwIfAborted(signal);
      if (!(error instanceof GantryError) || !error.retryable) throw error;
      fruitless = (session?.offset ?? 0) > before ? 1 : fruitless + 1;
      if (fruitless >= ATTEMPTS) throw error;
      mount = undefined;
      const asked = Math.min((error.retryAfterSeconds ?? 0) * 1000, MAX_RETRY_AFTER_MS);
      await clock.sleep(Math.max(asked, backoffDelayMs(RETRY, fruitless, random)), signal).catch(() => throwIfAborted(signal));
      if (session !== undefined) session = await whereItStands(target, session).catch(() => undefined);
      onProgress(session?.offset ?? 0);
    }
  }
};

const exists = async (target: UploadTarget, blob: UploadBlob): Promise<boolean> => {
  const response = await target.send({ method: "HEAD", to: `blobs/${blob.digest}` });
  response.resume();
  if (response.statusCode === 200) return true;
  // Some registries don't answer HEAD without a body's reason; what is denied is said again, in words, by the next request.
  if ((response.statusCode ?? 0) >= 500 || response.statusCode === 429) throw await target.failure(response, `blob ${blob.digest}`);
  return false;
};

/** undefined: the blob was mounted. */
const begin = async (target: UploadTarget, blob: UploadBlob, mount: string | undefined): Promise<Session | undefined> => {
  const query = mount === undefined ? "" : `?${new URLSearchParams({ mount: blob.digest, from: mount }).toString()}`;
  const response = await target.send({ method: "POST", to: `blobs/uploads/${query}`, headers: { "content-length": "0" } });
  if (response.statusCode === 201 && mount !== undefined) {
    response.resume();
    return undefined;
  }
  if (response.statusCode !== 202) throw await target.failure(response, "place for uploads");
  response.resume();
  return { location: locationOf(target, response), offset: 0 };
};

const locationOf = (target: UploadTarget, response: IncomingMessage): URL => {
  const { location } = response.headers;
  if (location === undefined || !URL.canParse(location, target.origin)) throw new GantryError("ServiceUnavailable", `registry ${target.origin} does not say where to upload to`, { retryable: false });
  return new URL(location, target.origin);
};

/** "0-99" means that it has 100 bytes; "0-0" that it has none (registries can't say it otherwise). */
const received = (response: IncomingMessage): number | undefined => {
  const end = /^(?:bytes=)?0-(\d+)$/.exec(response.headers["range"] ?? "")?.[1];
  return end === undefined ? undefined : end === "0" ? 0 : Number(end) + 1;
};

const whereItStands = async (target: UploadTarget, session: Session): Promise<Session | undefined> => {
  const response = await target.send({ method: "GET", to: session.location });
  response.resume();
  const offset = received(response);
  if (response.statusCode !== 204 || offset === undefined) return undefined;
  return { location: response.headers.location === undefined ? session.location : locationOf(target, response), offset };
};

const transfer = async (target: UploadTarget, blob: UploadBlob, session: Session, { chunkBytes, onProgress }: UploadOptions): Promise<void> => {
  const body = (start: number, end: number) => async function* (): AsyncGenerator<Uint8Array, void> {
    let sent = start;
    for await (const piece of blob.read(start, end)) {
      yield piece;
      sent += piece.length;
      onProgress(sent);
    }
  };
  const complete = (url: URL): URL => {
    const to = new URL(url);
    to.searchParams.set("digest", blob.digest);
    return to;
  };
  if (session.offset === 0 && blob.sizeBytes <= chunkBytes) {
    const response = await target.send({ method: "PUT", to: complete(session.location), headers: { "content-type": OCTETS, "content-length": String(blob.sizeBytes) }, body: body(0, blob.sizeBytes) });
    if (response.statusCode !== 201) throw await target.failure(response, `blob ${blob.digest}`);
    response.resume();
    return;
  }
  while (session.offset < blob.sizeBytes) {
    const { offset } = session;
    const end = Math.min(offset + chunkBytes, blob.sizeBytes);
    const response = await target.send({
      method: "PATCH", to: session.location, body: body(offset, end),
      headers: { "content-type": OCTETS, "content-length": String(end - offset), "content-range": `${offset}-${end - 1}` },
    });
    if (response.statusCode === 416) {
      response.resume();
      throw new GantryError("ServiceUnavailable", `registry ${target.origin} has another part of this blob than it said`);
    }
    if (response.statusCode !== 202) throw await target.failure(response, `blob ${blob.digest}`);
    response.resume();
    session.location = locationOf(target, response);
    session.offset = received(response) ?? end;
    if (session.offset <= offset) throw new GantryError("ServiceUnavailable", `registry ${target.origin} took nothing of a chunk`);
  }
  const response = await target.send({ method: "PUT", to: complete(session.location), headers: { "content-type": OCTETS, "content-length": "0" } });
  if (response.statusCode !== 201) throw await target.failure(response, `blob ${blob.digest}`);
  response.resume();
};
