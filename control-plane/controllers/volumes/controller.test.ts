import test from "ava";
import { CLAIM_FINALIZER, DATA_FINALIZER, SELECTED_NODE_ANNOTATION, VOLUME_FINALIZER } from "../../../base/kube/claims.ts";
import { NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, PODS, STORAGE_CLASSES } from "../../../base/kube/resources.ts";
import type { PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from "../../../base/kube/types.gen.ts";
import { createBench, NS } from "../testing.ts";
import { volumeController } from "./controller.ts";

const volume = (name: string, storage: string, spec: Partial<PersistentVolume["spec"]> = {}): PersistentVolume => ({
  apiVersion: "v1", kind: "PersistentVolume", metadata: { name, uid: `uid-${name}`, finalizers: [VOLUME_FINALIZER] },
  spec: { capacity: { storage }, accessModes: ["ReadWriteOnce"], hostPath: { path: `/disks/${name}` }, persistentVolumeReclaimPolicy: "Retain", ...spec }, status: { phase: "Pending" },
});
const claim = (name: string, spec: Partial<PersistentVolumeClaim["spec"]> = {}): PersistentVolumeClaim => ({
  apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name, namespace: NS, uid: `uid-${name}`, finalizers: [CLAIM_FINALIZER] },
  spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } }, storageClassName: "", ...spec }, status: { phase: "Pending" },
});
const storageClass = (name: string, more: Partial<StorageClass> = {}, isDefault = false): StorageClass => ({
  apiVersion: "storage.k8s.io/v1", kind: "StorageClass", metadata: { name, uid: `uid-${name}`, annotations: isDefault ? { "storageclass.kubernetes.io/is-default-class": "true" } : {} },
  provisioner: "gantry.io/local", reclaimPolicy: "Delete", volumeBindingMode: "WaitForFirstConsumer", ...more,
});
const node = (name: string) => ({ apiVersion: "v1", kind: "Node", metadata: { name, uid: `uid-${name}`, labels: { "kubernetes.io/hostname": name } } });
const user = (name: string, claimName: string, nodeName?: string): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: `uid-${name}` }, spec: { nodeName, containers: [{ name: "c" }], volumes: [{ name: "v", persistentVolumeClaim: { claimName } }] }, status: { phase: "Pending" },
});
const marked = <T extends { metadata: object }>(object: T): T => ({ ...object, metadata: { ...object.metadata, deletionTimestamp: "2026-01-01T00:00:00Z", deletionGracePeriodSeconds: 0 } });

test("a claim gets the smallest volume that fits in size, modes, class and labels, and no two get the same", async (t) => {
  const b = await createBench(t, [volumeController]);
  await b.put(PERSISTENT_VOLUMES, volume("large", "10Gi"));
  await b.put(PERSISTENT_VOLUMES, volume("medium", "5Gi"));
  await b.put(PERSISTENT_VOLUMES, volume("tiny", "1Mi"));
  await b.put(PERSISTENT_VOLUMES, volume("shared", "2Gi", { accessModes: ["ReadWriteMany"] }));
  await b.run();
  t.is(b.get(PERSISTENT_VOLUMES, "tiny")!.status!.phase, "Available");
  for (const name of ["a", "b", "c"]) await b.put(PERSISTENT_VOLUME_CLAIMS, claim(name));
  await b.run(500);
  t.deepEqual(["a", "b", "c"].map((name) => b.get(PERSISTENT_VOLUME_CLAIMS, name)!.spec!.volumeName ?? "").sort(), ["", "large", "medium"]);
  const bound = b.list(PERSISTENT_VOLUME_CLAIMS).find((c) => c.spec!.volumeName === "medium")!;
  t.like(bound.status, { phase: "Bound", capacity: { storage: "5Gi" }, accessModes: ["ReadWriteOnce"] });
  t.like(b.get(PERSISTENT_VOLUMES, "medium"), { status: { phase: "Bound" }, spec: { claimRef: { name: bound.metadata.name, namespace: NS, uid: bound.metadata.uid } } });
  // One more volume, and the one that waited is served.
  await b.put(PERSISTENT_VOLUMES, volume("late", "1Gi"));
  await b.run(500);
  t.true(b.list(PERSISTENT_VOLUME_CLAIMS).every((c) => c.status!.phase === "Bound"));
});

test("a named volume, one kept for a claim, a selector", async (t) => {
  const b = await createBench(t, [volumeController]);
  await b.put(PERSISTENT_VOLUMES, volume("kept", "1Gi", { claimRef: { namespace: NS, name: "chosen" } }));
  await b.put(PERSISTENT_VOLUMES, { ...volume("gold", "50Gi"), metadata: { name: "gold", uid: "g", labels: { tier: "gold" } } });
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("other", { resources: { requests: { storage: "1Mi" } }, volumeName: "kept" }));
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("rich", { selector: { matchLabels: { tier: "gold" } } }));
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("chosen"));
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "chosen")!.spec!.volumeName, "kept");
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "rich")!.spec!.volumeName, "gold");
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "other")!.status!.phase, "Pending");
  t.true(b.events.some((e) => e.reason === "FailedBinding" && /"kept" is bound to another claim/.test(e.message)));
});

test("the built-in class: the default one is filled in, a volume is made on the node that was chosen, once, and goes with its claim", async (t) => {
  const b = await createBench(t, [volumeController]);
  await b.put(STORAGE_CLASSES, storageClass("local", {}, true));
  await b.put(NODES, node("n1"));
  const { finalizers: _, ...metadata } = claim("data").metadata;
  await b.put(PERSISTENT_VOLUME_CLAIMS, { ...claim("data", { storageClassName: undefined }), metadata });
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "data")!.spec!.storageClassName, "local");
  t.deepEqual(b.list(PERSISTENT_VOLUMES), []);
  t.true(b.events.some((e) => e.reason === "WaitForFirstConsumer"));
  await b.change(PERSISTENT_VOLUME_CLAIMS, "data", (c) => ({ ...c, metadata: { ...c.metadata, annotations: { [SELECTED_NODE_ANNOTATION]: "n1" } } }));
  await b.run(500);
  const [made] = b.list(PERSISTENT_VOLUMES);
  t.like(made, { metadata: { name: "pvc-uid-data" }, spec: { persistentVolumeReclaimPolicy: "Delete", csi: { driver: "gantry.io/local", volumeHandle: "pvc-uid-data", volumeAttributes: { node: "n1" } } }, status: { phase: "Bound" } });
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "data")!.spec!.volumeName, "pvc-uid-data");
  // Used, it stays; then it goes, and its volume waits for the node to delete the data.
  await b.put(PODS, user("p", "data", "n1"));
  await b.change(PERSISTENT_VOLUME_CLAIMS, "data", marked);
  await b.run(500);
  t.truthy(b.get(PERSISTENT_VOLUME_CLAIMS, "data"));
  await b.remove(PODS, "p");
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "data"), undefined);
  const left = b.get(PERSISTENT_VOLUMES, "pvc-uid-data")!;
  t.truthy(left.metadata.deletionTimestamp);
  t.deepEqual(left.metadata.finalizers, [DATA_FINALIZER]);
  // A node that is gone will never tell.
  await b.remove(NODES, "n1");
  await b.run(500);
  t.deepEqual(b.list(PERSISTENT_VOLUMES), []);
});

test("a node that can't serve the claim is taken back; a pod that is bound already decides", async (t) => {
  const b = await createBench(t, [volumeController]);
  await b.put(STORAGE_CLASSES, storageClass("disks", { provisioner: "kubernetes.io/no-provisioner" }));
  for (const name of ["n1", "n2"]) await b.put(NODES, node(name));
  const on = (name: string) => ({ nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [name] }] }] } }, storageClassName: "disks" });
  await b.put(PERSISTENT_VOLUMES, volume("disk", "2Gi", on("n2")));
  await b.put(PERSISTENT_VOLUME_CLAIMS, { ...claim("data", { storageClassName: "disks" }), metadata: { ...claim("data").metadata, annotations: { [SELECTED_NODE_ANNOTATION]: "n1" } } });
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "data")!.metadata.annotations![SELECTED_NODE_ANNOTATION], undefined);
  await b.put(PODS, user("p", "data", "n2"));
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "data")!.spec!.volumeName, "disk");
});

test("what becomes of a volume: Retain releases it, Delete of one that Gantry didn't make fails in words, a lost one loses its claim", async (t) => {
  const b = await createBench(t, [volumeController]);
  await b.put(PERSISTENT_VOLUMES, volume("kept", "1Gi"));
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("a"));
  await b.run(500);
  await b.change(PERSISTENT_VOLUME_CLAIMS, "a", marked);
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUMES, "kept")!.status!.phase, "Released");
  await b.put(PERSISTENT_VOLUMES, volume("doomed", "1Gi", { persistentVolumeReclaimPolicy: "Delete" }));
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("b"));
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "b")!.spec!.volumeName, "doomed", "a released one is nobody's to have");
  await b.change(PERSISTENT_VOLUME_CLAIMS, "b", marked);
  await b.run(500);
  t.like(b.get(PERSISTENT_VOLUMES, "doomed")!.status, { phase: "Failed" });
  t.regex(b.get(PERSISTENT_VOLUMES, "doomed")!.status!.message!, /deletes only volumes that it has made/);
  await b.put(PERSISTENT_VOLUMES, volume("fragile", "1Gi"));
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("c"));
  await b.run(500);
  await b.remove(PERSISTENT_VOLUMES, "fragile");
  await b.run(500);
  t.is(b.get(PERSISTENT_VOLUME_CLAIMS, "c")!.status!.phase, "Lost");
});

test("generic ephemeral volumes: a claim that the pod owns; another's of that name is not taken", async (t) => {
  const b = await createBench(t, [volumeController]);
  const pod = (name: string): Pod => ({ ...user(name, ""), spec: { containers: [{ name: "c" }], volumes: [{ name: "tmp", ephemeral: { volumeClaimTemplate: { metadata: { labels: { x: "y" } }, spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } } } }] } });
  await b.put(PODS, pod("p"));
  await b.put(PERSISTENT_VOLUME_CLAIMS, claim("q-tmp"));
  await b.put(PODS, pod("q"));
  await b.run(500);
  t.like(b.get(PERSISTENT_VOLUME_CLAIMS, "p-tmp"), { metadata: { labels: { x: "y" }, ownerReferences: [{ kind: "Pod", name: "p", uid: "uid-p" }] } });
  t.true(b.events.some((e) => /the claim q-tmp exists and belongs to something else/.test(e.message)));
});
