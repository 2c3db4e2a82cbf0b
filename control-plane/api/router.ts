// Owns how a method and a URL become a request for something: pure, so that authorization, metrics and the handlers all
// see one reading of it. The rules are those of k8s.io/apiserver/pkg/endpoints/request.RequestInfo.
import { GantryError } from "../../base/errors.ts";

export type Verb = "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection" | "post" | "put" | "head" | "options";

export interface RequestInfo {
  /** False for paths such as /version and for discovery (/api/v1 itself). */
  readonly isResource: boolean;
  /** Decoded, without the query; begins with a slash. */
  readonly path: string;
  readonly verb: Verb;
  readonly group: string;
  readonly version: string;
  readonly namespace: string;
  /** The plural; "" when isResource is false. */
  readonly resource: string;
  readonly name: string;
  readonly subresource: string;
  readonly query: URLSearchParams;
}

const PLAIN_VERBS: Readonly<Record<string, Verb>> = {
  GET: "get", HEAD: "head", POST: "post", PUT: "put", PATCH: "patch", DELETE: "delete", OPTIONS: "options",
};

const RESOURCE_VERBS: Readonly<Record<string, Verb>> = { GET: "get", HEAD: "get", POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" };

/** Subresources of namespaces themselves: /api/v1/namespaces/NS/X with any other X is a resource inside the namespace. */
const NAMESPACE_SUBRESOURCES: ReadonlySet<string> = new Set(["status", "finalize"]);

export const isTrue = (value: string | null): boolean => value !== null && value !== "0" && value.toLowerCase() !== "false";

const decodeSegment = (segment: string): string => {
  let decoded: string;
  try {
    decoded = decodeURIComponent(segment);
  } catch {
    throw new GantryError("BadRequest", `the path segment ${JSON.stringify(segment)} is not valid percent-encoding`);
  }
  // Such a "name" would escape its place in a storage key.
  if (decoded.includes("/") || decoded.includes("\0")) throw new GantryError("BadRequest", `the path segment ${JSON.stringify(decoded)} must not contain a slash or NUL`);
  return decoded;
};

/** `method` upper case, `url` the request target (path and query). Throws BadRequest for what can't be read. */
export const parseRequest = (method: string, url: string): RequestInfo => {
  const mark = url.indexOf("?");
  const rawPath = mark < 0 ? url : url.slice(0, mark);
  const query = new URLSearchParams(mark < 0 ? "" : url.slice(mark + 1));
  const verb = PLAIN_VERBS[method];
  if (!verb) throw new GantryError("MethodNotAllowed", `the server does not allow the method ${JSON.stringify(method)}`);
  if (!rawPath.startsWith("/")) throw new GantryError("BadRequest", `the request target ${JSON.stringify(rawPath)} is not a path`);
  const parts = rawPath.split("/").filter((s) => s !== "").map(decodeSegment);
  const path = `/${parts.join("/")}`;
  const plain: RequestInfo = { isResource: false, path, verb, group: "", version: "", namespace: "", resource: "", name: "", subresource: "", query };

  const isCore = parts[0] === "api";
  if (!isCore && parts[0] !== "apis") return plain;
  const [group, version, rest] = isCore ? ["", parts[1] ?? "", parts.slice(2)] : [parts[1] ?? "", parts[2] ?? "", parts.slice(3)];
  if (rest.length === 0) return { ...plain, group, version };

  const inNamespace = rest[0] === "namespaces" && rest.length > 2 && !NAMESPACE_SUBRESOURCES.has(rest[2]!);
  const namespace = rest[0] === "namespaces" ? (rest[1] ?? "") : "";
  const [resource = "", name = "", ...sub] = inNamespace ? rest.slice(2) : rest;
  const resourceVerb = RESOURCE_VERBS[method];
  if (!resourceVerb) throw new GantryError("MethodNotAllowed", `the server does not allow the method ${method} on the requested resource`);
  const isCollection = name === "";
  const finalVerb: Verb =
    resourceVerb === "get" && sub.length === 0 && isTrue(query.get("watch")) ? "watch"
    : resourceVerb === "get" && isCollection ? "list"
    : resourceVerb === "delete" && isCollection ? "deletecollection"
    : resourceVerb;
  return { isResource: true, path, verb: finalVerb, group, version, namespace, resource, name, subresource: sub.join("/"), query };
};
