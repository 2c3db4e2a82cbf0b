// Join tokens in the store: Kubernetes bootstrap tokens, kept as Secrets so that kubectl shows and deletes them.
// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/#bootstrap-token-secret-format
import { timingSafeEqual } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { SECRETS } from "../../base/kube/resources.ts";
import type { Secret } from "../../base/kube/types.gen.ts";
import { formatJoinToken, newJoinToken, TOKEN_NAMESPACE, TOKEN_SECRET_TYPE, tokenSecretData, tokenSecretName } from "../../base/tls/join-token.ts";
import type { WatchCache } from "../state/cache.ts";
import type { ObjectKey, Store } from "../state/store.ts";

const keyOfToken = (id: string): ObjectKey<Secret> => ({ type: SECRETS, namespace: TOKEN_NAMESPACE, name: tokenSecretName(id) });
const decode = (text: string | undefined): string => Buffer.from(text ?? "", "base64").toString();

export interface NewTokenOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly caFingerprint: string;
  readonly validForMs: number;
  readonly description?: string;
}

/** Writes the token's Secret and returns the whole token, whose fingerprint is kept nowhere else. */
export const createJoinToken = async ({ store, clock, caFingerprint, validForMs, description }: NewTokenOptions): Promise<{ readonly token: string; readonly expiresMs: number }> => {
  const token = newJoinToken(caFingerprint);
  const expiresMs = clock.nowMs() + validForMs;
  const key = keyOfToken(token.id);
  const data = Object.entries(tokenSecretData(token, expiresMs, description)).map(([k, v]) => [k, Buffer.from(v).toString("base64")] as const);
  await store.create(key, {
    apiVersion: "v1", kind: "Secret", type: TOKEN_SECRET_TYPE, data: Object.fromEntries(data),
    metadata: { name: key.name, namespace: key.namespace, uid: newUid(), creationTimestamp: `${new Date(clock.nowMs()).toISOString().slice(0, 19)}Z` },
  }, { writer: "api" });
  return { token: formatJoinToken(token), expiresMs };
};

const sameText = (a: string, b: string): boolean => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  // timingSafeEqual wants equal lengths; the length of a token is no secret.
  return left.length === right.length && timingSafeEqual(left, right);
};

/** Checks ID.SECRET against its Secret. "Unauthorized" with a reason that the person who joins a node can act on. */
export const verifyJoinToken = async (text: string, { store, cache, clock }: { readonly store: Store; readonly cache: WatchCache; readonly clock: Clock }): Promise<void> => {
  const fault = (why: string): GantryError => new GantryError("Unauthorized", `join token: ${why}; make a new one with \`gantry token create\``);
  const match = /^([a-z0-9]{6})\.([a-z0-9]{16})$/.exec(text);
  if (!match) throw fault("malformed");
  const [id, secret] = [match[1]!, match[2]!];
  // A token may be used the moment after it was made, before the cache shows it.
  const key = keyOfToken(id);
  const found = cache.resource(SECRETS).get(key.namespace, key.name)?.object ?? (await store.get(key))?.object;
  // The same words for an unknown ID and a wrong secret: which IDs exist is nobody's business.
  if (found?.type !== TOKEN_SECRET_TYPE || !sameText(decode(found.data?.["token-secret"]), secret)) throw fault(`unknown token with ID ${id} (was it deleted?)`);
  if (decode(found.data?.["usage-bootstrap-authentication"]) !== "true") throw fault(`the token with ID ${id} may not be used to join nodes`);
  const expiration = decode(found.data?.["expiration"]);
  if (expiration !== "" && !(Date.parse(expiration) > clock.nowMs())) throw fault(`the token with ID ${id} expired at ${expiration}`);
};
