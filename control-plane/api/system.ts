// Owns the paths that are not about objects: health, version, metrics, discovery, OpenAPI.
import { GantryError, describeError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { Metrics } from "../../base/metrics.ts";
import { discoveryDocument } from "./discovery-documents.ts";
import type { Document } from "./discovery-documents.ts";
import type { Exchange } from "./exchange.ts";
import { openapiDocument } from "./openapi.ts";
import type { RequestInfo } from "./router.ts";

/** A part that must work before requests are welcome. Rejects, with words for the operator, when it doesn't. */
export interface ReadinessCheck {
  readonly name: string;
  /** May resolve to a remark, which `?verbose` shows. */
  check(signal: AbortSignal): Promise<string | void>;
}

const CHECK_TIMEOUT_MS = 2000;

/** Open to everybody: load balancers and clients look at them before they have credentials. */
export const isOpen = ({ isResource, path }: RequestInfo): boolean => !isResource && /^\/(?:healthz|livez|readyz|version)(?:\/|$)/.test(path);

export const versionInfo = (gantryVersion: string): Record<string, string> => ({
  major: "1", minor: "33", gitVersion: `v1.33.0+gantry${gantryVersion === "" ? "" : `-${gantryVersion}`}`, gitCommit: "", gitTreeState: "clean", buildDate: "1970-01-01T00:00:00Z",
  goVersion: `node${process.versions.node}`, compiler: "node", platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
});

const runCheck = async (check: ReadinessCheck, clock: Clock): Promise<{ readonly name: string; readonly fault: string | undefined; readonly remark?: string | undefined }> => {
  const controller = new AbortController();
  const late = Promise.withResolvers<never>();
  using _timer = clock.setTimer(CHECK_TIMEOUT_MS, () => {
    const error = new GantryError("Timeout", `no answer within ${CHECK_TIMEOUT_MS} ms`);
    controller.abort(error);
    late.reject(error);
  });
  try {
    const remark = await Promise.race([check.check(controller.signal), late.promise]);
    return { name: check.name, fault: undefined, remark: remark ?? undefined };
  } catch (error) {
    return { name: check.name, fault: describeError(error) };
  }
};

/** `/readyz`, `/readyz?verbose`, `/readyz?exclude=NAME`, `/readyz/NAME`, as upstream's. */
const health = async (exchange: Exchange, kind: string, all: readonly ReadinessCheck[], clock: Clock): Promise<void> => {
  const { path, query } = exchange.info;
  const wanted = path.split("/")[2];
  const excluded = query.getAll("exclude");
  if (wanted !== undefined && !all.some((c) => c.name === wanted)) throw new GantryError("NotFound", `there is no check ${JSON.stringify(wanted)}; there are: ${all.map((c) => c.name).join(", ")}`);
  const results = await Promise.all(all.filter((c) => (wanted === undefined || c.name === wanted) && !excluded.includes(c.name)).map((c) => runCheck(c, clock)));
  const failed = results.some((r) => r.fault !== undefined);
  const lines = results.map((r) => (r.fault === undefined ? `[+]${r.name} ok${r.remark === undefined ? "" : `: ${r.remark}`}` : `[-]${r.name} failed: ${r.fault}`));
  const text = failed || query.has("verbose") ? `${lines.join("\n")}\n${kind} check ${failed ? "failed" : "passed"}\n` : "ok";
  exchange.bytes(failed ? 503 : 200, "text/plain; charset=utf-8", text, { "x-content-type-options": "nosniff" });
};

const document = (exchange: Exchange, found: Document | undefined): boolean => {
  if (!found) return false;
  const headers = { vary: "Accept", etag: `"${found.etag}"` };
  if (exchange.headers["if-none-match"]?.includes(headers.etag)) exchange.bytes(304, found.contentType, "", headers);
  else exchange.bytes(200, found.contentType, found.bytes, headers);
  return true;
};

/** Where this client reaches us: what it put into the request. */
const hostOf = ({ headers }: Exchange): string => {
  const authority = headers[":authority"];
  return typeof authority === "string" ? authority : (headers.host ?? "");
};

export interface SystemOptions {
  readonly readiness: readonly ReadinessCheck[];
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly gantryVersion: string;
}

const PING: ReadinessCheck = { name: "ping", check: () => Promise.resolve() };

/** Answers and resolves to true, or resolves to false when there is nothing at this path. */
export const serveSystem = async (exchange: Exchange, { readiness, metrics, clock, gantryVersion }: SystemOptions): Promise<boolean> => {
  const { path, verb } = exchange.info;
  if (verb !== "get" && verb !== "head") throw new GantryError("MethodNotAllowed", `the server does not allow this method on the requested resource: ${path} can only be read`);
  switch (path.split("/")[1]) {
    case "healthz": case "livez":
      await health(exchange, path.split("/")[1]!, [PING], clock);
      return true;
    case "readyz":
      await health(exchange, "readyz", [PING, ...readiness], clock);
      return true;
    case "version":
      exchange.value(200, versionInfo(gantryVersion));
      return true;
    case "metrics":
      exchange.bytes(200, metrics.registry.contentType, await metrics.text());
      return true;
    case "": case undefined:
      exchange.value(200, { paths: ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] });
      return true;
    case "api": case "apis":
      return document(exchange, discoveryDocument(path, exchange.headers.accept, hostOf(exchange)));
    case "openapi":
      return document(exchange, openapiDocument(path, exchange.headers.accept));
    default:
      return false;
  }
};
