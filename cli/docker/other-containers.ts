// What a new container takes over from others that are there: names (--link), mounts (--volumes-from). Pure.
import { GantryError } from "../../base/errors.ts";
import type { Pod, Volume, VolumeMount } from "../../base/kube/types.gen.ts";
import type { FoundContainer } from "./find-container.ts";
import type { MountRequest } from "./mount-flag.ts";
import { objectName } from "./names.ts";

export interface Link {
  readonly container: string;
  readonly alias: string;
}

export interface VolumesFrom {
  readonly container: string;
  readonly readOnly: boolean;
}

/** "db", "db:database". */
export const parseLink = (where: string, text: string): Link => {
  const [container = "", alias = container, ...more] = text.split(":");
  if (container === "" || more.length > 0) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not CONTAINER[:NAME]`);
  return { container, alias: objectName(where, alias) };
};

/** "data", "data:ro". */
export const parseVolumesFrom = (where: string, text: string): VolumesFrom => {
  const [container = "", mode = "rw", ...more] = text.split(":");
  if (container === "" || more.length > 0 || !["ro", "rw", "z", "Z"].includes(mode)) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not CONTAINER[:ro]`);
  return { container, readOnly: mode === "ro" };
};

/** Lines for /etc/hosts: its alias and its own name, as docker's --link. An address stays the container's until it is removed. "FailedPrecondition" when it has none. */
export const hostsOfLink = ({ alias }: Link, pod: Pod): readonly string[] => {
  const address = pod.status?.podIP;
  if (!address || pod.spec?.hostNetwork) throw new GantryError("FailedPrecondition", `--link: container ${pod.metadata.name!} has no address of its own: is it running, and not on the host's network?`);
  return [...new Set([alias, pod.metadata.name!])].map((name) => `${name}:${address}`);
};

const toMount = (mount: VolumeMount, volume: Volume, common: { readonly target: string; readonly readOnly: boolean }): MountRequest | undefined => {
  if (volume.hostPath && !mount.subPath) return { type: "bind", source: volume.hostPath.path, ...common };
  if (volume.persistentVolumeClaim) return { type: "volume", source: volume.persistentVolumeClaim.claimName, ...common, ...(mount.subPath ? { subPath: mount.subPath } : {}) };
  if (volume.secret?.secretName && mount.subPath) return { type: "secret", source: volume.secret.secretName, key: mount.subPath, ...common };
  if (volume.configMap?.name && mount.subPath) return { type: "config", source: volume.configMap.name, key: mount.subPath, ...common };
  return undefined;
};

/** The mounts of another container. "FailedPrecondition" for those that live and end with its pod; what is in memory is left out, as docker does. */
export const mountsFrom = ({ pod, container }: FoundContainer, readOnly: boolean): readonly MountRequest[] =>
  (container.volumeMounts ?? []).flatMap((mount) => {
    const volume = pod.spec?.volumes?.find((v) => v.name === mount.name);
    if (!volume || volume.emptyDir?.medium === "Memory") return [];
    const found = toMount(mount, volume, { target: mount.mountPath, readOnly: readOnly || (mount.readOnly ?? false) });
    if (!found) throw new GantryError("FailedPrecondition", `--volumes-from ${pod.metadata.name!}: ${mount.mountPath} is a volume without a name, that only its own pod can use: give it one with -v NAME:${mount.mountPath}`);
    return [found];
  });

/** "8080/tcp", "53/udp", "9000": an image's ExposedPorts. */
export const exposedPorts = (ports: readonly string[]): readonly { readonly containerPort: number; readonly protocol: "TCP" | "UDP" | "SCTP" }[] =>
  ports.flatMap((text) => {
    const match = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text);
    return match ? [{ containerPort: Number(match[1]), protocol: (match[2] ?? "tcp").toUpperCase() as "TCP" | "UDP" | "SCTP" }] : [];
  });
