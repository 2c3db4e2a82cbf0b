// Whether this machine can give pods user namespaces (hostUsers: false), and what it takes. Found out by doing it once, at the agent's
// start: what kernel, file system, sysctls and security modules allow together is written nowhere.
import { lstatSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describeError, GantryError } from "../../base/errors.ts";
import { withFileIds } from "../linux/file-ids.ts";
import { mountIdmappedOverlay } from "../linux/idmap.ts";
import { unmountAllBelow } from "../linux/mount.ts";
import { ensureProgram } from "../linux/static-program.ts";
import { pinUserNamespaces, userNamespaceProgram, type UserNamespacePins } from "../linux/user-namespace.ts";
import { IDS_PER_POD, type IdRange } from "./user-ids.ts";

export type UserNamespaces =
  | { readonly isSupported: true; readonly range: IdRange; pin(pins: Omit<UserNamespacePins, "program" | "count">): void }
  | { readonly isSupported: false; readonly reason: string };

/**
 * `directory` is on the file system of images and writable layers, which has to take part; it keeps the program and is otherwise left empty. Below `runRoot`
 * are the roots of containers.
 */
export const openUserNamespaces = ({ directory, runRoot, range, arch }: { readonly directory: string; readonly runRoot: string; readonly range: IdRange; readonly arch: string }): UserNamespaces => {
  try {
    checkWay(runRoot);
    const program = ensureProgram(directory, "user-namespace", userNamespaceProgram(arch));
    const pin = (pins: Omit<UserNamespacePins, "program" | "count">): void => pinUserNamespaces({ ...pins, program, count: IDS_PER_POD });
    tryOnce(join(directory, "trial"), range.firstId, pin);
    return { isSupported: true, range, pin };
  } catch (error) {
    return { isSupported: false, reason: describeError(error) };
  }
};

/** On the way to its root a container's first process is nobody already. */
const checkWay = (path: string): void => {
  if ((statSync(path).mode & 0o001) === 0) throw new GantryError("FailedPrecondition", `${path} is closed to others, and lies on the way to the roots of containers: chmod o+x it`);
  if (path !== "/") checkWay(dirname(path));
};

const tryOnce = (directory: string, firstId: number, pin: (pins: Omit<UserNamespacePins, "program" | "count">) => void): void => {
  const at = (name: string): string => join(directory, name);
  const clear = (): void => {
    unmountAllBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  };
  clear(); // of an agent that was killed
  try {
    for (const name of ["lower", "layer/upper", "layer/work", "root"]) mkdirSync(at(name), { recursive: true });
    pin({ firstId, user: at("ns/user"), net: at("ns/net"), ipc: at("ns/ipc"), uts: at("ns/uts"), hostname: "trial" });
    writeFileSync(at("lower/file"), "");
    mountIdmappedOverlay({ lowerDirs: [at("lower")], upper: at("layer/upper"), work: at("layer/work"), target: at("root") }, { userNamespace: at("ns/user"), firstId }, at("staging"));
    withFileIds(firstId, () => writeFileSync(at("root/new"), ""));
    const [shown, stored] = [lstatSync(at("root/file")).uid, lstatSync(at("layer/upper/new")).uid];
    if (shown !== firstId || stored !== 0) throw new Error(`an overlay of idmapped layers shows user 0 as ${shown} (not ${firstId}) and stores ${firstId} as ${stored} (not 0): Linux 5.19 or later is needed`);
  } finally {
    clear();
  }
};
