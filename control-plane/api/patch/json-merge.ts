// JSON merge patch: RFC 7386.
import { GantryError } from "../../../base/errors.ts";

/** Far deeper than any object of ours; protects the stack. */
export const MAX_PATCH_DEPTH = 200;

export const isPlainObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

export const tooDeep = (): GantryError => new GantryError("BadRequest", `the patch is nested more than ${MAX_PATCH_DEPTH} levels deep`);

const merge = (original: unknown, patch: unknown, depth: number): unknown => {
  if (depth > MAX_PATCH_DEPTH) throw tooDeep();
  if (!isPlainObject(patch)) return patch;
  const result = new Map(isPlainObject(original) ? Object.entries(original) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) result.delete(key);
    else result.set(key, merge(result.get(key), value, depth + 1));
  }
  return Object.fromEntries(result);
};

/** A new value; neither argument changes. BadRequest when the patch is no object (it would replace the whole). */
export const applyJsonMerge = (original: unknown, patch: unknown): unknown => {
  if (!isPlainObject(patch)) throw new GantryError("BadRequest", "a merge patch must be a JSON object");
  return merge(original, patch, 0);
};
