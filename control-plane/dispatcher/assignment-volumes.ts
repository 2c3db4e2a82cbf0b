// Volumes of an assignment: ConfigMaps, Secrets and the downward API become files. Pure.
import type {
  ConfigMap, ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, PersistentVolume, PersistentVolumeClaim, Pod, Secret, SecretProjection, Volume as KubeVolume,
} from "../../base/kube/types.gen.ts";
import { LOCAL_PROVISIONER, claimNameOf, isBound } from "../../base/kube/claims.ts";
import { isHugePagesMedium, volumePageBytes } from "../../base/kube/huge-pages.ts";
import { tryParseQuantity } from "../../base/kube/quantity.ts";
import type { File, Volume } from "../../proto/gen/gantry/v1/agent.ts";
import { fieldValue, resourceValue } from "./pod-fields.ts";
import type { NodeAllocatable } from "./pod-fields.ts";

/** Objects of the pod's namespace, by name. */
export interface References {
  configMap(name: string): ConfigMap | undefined;
  secret(name: string): Secret | undefined;
  claim(name: string): PersistentVolumeClaim | undefined;
  /** Of the cluster. */
  persistentVolume(name: string): PersistentVolume | undefined;
}

const DEFAULT_MODE = 0o644;

/** A failure in words, collected so that a pod says all that it waits for. */
type Fault = (message: string) => void;

type Entries = ReadonlyMap<string, Buffer<ArrayBuffer>>;

const base64 = (text: string): Buffer<ArrayBuffer> => Buffer.from(text, "base64");

export const configMapEntries = (map: ConfigMap): Entries => new Map([
  ...Object.entries(map.data ?? {}).map(([k, v]) => [k, Buffer.from(v)] as const),
  ...Object.entries(map.binaryData ?? {}).map(([k, v]) => [k, base64(v)] as const),
]);

export const secretEntries = (secret: Secret): Entries =>
  new Map(Object.entries(secret.data ?? {}).map(([k, v]) => [k, base64(v)]));

interface KeyFiles {
  readonly kind: "configmap" | "secret";
  readonly name: string;
  readonly entries: Entries | undefined;
  readonly items: readonly KeyToPath[] | undefined;
  readonly optional: boolean;
  readonly mode: number;
}

const filesOfKeys = ({ kind, name, entries, items, optional, mode }: KeyFiles, fault: Fault): File[] => {
  if (entries === undefined) {
    if (!optional) fault(`${kind} ${JSON.stringify(name)} not found`);
    return [];
  }
  if (items === undefined || items.length === 0) return [...entries].map(([path, data]) => ({ path, data, mode, fieldPath: "" }));
  return items.flatMap((item) => {
    const data = entries.get(item.key);
    if (data === undefined) {
      if (!optional) fault(`${kind} ${JSON.stringify(name)}: references non-existent ${kind === "secret" ? "secret" : "config"} key: ${item.key}`);
      return [];
    }
    return [{ path: item.path, data, mode: item.mode ?? mode, fieldPath: "" }];
  });
};

const downwardFiles = (pod: Pod, items: readonly DownwardAPIVolumeFile[] | undefined, mode: number, allocatable: NodeAllocatable, fault: Fault): File[] =>
  (items ?? []).flatMap((item) => {
    const spec = pod.spec!;
    const field = item.fieldRef ? fieldValue(pod, item.fieldRef.fieldPath) : undefined;
    const text = field && "value" in field ? field.value : item.resourceFieldRef ? resourceValue(spec, spec.containers[0]!, item.resourceFieldRef, allocatable) : undefined;
    const fieldPath = field && "onNode" in field ? field.onNode : "";
    if (text === undefined && fieldPath === "") {
      fault(`no such field: ${item.fieldRef?.fieldPath ?? item.resourceFieldRef?.resource ?? ""}`);
      return [];
    }
    return [{ path: item.path, data: Buffer.from(text ?? ""), mode: item.mode ?? mode, fieldPath }];
  });

/** What is behind a claim, once it is bound; a fault until then, which goes with the next assignment. */
const claimedVolume = (pod: Pod, volume: KubeVolume, references: References, fault: Fault): Volume => {
  const name = claimNameOf(pod, volume)!;
  const claim = references.claim(name);
  const no = (message: string): undefined => {
    fault(message);
    return undefined;
  };
  const source = ((): Volume["source"] => {
    if (!claim) return no(`persistentvolumeclaim ${JSON.stringify(name)} not found`);
    if (volume.ephemeral && !claim.metadata.ownerReferences?.some((r) => r.uid === pod.metadata.uid)) return no(`persistentvolumeclaim ${JSON.stringify(name)} was not created for this pod`);
    if (!isBound(claim)) return no(`persistentvolumeclaim ${JSON.stringify(name)} is not bound to a volume yet`);
    const bound = references.persistentVolume(claim.spec!.volumeName!);
    const { hostPath, local, csi } = bound?.spec ?? {};
    if (hostPath) return { $case: "hostPath", value: { path: hostPath.path, type: hostPath.type ?? "" } };
    if (local) return { $case: "hostPath", value: { path: local.path, type: "Directory" } };
    if (csi?.driver === LOCAL_PROVISIONER) return { $case: "local", value: { id: csi.volumeHandle } };
    return no(`persistentvolume ${JSON.stringify(claim.spec!.volumeName)} ${bound ? "has no source that Gantry can mount" : "not found"}`);
  })();
  return { name: volume.name, source };
};

export const toVolume = (pod: Pod, volume: KubeVolume, references: References, allocatable: NodeAllocatable, report: Fault): Volume => {
  // As the kubelet words it, which is what people search for.
  const fault: Fault = (message) => report(`MountVolume.SetUp failed for volume ${JSON.stringify(volume.name)} : ${message}`);
  const configMapFiles = (source: ConfigMapProjection, mode: number): File[] => {
    const map = references.configMap(source.name ?? "");
    return filesOfKeys({ kind: "configmap", name: source.name ?? "", entries: map && configMapEntries(map), items: source.items, optional: source.optional ?? false, mode }, fault);
  };
  const secretFiles = (source: SecretProjection, mode: number): File[] => {
    const secret = references.secret(source.name ?? "");
    return filesOfKeys({ kind: "secret", name: source.name ?? "", entries: secret && secretEntries(secret), items: source.items, optional: source.optional ?? false, mode }, fault);
  };
  const files = (list: File[], memory: boolean): Volume => ({ name: volume.name, source: { $case: "files", value: { files: list, memory } } });

  if (volume.emptyDir) {
    const { medium = "", sizeLimit } = volume.emptyDir;
    const page = isHugePagesMedium(medium) ? volumePageBytes(pod.spec!, medium) : 0;
    if (typeof page !== "number") fault(`medium ${medium}: ${page.fault}`);
    const hugePageBytes = typeof page === "number" ? page : 0;
    return { name: volume.name, source: { $case: "emptyDir", value: { memory: medium === "Memory" || hugePageBytes > 0, sizeLimitBytes: Math.ceil(tryParseQuantity(sizeLimit ?? "0") ?? 0), hugePageBytes } } };
  }
  if (volume.hostPath) return { name: volume.name, source: { $case: "hostPath", value: { path: volume.hostPath.path, type: volume.hostPath.type ?? "" } } };
  if (volume.configMap) return files(configMapFiles(volume.configMap, volume.configMap.defaultMode ?? DEFAULT_MODE), false);
  if (volume.secret) return files(secretFiles({ ...volume.secret, name: volume.secret.secretName }, volume.secret.defaultMode ?? DEFAULT_MODE), true);
  if (volume.downwardAPI) return files(downwardFiles(pod, volume.downwardAPI.items, volume.downwardAPI.defaultMode ?? DEFAULT_MODE, allocatable, fault), false);
  if (volume.projected) {
    const mode = volume.projected.defaultMode ?? DEFAULT_MODE;
    const sources = volume.projected.sources ?? [];
    const list = sources.flatMap((source) => {
      if (source.configMap) return configMapFiles(source.configMap, mode);
      if (source.secret) return secretFiles(source.secret, mode);
      if (source.downwardAPI) return downwardFiles(pod, source.downwardAPI.items, mode, allocatable, fault);
      fault(`projected source ${Object.keys(source).join(", ")} is not supported; configMap, secret and downwardAPI are`);
      return [];
    });
    return files(list, sources.some((source) => source.secret !== undefined));
  }
  if (volume.persistentVolumeClaim ?? volume.ephemeral) return claimedVolume(pod, volume, references, fault);
  const kind = Object.keys(volume).find((key) => key !== "name") ?? "none";
  fault(`volumes of kind ${kind} are not supported; emptyDir, hostPath, configMap, secret, downwardAPI, projected, persistentVolumeClaim and ephemeral are`);
  return { name: volume.name, source: undefined };
};
