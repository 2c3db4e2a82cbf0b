// docker cp's rules: which side is the container's, and under which name what is copied comes to lie. Pure.
// https://docs.docker.com/reference/cli/docker/container/cp/
import { basename, dirname } from "node:path";
import { GantryError } from "../../base/errors.ts";

export interface ContainerPath {
  readonly pod: string;
  readonly path: string;
}

/** "POD:/path"; undefined for a path of this machine ("./a:b" and "/a:b" are) and for "-". */
export const containerPath = (text: string): ContainerPath | undefined => {
  const colon = text.indexOf(":");
  if (colon <= 0 || text.startsWith("/") || text.startsWith(".")) return undefined;
  return { pod: text.slice(0, colon), path: text.slice(colon + 1) || "/" };
};

export interface End {
  readonly exists: boolean;
  readonly isDirectory: boolean;
}

export interface Placing {
  /** Directory that is written into. */
  readonly directory: string;
  /** What the copied thing is called there; "" when only its contents are copied. */
  readonly name: string;
  /** The directory has to be made first. */
  readonly make: boolean;
}

/** `source` and `target` are paths as given: a "/." or "/" at the end says something. "BadRequest" where docker refuses. */
export const placing = (source: string, sourceIsDirectory: boolean, target: string, at: End): Placing => {
  const contentsOnly = sourceIsDirectory && /(?:^|\/)\.$/.test(source);
  const name = basename(source.replace(/\/\.$/, "")) || "/";
  const plain = target.replace(/(?<=.)\/+$/, "");
  if (at.exists && at.isDirectory) return { directory: plain, name: contentsOnly || name === "/" || name === "." || name === ".." ? "" : name, make: false };
  if (at.exists) {
    if (sourceIsDirectory) throw new GantryError("BadRequest", `${target} is a file: a directory can't be copied onto it`);
    if (target.endsWith("/")) throw new GantryError("BadRequest", `${target} is a file, not a directory`);
    return { directory: dirname(plain), name: basename(plain), make: false };
  }
  if (sourceIsDirectory) return { directory: plain, name: "", make: true };
  if (target.endsWith("/")) throw new GantryError("BadRequest", `${target}: no such directory`);
  return { directory: dirname(plain), name: basename(plain), make: false };
};

/** The entry of an archive under `name` in place of its top entry's name; "" drops that, and undefined stands for the dropped top itself. */
export const renamed = (path: string, name: string): string | undefined => {
  const rest = path.replace(/^(?:\.\/)*/, "").replace(/\/+$/, "").split("/").slice(1).join("/");
  const whole = [name, rest].filter((p) => p !== "").join("/");
  return whole === "" ? undefined : whole;
};
