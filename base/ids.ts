// Random identifiers. nanoid where an id only has to be unique, UUIDs where Kubernetes clients expect the format.
import { randomUUID } from "node:crypto";
import { customAlphabet, nanoid } from "nanoid";

/** Suffix alphabet of Kubernetes' generateName: no vowels (no words), no 0, 1, 3 (misread). k8s.io/apimachinery/pkg/util/rand. */
const SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

export const newUid = (): string => randomUUID();
/** Suffix that `generateName` appends: 5 characters. */
export const nameSuffix: () => string = customAlphabet(SUFFIX_ALPHABET, 5);
/** Session, stream and request ids: 21 URL-safe characters, 126 bits. */
export const newId = (): string => nanoid();
export { SUFFIX_ALPHABET };
