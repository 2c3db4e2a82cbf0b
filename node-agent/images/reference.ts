// Image references as docker and Kubernetes write them: [registry/]repository[:tag][@digest]. Pure.
// Grammar: https://pkg.go.dev/github.com/distribution/reference
import { GantryError } from "../../base/errors.ts";
import { isDigest, type Digest } from "./digest.ts";

export interface Reference {
  /** Host with optional port: "docker.io", "localhost:5000". */
  readonly registry: string;
  /** Path within the registry: "library/busybox". */
  readonly repository: string;
  /** "" only when there is a digest. */
  readonly tag: string;
  readonly digest: Digest | undefined;
}

const DEFAULT_REGISTRY = "docker.io";
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const HOST = /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const MAX_NAME_LENGTH = 255;

/** Docker's rule for what stands before the first slash: a host has a dot, a port or capitals, or is "localhost". */
const looksLikeHost = (part: string): boolean => /[.:[]/.test(part) || part === "localhost" || part !== part.toLowerCase();

/** Errors: "Invalid", which say what is wrong and what would be right. */
export const parseReference = (text: string): Reference => {
  const wrong = (why: string): GantryError => new GantryError("Invalid", `image reference ${JSON.stringify(text)}: ${why}`);
  if (text === "") throw wrong("is empty; write for example busybox:1.36");
  if (/[\s\p{Cc}]/u.test(text)) throw wrong("contains white space");
  if (/^[a-z]+:\/\//i.test(text)) throw wrong("has a URL scheme; leave off everything up to and with ://");

  const at = text.indexOf("@");
  const digestText = at < 0 ? undefined : text.slice(at + 1);
  if (digestText !== undefined && !isDigest(digestText)) {
    throw wrong(`${JSON.stringify(digestText)} is not a digest; after @ stands sha256: and 64 lower-case hex digits`);
  }
  const beforeDigest = at < 0 ? text : text.slice(0, at);
  const colon = beforeDigest.lastIndexOf(":");
  const hasTag = colon > beforeDigest.lastIndexOf("/") && !(colon >= 0 && beforeDigest.indexOf("/") < 0 && beforeDigest.startsWith("["));
  const tag = hasTag ? beforeDigest.slice(colon + 1) : undefined;
  const name = hasTag ? beforeDigest.slice(0, colon) : beforeDigest;
  if (tag !== undefined && !TAG.test(tag)) {
    throw wrong(tag === "" ? "the tag after the colon is empty" : `tag ${JSON.stringify(tag)} is not valid; it has letters, digits, _ . and -, does not start with . or -, and has at most 128 characters`);
  }

  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const explicit = slash >= 0 && looksLikeHost(first);
  const registry = explicit ? first : DEFAULT_REGISTRY;
  const path = explicit ? name.slice(slash + 1) : name;
  if (!HOST.test(registry)) throw wrong(`registry ${JSON.stringify(registry)} is not host or host:port`);
  if (path === "") throw wrong("the repository is missing");
  for (const part of path.split("/")) {
    if (COMPONENT.test(part)) continue;
    if (part === "") throw wrong("the repository has an empty part; look for a slash too many");
    if (part !== part.toLowerCase()) throw wrong(`repository ${JSON.stringify(path)} must be in lower case`);
    throw wrong(`repository part ${JSON.stringify(part)} is not valid; it has lower-case letters and digits, separated by . _ __ or -`);
  }
  if (!explicit && /^[0-9a-f]{64}$/.test(path)) throw wrong("64 hex digits are an image ID, not a repository; write sha256: before an ID");
  const normalized = registry === "index.docker.io" ? DEFAULT_REGISTRY : registry;
  const repository = normalized === DEFAULT_REGISTRY && !path.includes("/") ? `library/${path}` : path;
  if (normalized.length + repository.length + 1 > MAX_NAME_LENGTH) throw wrong(`the name has more than ${MAX_NAME_LENGTH} characters`);
  return { registry: normalized, repository, tag: tag ?? (digestText === undefined ? "latest" : ""), digest: digestText };
};

/** The normalized name. With a digest the tag is dropped: the digest alone says which image it is, as in docker's RepoDigests. */
export const formatReference = (reference: Reference): string =>
  `${reference.registry}/${reference.repository}${reference.digest === undefined ? `:${reference.tag}` : `@${reference.digest}`}`;

/** How docker shows a normalized name: without docker.io/ and library/; the tag stays. */
export const familiarName = (name: string): string => name.replace(/^docker\.io\/(?:library\/(?=[^/]+$))?/, "");
