// Finds directories below a root as a chroot'ed process would: symbolic links, absolute ones and `..` included, can't lead out of it.
// For a tree that only this process writes to, one operation after another (an unpacking layer): so what was looked up can't be
// exchanged before it is used, and need not be looked up twice.
import { lstatSync, mkdirSync, readlinkSync, type Stats } from "node:fs";
import { GantryError } from "../../base/errors.ts";

/** As the kernel's limit (MAXSYMLINKS): links to each other must not loop for ever. */
const MAX_LINKS = 40;

export class ConfinedDirectory {
  readonly root: string;
  readonly #replaceable: (path: string, stat: Stats) => boolean;
  readonly #known = new Map<string, string>();

  /** `replaceable` is asked about a non-directory that stands where a directory is to be made; when it says true it has made one. */
  constructor(root: string, replaceable: (path: string, stat: Stats) => boolean = () => false) {
    this.root = root;
    this.#replaceable = replaceable;
  }

  /**
   * The real path, without links, of the directory `relative` ("" is the root). Missing ones are made with mode 755 when `create`.
   * Errors: "Invalid" when a part is not a directory, is missing, or links go in circles.
   */
  resolve(relative: string, create: boolean): string {
    const known = this.#known.get(relative);
    if (known !== undefined) return known;
    let real: string[] = [];
    const todo = relative.split("/").reverse();
    for (let links = 0, part = todo.pop(); part !== undefined; part = todo.pop()) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        real.pop();
        continue;
      }
      const path = [this.root, ...real, part].join("/");
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat?.isSymbolicLink() === true) {
        if (++links > MAX_LINKS) throw new GantryError("Invalid", `${JSON.stringify(relative)} goes through more than ${MAX_LINKS} symbolic links`);
        const target = readlinkSync(path);
        if (target.startsWith("/")) real = [];
        todo.push(...target.split("/").reverse());
        continue;
      }
      if (stat === undefined && create) mkdirSync(path, 0o755);
      else if (stat === undefined) throw new GantryError("Invalid", `${JSON.stringify(relative)} does not exist`);
      else if (!stat.isDirectory() && !(create && this.#replaceable(path, stat))) {
        throw new GantryError("Invalid", `${JSON.stringify(`/${[...real, part].join("/")}`)} is not a directory`);
      }
      real.push(part);
    }
    const path = [this.root, ...real].join("/");
    this.#known.set(relative, path);
    return path;
  }

  /** To be called when a directory or a symbolic link was removed: what was resolved through it no longer holds. */
  forget(): void {
    this.#known.clear();
  }
}
