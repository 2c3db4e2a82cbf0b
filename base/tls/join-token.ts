// Join tokens: their text, gantry.ID.SECRET.CAFINGERPRINT, and the Secret that the control plane checks them against. ID and
// SECRET are those of a Kubernetes bootstrap token (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/);
// the fingerprint tells the joining machine which CA to believe.
import { randomInt } from "node:crypto";
import { GantryError } from "../errors.ts";

export interface JoinToken {
  /** Six characters; not secret, names the token's Secret. */
  readonly id: string;
  /** Sixteen characters. */
  readonly secret: string;
  /** See caFingerprint in describe.ts. */
  readonly caFingerprint: string;
}

const ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789";
const randomText = (length: number): string => Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join("");

export const newJoinToken = (caFingerprint: string): JoinToken => ({ id: randomText(6), secret: randomText(16), caFingerprint });

export const TOKEN_NAMESPACE = "kube-system";
export const TOKEN_SECRET_TYPE = "bootstrap.kubernetes.io/token";
export const tokenSecretName = (id: string): string => `bootstrap-token-${id}`;

/** What the token's Secret holds, as plain text (stringData). */
export const tokenSecretData = ({ id, secret }: JoinToken, expiresMs: number, description = ""): Readonly<Record<string, string>> => ({
  "token-id": id, "token-secret": secret, expiration: `${new Date(expiresMs).toISOString().slice(0, 19)}Z`, "usage-bootstrap-authentication": "true",
  ...(description === "" ? {} : { description }),
});

export const formatJoinToken = (token: JoinToken): string => `gantry.${token.id}.${token.secret}.${token.caFingerprint}`;

/** "Invalid" when it isn't one. The message never repeats the token: it ends up in logs. */
export const parseJoinToken = (text: string): JoinToken => {
  const [prefix, id = "", secret = "", caFingerprint = "", ...rest] = text.trim().split(".");
  const fault = (why: string): GantryError =>
    new GantryError("Invalid", `malformed join token: ${why}; expected gantry.ID.SECRET.CAFINGERPRINT as \`gantry token create\` prints it`);
  if (prefix !== "gantry") throw fault("it does not begin with \"gantry.\"");
  if (!/^[a-z0-9]{6}$/.test(id)) throw fault("its ID (second part) is not six lower-case letters or digits");
  if (!/^[a-z0-9]{16}$/.test(secret)) throw fault("its secret (third part) is not sixteen lower-case letters or digits");
  if (!/^[A-Za-z0-9_-]{43}$/.test(caFingerprint)) throw fault("its CA fingerprint (fourth part) is not 43 characters of base64url");
  if (rest.length > 0) throw fault("it has more than four parts");
  return { id, secret, caFingerprint };
};
