// Owns who a request comes from: client certificates, bearer tokens, impersonation. Anonymous access is off. Tokens never
// leave this file: not in errors, not in logs.
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";

export interface User {
  readonly name: string;
  readonly uid?: string | undefined;
  readonly groups: readonly string[];
}

export interface Credentials {
  readonly headers: IncomingHttpHeaders;
  readonly socket: TLSSocket;
}

export interface Authenticator {
  /** undefined: these credentials are not of my sort; the next one may know them. Throws Unauthorized for bad ones. */
  authenticate(credentials: Credentials): User | undefined;
}

export const MASTERS = "system:masters";
const AUTHENTICATED = "system:authenticated";

const unauthorized = (why: string): GantryError => new GantryError("Unauthorized", `Unauthorized: ${why}`);

interface CertifiedUser {
  readonly user: User | undefined;
  /** Why not, when there is a certificate but no user. */
  readonly fault: string | undefined;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const NO_CERTIFICATE: CertifiedUser = { user: undefined, fault: undefined, notBeforeMs: 0, notAfterMs: 0 };

const readCertificate = (socket: TLSSocket): CertifiedUser => {
  const certificate = socket.getPeerCertificate();
  // Without a certificate `authorized` may still be true (a resumed TLS 1.3 session): the certificate decides.
  if (Object.keys(certificate).length === 0) return NO_CERTIFICATE;
  const validity = { notBeforeMs: Date.parse(certificate.valid_from), notAfterMs: Date.parse(certificate.valid_to) };
  // Node types authorizationError as Error but sets the code.
  if (!socket.authorized) return { user: undefined, fault: `the client certificate is not accepted: ${String(socket.authorizationError)}`, ...validity };
  const { CN, O } = certificate.subject as { CN?: string | string[]; O?: string | string[] };
  if (typeof CN !== "string" || CN === "") return { user: undefined, fault: "the client certificate's subject needs exactly one common name (CN), which is the user's name", ...validity };
  return { user: { name: CN, groups: O === undefined ? [] : [O].flat() }, fault: undefined, ...validity };
};

/** CN is the user, each O a group. The TLS layer has checked the chain (requestCert, ca); times are checked at every request, since connections live long. */
export const certificateAuthenticator = (clock: Clock): Authenticator => {
  const known = new WeakMap<TLSSocket, CertifiedUser>();
  return {
    authenticate({ socket }) {
      let certified = known.get(socket);
      if (!certified) known.set(socket, (certified = readCertificate(socket)));
      if (certified === NO_CERTIFICATE) return undefined;
      const nowMs = clock.nowMs();
      // Before the TLS layer's own fault, which says of dates only that they are wrong.
      if (nowMs > certified.notAfterMs) throw unauthorized(`the client certificate expired at ${new Date(certified.notAfterMs).toISOString()}`);
      if (nowMs < certified.notBeforeMs) throw unauthorized(`the client certificate is valid only from ${new Date(certified.notBeforeMs).toISOString()} on`);
      if (certified.fault !== undefined) throw unauthorized(certified.fault);
      return certified.user;
    },
  };
};

/** An entry of a static token file (token,user,uid,"group1,group2"). */
export interface TokenEntry {
  readonly token: string;
  readonly user: string;
  readonly uid?: string | undefined;
  readonly groups: readonly string[];
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** Bearer tokens known in advance. All are compared, each in constant time, so that the time taken tells nothing. */
export const tokenAuthenticator = (entries: readonly TokenEntry[]): Authenticator => {
  const users = entries.map(({ token, user, uid, groups }) => ({ digest: digest(token), user: { name: user, uid, groups } satisfies User }));
  return {
    authenticate({ headers }) {
      const [scheme, token] = (headers.authorization ?? "").split(/ +/, 2);
      if (scheme?.toLowerCase() !== "bearer" || token === undefined || token === "") return undefined;
      const presented = digest(token);
      let found: User | undefined;
      for (const entry of users) if (timingSafeEqual(entry.digest, presented)) found = entry.user;
      if (!found) throw unauthorized("the bearer token is not known");
      return found;
    },
  };
};

const headerValues = (headers: IncomingHttpHeaders, name: string): readonly string[] => {
  const value = headers[name];
  return value === undefined ? [] : Array.isArray(value) ? value : value.split(",").map((s) => s.trim());
};

/** Who the user asks to act as (kubectl --as), or undefined. Whether they may is the authorizer's to say. */
export const impersonated = (headers: IncomingHttpHeaders): User | undefined => {
  const name = headers["impersonate-user"];
  if (typeof name !== "string" || name === "") return undefined;
  return { name, groups: [...headerValues(headers, "impersonate-group"), AUTHENTICATED] };
};

/** The first authenticator that knows the credentials decides. Throws Unauthorized when none does. */
export const authenticate = (authenticators: readonly Authenticator[], credentials: Credentials): User => {
  let fault: unknown;
  for (const authenticator of authenticators) {
    try {
      const user = authenticator.authenticate(credentials);
      if (user) return { ...user, groups: [...user.groups, AUTHENTICATED] };
    } catch (error) {
      // A bad certificate must not hide a good token, and the other way round.
      fault ??= error;
    }
  }
  throw fault ?? unauthorized("a client certificate or a bearer token is needed");
};
