// The CLI's client of the Kubernetes REST API: a kubeconfig, one HTTPS connection pool, JSON. Nothing here knows a command.
import { existsSync, readFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import type { ClientRequest, IncomingMessage } from "node:http";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { SystemClock } from "../base/clock.ts";
import { endUnlessConnected } from "../base/connect-deadline.ts";
import { GantryError, type ErrorCode } from "../base/errors.ts";
import type { KubeObject, ResourceType } from "../base/kube/resources.ts";
import type { Status, StatusDetails } from "../base/kube/types.gen.ts";
import { parseYaml } from "../base/yaml.ts";
import { connectionFault, expiryFault } from "./connection-fault.ts";

export interface ApiTarget {
  readonly server: URL;
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly token: string | undefined;
  readonly namespace: string;
  /** Name of the context, for messages. */
  readonly context: string;
  readonly insecure: boolean;
}

interface Kubeconfig {
  "current-context"?: string;
  clusters?: { name: string; cluster: Record<string, unknown> }[];
  users?: { name: string; user: Record<string, unknown> }[];
  contexts?: { name: string; context: { cluster?: string; user?: string; namespace?: string } }[];
}

const isMap = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
const isListOfMaps = (value: unknown): boolean => Array.isArray(value) && value.every(isMap);

/** Where the kubeconfig is: the flag, KUBECONFIG (the first of its files that exists), .gantry/admin.kubeconfig here or above, ~/.kube/config. */
export const findKubeconfig = (flag: string, env: NodeJS.ProcessEnv, cwd: string): string => {
  if (flag !== "") return flag;
  const listed = (env["KUBECONFIG"] ?? "").split(":").filter((p) => p !== "");
  if (listed.length > 0) return listed.find((p) => existsSync(p)) ?? listed[0]!;
  for (let dir = resolve(cwd); ; dir = dirname(dir)) {
    const path = join(dir, ".gantry/admin.kubeconfig");
    if (existsSync(path)) return path;
    if (dirname(dir) === dir) return join(env["HOME"] || homedir(), ".kube/config");
  }
};

/** Reads a kubeconfig. "FailedPrecondition" says which file and which part is wrong; "BadRequest" that there is no such context. */
export const loadKubeconfig = (path: string, contextName = ""): ApiTarget => {
  const fault = (what: string, cause?: unknown): GantryError => new GantryError("FailedPrecondition", `kubeconfig ${path}: ${what}`, { cause });
  const read = (file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw fault(file === path ? "can't be read; start a cluster with 'gantry up', or name another with --kubeconfig or KUBECONFIG" : `${file} can't be read`, error);
    }
  };
  const text = read(path).toString("utf8");
  let config: Kubeconfig;
  try {
    config = parseYaml(text) ?? {};
  } catch (error) {
    throw fault("is not YAML", error);
  }
  if (!isMap(config)) throw fault("is not a kubeconfig: it should have contexts, clusters and users");
  const wrong = (["contexts", "clusters", "users"] as const).find((part) => !isListOfMaps(config[part] ?? []));
  if (wrong !== undefined) throw fault(`${wrong} is not a list of names and what they stand for`);
  const name = contextName || config["current-context"] || "";
  const context = config.contexts?.find((c) => c.name === name)?.context;
  if (!context) {
    const known = (config.contexts ?? []).map((c) => c.name).join(", ") || "none";
    if (contextName !== "") throw new GantryError("BadRequest", `--context: ${path} has no context ${JSON.stringify(name)}; there are: ${known}`);
    throw fault(name === "" ? `no current-context; choose one with --context; there are: ${known}` : `no context ${JSON.stringify(name)}; there are: ${known}`);
  }
  const cluster = config.clusters?.find((c) => c.name === context.cluster)?.cluster;
  const user = config.users?.find((u) => u.name === context.user)?.user ?? {};
  const server = typeof cluster?.["server"] === "string" && URL.canParse(cluster["server"]) ? new URL(cluster["server"]) : undefined;
  if (!cluster || server?.protocol !== "https:") throw fault(`cluster ${JSON.stringify(context.cluster)}: server is ${JSON.stringify(cluster?.["server"])}, not an https:// URL`);
  for (const plugin of ["exec", "auth-provider"]) if (plugin in user) throw fault(`user ${JSON.stringify(context.user)} signs in by ${plugin}, which gantry can't; use kubectl, or a client certificate or token`);
  const material = (from: Record<string, unknown>, field: string): Buffer | undefined => {
    const data = from[`${field}-data`];
    if (typeof data === "string") return Buffer.from(data, "base64");
    const file = from[field];
    return typeof file === "string" ? read(resolve(dirname(path), file)) : undefined;
  };
  const tokenFile = user["tokenFile"];
  return {
    server, ca: material(cluster, "certificate-authority"), cert: material(user, "client-certificate"), key: material(user, "client-key"),
    token: typeof user["token"] === "string" ? user["token"] : typeof tokenFile === "string" ? read(resolve(dirname(path), tokenFile)).toString("utf8").trim() : undefined,
    namespace: context.namespace ?? "default", context: name, insecure: cluster["insecure-skip-tls-verify"] === true,
  };
};

export interface RequestOptions {
  readonly body?: unknown;
  readonly stream?: Readable;
  readonly contentType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
}

export interface WatchEvent<T = KubeObject> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

export interface ObjectList<T extends KubeObject> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly T[];
}

export class ApiClient implements Disposable {
  readonly target: ApiTarget;
  readonly #agent: Agent;
  readonly onWarning: (text: string) => void;

  /** `onWarning` gets what the server remarks besides its answer, such as fields that have no effect. */
  constructor(target: ApiTarget, onWarning: (text: string) => void = () => undefined) {
    this.target = target;
    this.onWarning = onWarning;
    this.#agent = new Agent({ keepAlive: true, ca: target.ca, cert: target.cert, key: target.key, rejectUnauthorized: !target.insecure });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  /** TLS material and headers for a WebSocket to the same server. */
  get connectOptions(): { ca: Buffer | undefined; cert: Buffer | undefined; key: Buffer | undefined; rejectUnauthorized: boolean; headers: Record<string, string> } {
    const { ca, cert, key, insecure, token } = this.target;
    return { ca, cert, key, rejectUnauthorized: !insecure, headers: token ? { authorization: `Bearer ${token}` } : {} };
  }

  url(path: string): URL {
    return new URL(this.target.server.pathname.replace(/\/$/, "") + path, this.target.server);
  }

  /** Sends a request; a status of 400 or more becomes a GantryError with the Status' reason, message and causes. */
  async send(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const response = await this.#respond(method, path, options);
    for (const warning of warningsOf(response.headers["warning"])) this.onWarning(warning);
    if (response.statusCode! < 400) return response;
    const error = apiError(response.statusCode!, await text(response));
    const expired = error.code === "Unauthorized" ? expiryFault(this.target, Date.now()) : undefined;
    throw expired === undefined ? error : new ApiError(error.code, `the API server ${this.target.server.host} does not let us in: ${expired}`, error.details);
  }

  #respond(method: string, path: string, { body: given, stream, contentType, accept, signal }: RequestOptions): Promise<IncomingMessage> {
    const body = given === undefined ? undefined : typeof given === "string" ? given : JSON.stringify(given);
    const headers = {
      accept: accept ?? "application/json",
      ...(body === undefined && !stream ? {} : { "content-type": contentType ?? "application/json" }),
      ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
      ...(this.target.token ? { authorization: `Bearer ${this.target.token}` } : {}),
    };
    return new Promise((resolveResponse, reject) => {
      const failed = (error: unknown): void => reject(signal?.aborted ? error as Error : connectionFault(error as Error, this.target, Date.now()));
      let request: ClientRequest;
      try {
        request = httpsRequest(this.url(path), { method, agent: this.#agent, signal, headers }, resolveResponse);
      } catch (error) {
        // Certificates that are none.
        failed(error);
        return;
      }
      request.on("error", failed);
      endUnlessConnected(request, new SystemClock(), CONNECT_MS, () => new Error(`no answer within ${CONNECT_MS / 1000} s: is the control plane running, and the server's address in the kubeconfig right?`));
      if (stream) {
        stream.on("error", (error) => {
          reject(error); // a file of this machine, not the connection
          request.destroy();
        });
        stream.pipe(request);
      } else {
        request.end(body);
      }
    });
  }

  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const answer = await text(await this.send(method, path, options));
    try {
      return JSON.parse(answer) as T;
    } catch (cause) {
      throw this.#noApi(method, path, cause);
    }
  }

  #noApi(method: string, path: string, cause?: unknown): GantryError {
    return new GantryError("FailedPrecondition", `${this.target.server.host} does not answer ${method} ${path} as a Kubernetes API server does: is the server's address in the kubeconfig right?`, { cause });
  }

  /** `/api/v1/namespaces/NS/pods/NAME`. */
  pathOf(type: ResourceType, namespace?: string, name?: string, subresource?: string): string {
    const root = type.group === "" ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`;
    const inNamespace = type.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
    return `${root}${inNamespace}/${type.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}${subresource === undefined ? "" : `/${subresource}`}`;
  }

  get<T extends KubeObject>(type: ResourceType<T>, namespace: string, name: string): Promise<T> {
    return this.json<T>("GET", this.pathOf(type, namespace, name));
  }

  async list<T extends KubeObject>(type: ResourceType<T>, namespace?: string, query: Readonly<Record<string, string>> = {}): Promise<ObjectList<T>> {
    const path = this.pathOf(type, namespace);
    const list = await this.json<ObjectList<T>>("GET", `${path}?${new URLSearchParams(query).toString()}`);
    if (!Array.isArray(list.items)) throw this.#noApi("GET", path);
    return list;
  }

  /** Events of one watch request until the server ends it or the signal aborts. */
  async *watch<T = KubeObject>(path: string, query: Readonly<Record<string, string>>, signal?: AbortSignal, accept?: string): AsyncGenerator<WatchEvent<T>> {
    const response = await this.send("GET", `${path}?${new URLSearchParams({ ...query, watch: "true" }).toString()}`, { signal, ...(accept === undefined ? {} : { accept }) });
    // Left early (a generator's return reaches the innermost loop), this destroys the response too.
    for await (const line of linesOf(response)) yield JSON.parse(line) as WatchEvent<T>;
  }
}

/** As kubectl's. */
const CONNECT_MS = 30_000;

/** Texts of `Warning: 299 - "text", 299 - "text"` headers (RFC 7234, 5.5). */
export const warningsOf = (header: string | undefined): string[] =>
  [...(header ?? "").matchAll(/\b\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)].map((m) => m[1]!.replaceAll(/\\(.)/g, "$1"));

export const text = async (stream: Readable): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
};

/** Non-empty lines of a response, as they come. Not readline: it lets the error of a broken or dropped connection go unhandled. */
export async function* linesOf(stream: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk as Buffer, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line !== "") yield line;
  }
  if (rest !== "") yield rest;
}

const CODE_OF_HTTP: Readonly<Record<number, ErrorCode>> = { 400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 409: "Conflict", 410: "Expired", 413: "RequestEntityTooLarge", 415: "UnsupportedMediaType", 422: "Invalid", 429: "TooManyRequests", 503: "ServiceUnavailable", 504: "Timeout" };

/** What the server said, as opposed to what went wrong on this side. */
export class ApiError extends GantryError {
  /** The Status' details; {} where it has none. */
  readonly details: StatusDetails;

  constructor(code: ErrorCode, message: string, details: StatusDetails = {}) {
    super(code, message);
    this.details = details;
  }
}

/** The error of an answer with a status of 400 or more: of a Status object, or of whatever else stands in the body. */
export const apiError = (httpStatus: number, body: string): ApiError => {
  const code = CODE_OF_HTTP[httpStatus] ?? "InternalError";
  try {
    const status = JSON.parse(body) as Status;
    return new ApiError(status.reason === "AlreadyExists" ? "AlreadyExists" : code, status.message ?? `the server answered ${httpStatus}`, status.details);
  } catch {
    return new ApiError(code, `the server answered ${httpStatus}${body === "" ? "" : `: ${body.slice(0, 500)}`}`);
  }
};
