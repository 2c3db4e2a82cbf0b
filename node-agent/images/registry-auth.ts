// Which credentials fit a repository, and how a registry's challenge is answered. Pure but for nothing: requests are made in registry-client.ts.
// https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/, RFC 9110 section 11.
import { GantryError } from "../../base/errors.ts";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";
import { parseJsonObject } from "./manifest.ts";

/** docker's config.json writes "https://index.docker.io/v1/" for Docker Hub, and URLs for some others. */
const normalizeKey = (key: string): string => {
  const bare = key.replace(/^https?:\/\//, "").replace(/\/(?:v[12]\/?)?$/, "");
  return bare === "index.docker.io" || bare === "registry-1.docker.io" ? "docker.io" : bare;
};

/** The credentials for a repository, the most specific path first, as kubelet's keyring does: each is tried until one works. */
export const credentialsFor = (credentials: readonly RegistryCredential[], host: string, repository: string): readonly RegistryCredential[] => {
  const full = `${host}/${repository}`;
  return credentials
    .map((credential) => ({ credential, key: normalizeKey(credential.registry) }))
    .filter(({ key }) => full === key || full.startsWith(`${key}/`))
    .toSorted((a, b) => b.key.length - a.key.length)
    .map(({ credential }) => credential);
};

export type Challenge =
  | { readonly scheme: "basic" }
  | { readonly scheme: "bearer"; readonly realm: string; readonly service: string; readonly scope: string };

/** The strongest challenge of a WWW-Authenticate header that is understood; undefined when there is none. */
export const parseChallenge = (header: string | undefined): Challenge | undefined => {
  if (header === undefined) return undefined;
  const bearer = /(?:^|,\s*)bearer\s+/i.exec(header);
  if (bearer !== null) {
    const parameters: Record<string, string> = {};
    for (const [, key, quoted, plain] of header.slice(bearer.index + bearer[0].length).matchAll(/(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g)) {
      parameters[key!.toLowerCase()] ??= quoted?.replace(/\\(.)/g, "$1") ?? plain ?? "";
    }
    const realm = parameters["realm"];
    if (realm !== undefined) return { scheme: "bearer", realm, service: parameters["service"] ?? "", scope: parameters["scope"] ?? "" };
  }
  return /(?:^|,\s*)basic(?:\s|$)/i.test(header) ? { scheme: "basic" } : undefined;
};

export const basicHeader = (credential: RegistryCredential): string =>
  `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString("base64")}`;

export interface TokenRequest {
  readonly url: string;
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

/**
 * What to ask the token service. Errors: "Unauthorized" when the registry would have credentials sent in the clear, or to no proper URL.
 */
export const tokenRequest = (challenge: Extract<Challenge, { scheme: "bearer" }>, registryOrigin: string, defaultScope: string, credential: RegistryCredential | undefined): TokenRequest => {
  if (!URL.canParse(challenge.realm) || !/^https?:$/.test(new URL(challenge.realm).protocol)) {
    throw new GantryError("Unauthorized", `registry ${registryOrigin} names the token service ${JSON.stringify(challenge.realm)}, which is not a URL`);
  }
  const url = new URL(challenge.realm);
  if (credential !== undefined && url.protocol === "http:" && !registryOrigin.startsWith("http:")) {
    throw new GantryError("Unauthorized", `registry ${registryOrigin} names the token service ${challenge.realm}, which would have the credentials sent unencrypted`);
  }
  const scope = challenge.scope === "" ? defaultScope : challenge.scope;
  if (credential !== undefined && credential.identityToken !== "") {
    const body = new URLSearchParams({ grant_type: "refresh_token", service: challenge.service, client_id: "gantry", scope, refresh_token: credential.identityToken });
    return { url: url.href, method: "POST", headers: { "content-type": "application/x-www-form-urlencoded" }, body: body.toString() };
  }
  if (challenge.service !== "") url.searchParams.set("service", challenge.service);
  // Several (a mount needs two repositories) stand in several parameters.
  for (const one of scope.split(" ").filter((part) => part !== "")) url.searchParams.append("scope", one);
  return { url: url.href, method: "GET", headers: credential === undefined ? {} : { authorization: basicHeader(credential) }, body: undefined };
};

/** RFC 6749 names it access_token; older services token. The life is 60 s when not said. */
export const parseToken = (bytes: Uint8Array, what: string): { readonly token: string; readonly lifeMs: number } => {
  const json = parseJsonObject(bytes, what);
  const token = json["token"] ?? json["access_token"];
  if (typeof token !== "string" || token === "") throw new GantryError("Unauthorized", `${what} holds no token`);
  const seconds = json["expires_in"];
  return { token, lifeMs: (typeof seconds === "number" && seconds >= 0 ? seconds : 60) * 1000 };
};
