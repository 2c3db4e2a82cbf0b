// Who a container runs as: the image's or the pod's user, looked up in the root filesystem's own /etc/passwd and /etc/group, which
// are the image's and so not to be trusted: read confined, at most 1 MiB.
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { O_PATH, Resolve, openConfined } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";

export interface OciUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

const MAX_FILE_BYTES = 1 << 20;
const MAX_LINKS = 40;
const MAX_ID = 2 ** 31 - 1;

/**
 * Where `path` of a container leads, with every symbolic link taken as the container would: absolute ones and `..` stay inside
 * `root`. Only for roots that nothing runs in (a link could change between this and its use).
 */
export const resolveInRoot = (root: string, path: string): string => {
  let resolved: string[] = [];
  const pending = path.split("/").reverse();
  for (let links = 0; pending.length > 0;) {
    const part = pending.pop()!;
    if (part === "" || part === ".") continue;
    if (part === "..") {
      resolved.pop();
      continue;
    }
    const here = join(root, ...resolved, part);
    if (lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink()) {
      if (++links > MAX_LINKS) throw new GantryError("Invalid", `${path}: too many symbolic links`);
      const target = readlinkSync(here);
      if (target.startsWith("/")) resolved = [];
      pending.push(...target.split("/").reverse());
    } else {
      resolved.push(part);
    }
  }
  return join(root, ...resolved);
};

/** "" when there is no such file. Links end at `root`, also those that are made while we look. */
const readConfined = (root: number, path: string): string => {
  let found: number;
  try {
    found = openConfined(root, path, { flags: O_PATH, resolve: Resolve.inRoot | Resolve.noMagicLinks });
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return "";
    throw error;
  }
  try {
    // A FIFO or device in place of the file would hang or feed us for ever.
    if (!fstatSync(found).isFile()) return "";
    const fd = openSync(`/proc/self/fd/${found}`, "r");
    try {
      const buffer = Buffer.alloc(Math.min(MAX_FILE_BYTES, fstatSync(fd).size));
      return buffer.toString("utf8", 0, readSync(fd, buffer, 0, buffer.length, 0));
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(found);
  }
};

const records = (text: string): readonly string[][] =>
  text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#")).map((line) => line.trim().split(":"));

const asId = (text: string | undefined): number | undefined => (text !== undefined && /^\d+$/.test(text) && Number(text) <= MAX_ID ? Number(text) : undefined);

/**
 * `user` as in an image config: "", "name", "uid", "name:group", "uid:gid". Without a group: the passwd entry's, else 0.
 * `additional`, ids and names, and, unless `strict`, the groups that list the user as a member become supplementary. "Invalid" for a name that isn't there.
 */
export const resolveUser = (user: string, additional: readonly (number | string)[], read: (path: string) => string, strict = false): OciUser => {
  const [name = "", group] = user.split(":", 2) as [string?, string?];
  const passwd = records(read("/etc/passwd"));
  const wanted = name === "" ? "0" : name;
  const entry = passwd.find((fields) => fields[0] === wanted) ?? passwd.find((fields) => asId(fields[2]) === asId(wanted) && asId(wanted) !== undefined);
  const uid = asId(wanted) ?? asId(entry?.[2]);
  if (uid === undefined) throw new GantryError("Invalid", `unable to find user ${name}: no matching entries in the image's /etc/passwd; use a numeric user id or add the user to the image`);

  const groups = records(read("/etc/group"));
  const idOf = (groupName: string): number | undefined => asId(groupName) ?? asId(groups.find((fields) => fields[0] === groupName)?.[2]);
  let gid: number;
  if (group !== undefined && group !== "") {
    const found = idOf(group);
    if (found === undefined) throw new GantryError("Invalid", `unable to find group ${group}: no matching entries in the image's /etc/group; use a numeric group id or add the group to the image`);
    gid = found;
  } else {
    gid = asId(entry?.[3]) ?? 0;
  }
  const added = additional.map((one) => {
    const found = typeof one === "number" ? one : idOf(one);
    if (found === undefined) throw new GantryError("Invalid", `Unable to find group ${one}: no matching entries in group file`);
    return found;
  });
  const login = entry?.[0];
  const memberships = login === undefined || strict ? [] : groups.filter((fields) => fields[3]?.split(",").includes(login)).map((fields) => asId(fields[2]));
  const additionalGids = [...new Set([...added, ...memberships.filter((id) => id !== undefined), gid])].sort((a, b) => a - b);
  return { uid, gid, additionalGids };
};

/** `rootfs`: a directory, or `/proc/self/fd/N` of one. */
export const resolveUserIn = (rootfs: string, user: string, additional: readonly (number | string)[], strict = false): OciUser => {
  const root = openSync(rootfs, O_PATH | constants.O_DIRECTORY);
  try {
    return resolveUser(user, additional, (path) => readConfined(root, path), strict);
  } finally {
    closeSync(root);
  }
};
