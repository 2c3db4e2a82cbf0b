// `-v`, `--mount` and `--tmpfs`, and the same in Compose files. Pure; paths are resolved against a folder that the caller names.
import { homedir } from "node:os";
import { isAbsolute, resolve } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { parseTmpfsOptions } from "../../base/kube/container-extras.ts";
import { nameFrom, objectName } from "./names.ts";
import { parseSizeBytes } from "./sizes.ts";

export type MountRequest = { readonly target: string; readonly readOnly: boolean } & (
  /** `create`: a folder is made where nothing is. */
  | { readonly type: "bind"; readonly source: string; readonly create?: boolean; readonly propagation?: "HostToContainer" | "Bidirectional" }
  /** "": a volume of the container's own, gone with it. */
  | { readonly type: "volume"; readonly source: string; readonly subPath?: string }
  /** `options`: as mount(8) has them. */
  | { readonly type: "tmpfs"; readonly sizeBytes: number; readonly options: string }
  /** One entry of a Secret or ConfigMap as a file. */
  | { readonly type: "secret" | "config"; readonly source: string; readonly key: string; readonly mode?: number }
);

const PROPAGATION: Readonly<Record<string, "HostToContainer" | "Bidirectional">> = { rslave: "HostToContainer", slave: "HostToContainer", rshared: "Bidirectional", shared: "Bidirectional" };
/** What says something about labels, caches or copying on other systems, and changes nothing here. */
const HARMLESS = new Set(["rw", "z", "Z", "cached", "delegated", "consistent", "nocopy", "private", "rprivate", "bind", "rbind"]);

const isPath = (source: string): boolean => source.startsWith("/") || source.startsWith(".") || source.startsWith("~") || source.includes("/");
const toPath = (source: string, folder: string): string => resolve(folder, source.replace(/^~(?=\/|$)/, homedir()));

const checkTarget = (where: string, target: string): string => {
  if (!isAbsolute(target)) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(target)} must be an absolute path in the container`);
  return target.length > 1 ? target.replace(/\/+$/, "") : target;
};

/** `[SOURCE:]TARGET[:OPTIONS]`: SOURCE with a / or a leading . is a path on the node, else a volume's name. */
export const parseVolumeFlag = (where: string, text: string, folder: string): MountRequest => {
  const parts = text.split(":");
  if (parts.length > 3 || parts.some((p) => p === "")) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not [SOURCE:]TARGET[:ro]`);
  const [source, target, options = ""] = parts.length === 1 ? [undefined, parts[0]!] : (parts as [string, string, string?]);
  const words = options.split(",").filter((o) => o !== "");
  const unknown = words.find((o) => o !== "ro" && !HARMLESS.has(o) && !(o in PROPAGATION));
  if (unknown !== undefined) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)}: option ${JSON.stringify(unknown)} is not ro, rw, z, Z, rshared or rslave`);
  const common = { target: checkTarget(where, target), readOnly: words.includes("ro") };
  if (source === undefined) return { type: "volume", source: "", ...common };
  if (!isPath(source)) return { type: "volume", source: objectName(`${where}: volume`, source), ...common };
  const propagation = words.map((o) => PROPAGATION[o]).find((p) => p !== undefined);
  return { type: "bind", source: toPath(source, folder), ...common, ...(propagation ? { propagation } : {}) };
};

/** docker's default for memory; nosuid and nodev hold anyway. */
export const TMPFS_DEFAULT = "noexec";

/** `TARGET[:size=64m,mode=1777,uid=1000,exec,...]`. */
export const parseTmpfsFlag = (where: string, text: string): MountRequest => {
  const colon = text.indexOf(":");
  const words = colon < 0 ? [] : text.slice(colon + 1).split(",");
  const size = words.find((o) => o.startsWith("size="))?.slice(5);
  const options = [TMPFS_DEFAULT, ...words.filter((o) => o !== "" && !o.startsWith("size=") && !["ro", "rw", "rprivate", "private"].includes(o))].join(",");
  parseTmpfsOptions(where, options);
  return { type: "tmpfs", target: checkTarget(where, colon < 0 ? text : text.slice(0, colon)), readOnly: words.includes("ro"), sizeBytes: size === undefined ? 0 : parseSizeBytes(`${where}: size`, size), options };
};

/** `type=bind,source=/a,target=/b,readonly`. */
export const parseMountFlag = (where: string, text: string, folder: string): MountRequest => {
  const fields = new Map(text.split(",").map((part): [string, string] => {
    const at = part.indexOf("=");
    return at < 0 ? [part, "true"] : [part.slice(0, at), part.slice(at + 1)];
  }));
  const take = (...keys: readonly string[]): string | undefined => keys.map((k) => fields.get(k)).find((v) => v !== undefined);
  const known = ["type", "source", "src", "target", "dst", "destination", "readonly", "ro", "bind-propagation", "volume-subpath", "tmpfs-size", "tmpfs-mode", "volume-nocopy", "consistency"];
  const unknown = [...fields.keys()].find((k) => !known.includes(k));
  if (unknown !== undefined) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(unknown)} is not one of ${known.join(", ")}`);
  const target = take("target", "dst", "destination");
  if (target === undefined) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} has no target=`);
  const readOnly = ["true", "1"].includes(take("readonly", "ro") ?? "false");
  const source = take("source", "src");
  const common = { target: checkTarget(where, target), readOnly };
  switch (take("type") ?? "volume") {
    case "bind": {
      if (source === undefined) throw new GantryError("BadRequest", `${where}: a bind mount needs source=`);
      const propagation = PROPAGATION[take("bind-propagation") ?? ""];
      return { type: "bind", source: toPath(source, folder), ...common, ...(propagation ? { propagation } : {}) };
    }
    case "volume": {
      const subPath = take("volume-subpath");
      return { type: "volume", source: source === undefined ? "" : objectName(`${where}: volume`, source), ...common, ...(subPath ? { subPath } : {}) };
    }
    case "tmpfs": {
      const mode = take("tmpfs-mode");
      const options = mode === undefined ? TMPFS_DEFAULT : `${TMPFS_DEFAULT},mode=${mode}`;
      parseTmpfsOptions(`${where}: tmpfs-mode`, options);
      return { type: "tmpfs", ...common, sizeBytes: fields.has("tmpfs-size") ? parseSizeBytes(`${where}: tmpfs-size`, fields.get("tmpfs-size")!) : 0, options };
    }
    default: throw new GantryError("BadRequest", `${where}: type ${JSON.stringify(take("type"))} is not bind, volume or tmpfs`);
  }
};

/** A name for the pod's volume, from what it holds: "data", "bind-srv-www". Unique among `used`, to which it is added. */
export const volumeNameFor = (mount: MountRequest, used: Set<string>): string => {
  const base = nameFrom(mount.type === "volume" ? mount.source || `own-${mount.target}` : mount.type === "tmpfs" ? `tmpfs-${mount.target}` : `${mount.type}-${mount.source}`).slice(0, 55).replace(/-+$/, "");
  let name = base;
  for (let i = 2; used.has(name); i++) name = `${base}-${i}`;
  used.add(name);
  return name;
};
