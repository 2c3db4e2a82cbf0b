// What removing an image means, by docker's rules: a name comes off; the image goes with its last name, unless a container needs it. Pure.
import { GantryError } from "../../base/errors.ts";
import type { Image } from "./image-service.ts";
import { familiarName } from "./reference.ts";

export interface RemovalPlan {
  readonly untag: readonly string[];
  /** The image goes, too, if nothing uses it. */
  readonly isLast: boolean;
}

const repositoryOf = (name: string): string => name.replace(/@.*$|:[^/:]*$/, "");

/**
 * `name` is the normalized name that was given, undefined when it was an ID. `users` are the containers that use the image. Errors: "Conflict", which
 * say by whom it is used or what it is called else.
 */
export const planRemoval = (shown: string, image: Image, name: string | undefined, users: readonly string[], force: boolean): RemovalPlan => {
  const conflict = (why: string): GantryError => new GantryError("Conflict", `unable to remove ${shown}: ${why}`, { retryable: false });
  const usedBy = `it is used by the container${users.length === 1 ? "" : "s"} ${users.slice(0, 5).join(", ")}${users.length > 5 ? ` and ${users.length - 5} more` : ""}`;
  if (name === undefined) {
    if (users.length > 0) throw conflict(`${usedBy}; delete ${users.length === 1 ? "it" : "them"} first`);
    if (image.names.length > 1 && !force) throw conflict(`it has several names (${image.names.map(familiarName).join(", ")}); remove them by name, or all with --force`);
    return { untag: image.names, isLast: true };
  }
  // A digest of the same repository came with the tag, and goes with the last one.
  const others = image.names.filter((other) => other !== name);
  const isLast = others.every((other) => other.includes("@") && repositoryOf(other) === repositoryOf(name));
  if (!isLast) return { untag: [name], isLast: false };
  if (users.length > 0 && !force) throw conflict(`${usedBy}; --force takes the name off nevertheless`);
  return { untag: [name, ...others], isLast: true };
};
