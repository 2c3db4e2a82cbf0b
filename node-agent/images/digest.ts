// Content digests (image-spec descriptor.md, "Digests"): the name of a blob is the hash of its bytes.
import { createHash, type Hash } from "node:crypto";
import { GantryError } from "../../base/errors.ts";

export type DigestAlgorithm = "sha256" | "sha512";
export type Digest = `${DigestAlgorithm}:${string}`;

const HEX_LENGTH: Readonly<Record<DigestAlgorithm, number>> = { sha256: 64, sha512: 128 };

export const isDigest = (text: string): text is Digest => {
  const [algorithm, hex, ...rest] = text.split(":");
  if ((algorithm !== "sha256" && algorithm !== "sha512") || hex === undefined || rest.length > 0) return false;
  return hex.length === HEX_LENGTH[algorithm] && /^[0-9a-f]+$/.test(hex);
};

/** `what` names the place in the error, such as "layer 2 of the manifest". Errors: "Invalid". */
export const parseDigest = (text: unknown, what: string): Digest => {
  if (typeof text === "string" && isDigest(text)) return text;
  throw new GantryError("Invalid", `${what}: ${JSON.stringify(text)} is not a digest (sha256:<64 hex digits> or sha512:<128 hex digits>)`);
};

export const algorithmOf = (digest: Digest): DigestAlgorithm => (digest.startsWith("sha512:") ? "sha512" : "sha256");
export const hexOf = (digest: Digest): string => digest.slice(digest.indexOf(":") + 1);
export const hashFor = (digest: Digest): Hash => createHash(algorithmOf(digest));
export const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
/** Does `bytes` hash to `digest`, by the digest's own algorithm? */
export const matches = (digest: Digest, bytes: Uint8Array): boolean => hashFor(digest).update(bytes).digest("hex") === hexOf(digest);
