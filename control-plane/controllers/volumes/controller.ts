// Binds PersistentVolumeClaims to PersistentVolumes, makes the volumes of the built-in class, claims those of generic ephemeral volumes, and
// looks after a volume whose claim is gone. It alone writes claimRef, volumeName, the two kinds' statuses and the protection finalizers.
// A volume that waits for its first consumer is made where the scheduler (an annotation on the claim) or the pod itself says.
// The order of writes is upstream's: first the volume names the claim, which only one claim can win, then the claim names the volume.
import {
  CLAIM_FINALIZER, DATA_FINALIZER, LOCAL_PROVISIONER, SELECTED_NODE_ANNOTATION, VOLUME_FINALIZER, bestMatch, claimNameOf, claimNamesOf, defaultClass, isDelayed, isMatch,
} from "../../../base/kube/claims.ts";
import { NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, PODS, STORAGE_CLASSES } from "../../../base/kube/resources.ts";
import type { PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from "../../../base/kube/types.gen.ts";
import { newUid } from "../../../base/ids.ts";
import { isCode } from "../../../base/errors.ts";
import { controllerReference, isTerminal, objectKey, splitKey, timestamp } from "../objects.ts";
import type { Controller, ControllerContext, Pass, Requeue } from "../reconcile-loop.ts";
import { claimOfPod, newLocalVolume } from "./new-objects.ts";

const BIND_COMPLETED = "pv.kubernetes.io/bind-completed";
/** Somebody else took the volume that was found. */
const RETRY_MS = 50;

export const volumeController = (context: ControllerContext): Controller => {
  const { cache, clock } = context;
  const [claims, volumes, classes] = [cache.resource(PERSISTENT_VOLUME_CLAIMS), cache.resource(PERSISTENT_VOLUMES), cache.resource(STORAGE_CLASSES)];
  const [pods, nodes] = [cache.resource(PODS), cache.resource(NODES)];

  const claimKey = (claim: { readonly namespace: string; readonly name: string }): string => `claim ${claim.namespace}/${claim.name}`;
  const users = (claim: PersistentVolumeClaim): Pod[] =>
    Array.from(pods.list(claim.metadata.namespace), (s) => s.object).filter((pod) => !isTerminal(pod) && claimNamesOf(pod).includes(claim.metadata.name!));
  const pendingClaims = function* (): Iterable<PersistentVolumeClaim> {
    for (const { object } of claims.list()) if (object.status?.phase !== "Bound") yield object;
  };
  const allVolumes = (): PersistentVolume[] => Array.from(volumes.list(), (s) => s.object);

  const setClaim = async ({ writes }: Pass, claim: PersistentVolumeClaim, change: (current: PersistentVolumeClaim) => PersistentVolumeClaim): Promise<void> => {
    await writes.update(PERSISTENT_VOLUME_CLAIMS, claim, (current) => change(current));
  };

  /** The claim gets the volume that names it. */
  const complete = async (pass: Pass, claim: PersistentVolumeClaim, volume: PersistentVolume): Promise<void> => {
    if (claim.status?.phase === "Bound" && claim.spec?.volumeName === volume.metadata.name) return;
    await setClaim(pass, claim, (current) => ({
      ...current, metadata: { ...current.metadata, annotations: { ...current.metadata.annotations, [BIND_COMPLETED]: "yes" } },
      spec: { ...current.spec, volumeName: volume.metadata.name },
      status: { ...current.status, phase: "Bound", accessModes: volume.spec?.accessModes, capacity: volume.spec?.capacity },
    }));
  };

  const bind = async (pass: Pass, claim: PersistentVolumeClaim, volume: PersistentVolume): Promise<void> => {
    const { namespace, name, uid } = claim.metadata;
    const taken = await pass.writes.update(PERSISTENT_VOLUMES, volume, (current) => (current.spec?.claimRef?.uid === uid || !isMatch(current, claim) ? undefined : {
      ...current, spec: { ...current.spec, claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name, uid } }, status: { ...current.status, phase: "Bound" },
    }));
    if (taken?.spec?.claimRef?.uid === uid) await complete(pass, claim, taken!);
    else pass.again(RETRY_MS);
  };

  const provision = async (pass: Pass, claim: PersistentVolumeClaim, storage: StorageClass, node: string): Promise<void> => {
    const wanted = newLocalVolume(claim, storage, { node, hostname: nodes.get("", node)?.object.metadata.labels?.["kubernetes.io/hostname"] ?? node, uid: newUid(), nowMs: clock.nowMs() });
    try {
      await pass.writes.create(PERSISTENT_VOLUMES, wanted);
      pass.announce({ regarding: claim, type: "Normal", reason: "ProvisioningSucceeded", message: `Successfully provisioned volume ${wanted.metadata.name!} on node ${node}` });
    } catch (error) {
      if (!isCode(error, "AlreadyExists")) throw error; // of a pass that was cut short: its event binds the claim
    }
    pass.again(RETRY_MS);
  };

  const wait = (pass: Pass, claim: PersistentVolumeClaim, reason: string, message: string, type: "Normal" | "Warning" = "Normal"): void => pass.announce({ regarding: claim, type, reason, message });

  /** No volume can be had on the node that was chosen: the scheduler is to choose again. */
  const reject = async (pass: Pass, claim: PersistentVolumeClaim): Promise<void> => {
    if (claim.metadata.annotations?.[SELECTED_NODE_ANNOTATION] === undefined) return;
    await setClaim(pass, claim, (current) => {
      const { [SELECTED_NODE_ANNOTATION]: _, ...annotations } = current.metadata.annotations ?? {};
      return { ...current, metadata: { ...current.metadata, annotations } };
    });
  };

  const findVolume = async (pass: Pass, claim: PersistentVolumeClaim): Promise<void> => {
    const all = allVolumes();
    const own = all.find((v) => v.spec?.claimRef?.uid === claim.metadata.uid);
    if (own) return complete(pass, claim, own);
    const wanted = claim.spec?.volumeName;
    if (wanted) {
      const volume = all.find((v) => v.metadata.name === wanted);
      if (!volume) return wait(pass, claim, "FailedBinding", `volume ${JSON.stringify(wanted)} is not found`, "Warning");
      return isMatch(volume, claim) ? bind(pass, claim, volume) : wait(pass, claim, "FailedBinding", `volume ${JSON.stringify(wanted)} is bound to another claim, or its class, size or access modes don't match`, "Warning");
    }
    if (claim.spec?.storageClassName === undefined) {
      const chosen = defaultClass(Array.from(classes.list(), (s) => s.object));
      if (chosen) return setClaim(pass, claim, (current) => ({ ...current, spec: { ...current.spec, storageClassName: current.spec?.storageClassName ?? chosen.metadata.name } }));
    }
    const storage = classes.get("", claim.spec?.storageClassName ?? "")?.object;
    if (!isDelayed(storage)) {
      const match = bestMatch(all, claim);
      if (match) return bind(pass, claim, match);
      return wait(pass, claim, storage ? "ProvisioningFailed" : "FailedBinding",
        storage?.provisioner === LOCAL_PROVISIONER ? `${LOCAL_PROVISIONER} makes a volume on the node of the pod that uses it: the class ${storage.metadata.name!} needs volumeBindingMode WaitForFirstConsumer`
          : storage ? `no persistent volume fits, and there is no provisioner ${JSON.stringify(storage.provisioner)} here`
            : claim.spec?.storageClassName ? `storageclass.storage.k8s.io ${JSON.stringify(claim.spec.storageClassName)} not found` : "no persistent volumes available for this claim and no storage class is set", storage ? "Warning" : "Normal");
    }
    const reserved = all.find((v) => v.spec?.claimRef && isMatch(v, claim));
    if (reserved) return bind(pass, claim, reserved);
    const selected = claim.metadata.annotations?.[SELECTED_NODE_ANNOTATION];
    const nodeName = selected ?? users(claim).find((p) => p.spec?.nodeName)?.spec?.nodeName;
    if (nodeName === undefined) return wait(pass, claim, "WaitForFirstConsumer", "waiting for first consumer to be created before binding");
    const node = nodes.get("", nodeName)?.object;
    const match = node && bestMatch(all, claim, node);
    if (match) return bind(pass, claim, match);
    if (node && storage?.provisioner === LOCAL_PROVISIONER) return provision(pass, claim, storage, nodeName);
    wait(pass, claim, "FailedBinding", `node ${nodeName} has no persistent volume that fits`, "Warning");
    return reject(pass, claim);
  };

  const syncClaim = async (key: string, pass: Pass): Promise<void> => {
    const claim = claims.get(...splitKey(key))?.object;
    if (!claim) return;
    if (claim.metadata.deletionTimestamp !== undefined) {
      if (users(claim).length === 0) await pass.writes.removeFinalizer(PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_FINALIZER);
      return;
    }
    // The API puts it on; a claim that a controller made (StatefulSets) comes without.
    if (!claim.metadata.finalizers?.includes(CLAIM_FINALIZER)) {
      await setClaim(pass, claim, (current) => (current.metadata.deletionTimestamp === undefined ? { ...current, metadata: { ...current.metadata, finalizers: [...new Set([...(current.metadata.finalizers ?? []), CLAIM_FINALIZER])] } } : current));
      return;
    }
    if (claim.status?.phase === "Bound") {
      const volume = volumes.get("", claim.spec?.volumeName ?? "")?.object;
      if (volume?.spec?.claimRef?.uid === claim.metadata.uid) return;
      await setClaim(pass, claim, (current) => ({ ...current, status: { ...current.status, phase: "Lost" } }));
      wait(pass, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!", "Warning");
      return;
    }
    if (claim.status?.phase !== "Lost") await findVolume(pass, claim);
  };

  const setPhase = async ({ writes }: Pass, volume: PersistentVolume, phase: string, message?: string): Promise<void> => {
    if (volume.status?.phase === phase && volume.status.message === message) return;
    await writes.update(PERSISTENT_VOLUMES, volume, (current) => ({ ...current, status: { ...current.status, phase, message, lastPhaseTransitionTime: timestamp(clock.nowMs()) } }));
  };

  const syncVolume = async (name: string, pass: Pass): Promise<void> => {
    const volume = volumes.get("", name)?.object;
    if (!volume) return;
    const { claimRef, csi, persistentVolumeReclaimPolicy: policy } = volume.spec ?? {};
    const claim = claimRef && claims.get(claimRef.namespace ?? "", claimRef.name ?? "")?.object;
    const isTaken = claimRef?.uid !== undefined && claim?.metadata.uid === claimRef.uid;
    if (volume.metadata.deletionTimestamp !== undefined) {
      if (isTaken) return;
      // The agent takes this off when the data is gone; without a node there is none, and with Retain it is to stay.
      if (volume.metadata.finalizers?.includes(DATA_FINALIZER) && (policy !== "Delete" || !nodes.get("", csi?.volumeAttributes?.["node"] ?? ""))) await pass.writes.removeFinalizer(PERSISTENT_VOLUMES, volume, DATA_FINALIZER);
      else await pass.writes.removeFinalizer(PERSISTENT_VOLUMES, volume, VOLUME_FINALIZER);
      return;
    }
    if (claimRef?.uid === undefined) return setPhase(pass, volume, "Available");
    if (isTaken) return setPhase(pass, volume, "Bound");
    if (policy !== "Delete") return setPhase(pass, volume, "Released");
    if (csi?.driver === LOCAL_PROVISIONER) {
      await setPhase(pass, volume, "Released");
      return pass.writes.delete(PERSISTENT_VOLUMES, volume, clock.nowMs());
    }
    if (volume.status?.phase === "Failed") return;
    const message = "Gantry deletes only volumes that it has made: delete the data and the PersistentVolume by hand, or give it persistentVolumeReclaimPolicy Retain";
    await setPhase(pass, volume, "Failed", message);
    pass.announce({ regarding: volume, type: "Warning", reason: "VolumeFailedDelete", message });
  };

  /** Generic ephemeral volumes: a claim that lives as long as its pod. */
  const syncPod = async (key: string, pass: Pass): Promise<void> => {
    const pod = pods.get(...splitKey(key))?.object;
    if (!pod || pod.metadata.deletionTimestamp !== undefined || isTerminal(pod)) return;
    for (const volume of pod.spec?.volumes ?? []) {
      if (!volume.ephemeral) continue;
      const name = claimNameOf(pod, volume)!;
      const present = claims.get(pod.metadata.namespace!, name)?.object;
      if (present?.metadata.ownerReferences?.some((r) => r.uid === pod.metadata.uid)) continue;
      if (present) {
        pass.announce({ regarding: pod, type: "Warning", reason: "FailedBinding", message: `ephemeral volume ${volume.name}: the claim ${name} exists and belongs to something else; delete it or rename the pod or the volume` });
        continue;
      }
      try {
        await pass.writes.create(PERSISTENT_VOLUME_CLAIMS, claimOfPod(pod, volume, name, { owner: controllerReference(PODS, pod), uid: newUid(), nowMs: clock.nowMs() }));
      } catch (error) {
        if (!isCode(error, "AlreadyExists")) throw error;
        pass.again(RETRY_MS);
      }
    }
  };

  const addPod = (queue: Requeue, pod: Pod): void => {
    for (const name of claimNamesOf(pod)) queue.add(claimKey({ namespace: pod.metadata.namespace!, name }));
    if (pod.spec?.volumes?.some((v) => v.ephemeral)) queue.add(`pod ${objectKey(pod)}`);
  };

  return {
    name: "volume",
    writer: "controller",
    *watch(queue) {
      const addPending = (): void => {
        for (const claim of pendingClaims()) queue.add(`claim ${objectKey(claim)}`);
      };
      yield claims.subscribe(({ type, stored: { object }, previous }) => {
        queue.add(`claim ${objectKey(object)}`);
        for (const name of new Set([object.spec?.volumeName, previous?.object.spec?.volumeName])) if (name) queue.add(`volume ${name}`);
        if (type === "deleted") for (const owner of object.metadata.ownerReferences ?? []) if (owner.kind === "Pod") queue.add(`pod ${object.metadata.namespace!}/${owner.name}`);
      });
      yield volumes.subscribe(({ stored: { object } }) => {
        queue.add(`volume ${object.metadata.name!}`);
        const { claimRef } = object.spec ?? {};
        if (claimRef) queue.add(claimKey({ namespace: claimRef.namespace ?? "", name: claimRef.name ?? "" }));
        else if (object.status?.phase === "Available") addPending();
      });
      yield classes.subscribe(addPending);
      yield pods.subscribe(({ type, stored: { object }, previous }) => {
        // Of a pod's many changes only its coming, its place and its end matter to its claims.
        if (type !== "modified" || object.spec?.nodeName !== previous?.object.spec?.nodeName || isTerminal(object)) addPod(queue, object);
      });
      yield nodes.subscribe(({ type }) => {
        if (type === "deleted") for (const volume of allVolumes()) if (volume.metadata.deletionTimestamp !== undefined) queue.add(`volume ${volume.metadata.name!}`);
      });
      for (const { object } of claims.list()) queue.add(`claim ${objectKey(object)}`);
      for (const { object } of volumes.list()) queue.add(`volume ${object.metadata.name!}`);
      for (const { object } of pods.list()) addPod(queue, object);
    },
    async sync(key, pass) {
      const space = key.indexOf(" ");
      const [kind, rest] = [key.slice(0, space), key.slice(space + 1)];
      await (kind === "claim" ? syncClaim(rest, pass) : kind === "volume" ? syncVolume(rest, pass) : syncPod(rest, pass));
    },
  };
};
