import test from "ava";
import { START_AT } from "../../base/kube/staging.ts";
import type { ConfigMap, Container as KubeContainer, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Secret } from "../../base/kube/types.gen.ts";
import { AssignmentSet, AssignmentSet_Kind, PodAssignment } from "../../proto/gen/gantry/v1/agent.ts";
import { toAssignment } from "./assignment-builder.ts";
import type { AssignmentContext } from "./assignment-builder.ts";
import { encodeAssignment, encodeSet } from "./assignment-set.ts";

const b64 = (text: string): string => Buffer.from(text).toString("base64");

const configMaps: Readonly<Record<string, ConfigMap>> = {
  settings: { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "settings" }, data: { color: "blue", "bad=name": "x" }, binaryData: { logo: b64("\u0000png") } },
};
const secrets: Readonly<Record<string, Secret>> = {
  keys: { apiVersion: "v1", kind: "Secret", metadata: { name: "keys" }, data: { password: b64("s3cret") } },
  pull: { apiVersion: "v1", kind: "Secret", metadata: { name: "pull" }, type: "kubernetes.io/dockerconfigjson", data: { ".dockerconfigjson": b64(JSON.stringify({ auths: { "registry.example:5000": { auth: b64("me:pass:word") } } })) } },
  legacy: { apiVersion: "v1", kind: "Secret", metadata: { name: "legacy" }, type: "kubernetes.io/dockercfg", data: { ".dockercfg": b64(JSON.stringify({ "old.example": { username: "u", password: "p" } })) } },
  broken: { apiVersion: "v1", kind: "Secret", metadata: { name: "broken" }, data: { ".dockerconfigjson": b64("not json") } },
};
const claims: Readonly<Record<string, PersistentVolumeClaim>> = Object.fromEntries(([["bound", "v-local"], ["static", "v-path"], ["waiting", undefined]] as const).map(([name, volumeName]) => [name, {
  apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name }, spec: { volumeName }, status: { phase: volumeName ? "Bound" : "Pending" },
}]));
const volumes: Readonly<Record<string, PersistentVolume>> = {
  "v-local": { apiVersion: "v1", kind: "PersistentVolume", metadata: { name: "v-local" }, spec: { csi: { driver: "gantry.io/local", volumeHandle: "pvc-1" } } },
  "v-path": { apiVersion: "v1", kind: "PersistentVolume", metadata: { name: "v-path" }, spec: { local: { path: "/disks/1" } } },
};
const context: AssignmentContext = {
  configMap: (name) => configMaps[name], secret: (name) => secrets[name], claim: (name) => claims[name], persistentVolume: (name) => volumes[name], runtimeClass: (name) => (name === "quick" ? { apiVersion: "node.k8s.io/v1", kind: "RuntimeClass", metadata: { name }, handler: "crun" } : undefined), allocatable: { milliCpu: 4000, memoryBytes: 2 ** 33, ephemeralStorageBytes: 2 ** 34 },
};

const pod = (spec: Partial<PodSpec> = {}, container: Partial<KubeContainer> = {}, metadata: Partial<Pod["metadata"]> = {}): Pod => ({
  apiVersion: "v1", kind: "Pod",
  metadata: { name: "web", namespace: "shop", uid: "u1", labels: { b: "2", a: "1" }, annotations: { note: "line\n\"quoted\"" }, ...metadata },
  spec: { nodeName: "node-a", serviceAccountName: "default", containers: [{ name: "main", image: "example:1", ...container }], ...spec },
});
const build = (...args: Parameters<typeof pod>): PodAssignment => toAssignment(pod(...args), context);
const envOf = (a: PodAssignment): Record<string, string> => Object.fromEntries(a.containers[0]!.env.map((e) => [e.name, e.source?.$case === "fieldPath" ? `<${e.source.value}>` : (e.source?.value ?? "")]));
const filesOf = (a: PodAssignment, volume = 0): Record<string, string> => {
  const { source } = a.volumes[volume]!;
  return source?.$case === "files" ? Object.fromEntries(source.value.files.map((f) => [f.path, `${f.mode.toString(8)} ${f.fieldPath || Buffer.from(f.data).toString()}`])) : {};
};

test("units are canonical", (t) => {
  const a = build({ terminationGracePeriodSeconds: 5, activeDeadlineSeconds: 60 }, { resources: { requests: { cpu: "250m", memory: "64Mi" }, limits: { cpu: "1", memory: "128Mi", "example.com/gpu": "2" } } });
  t.like(a, { uid: "u1", namespace: "shop", name: "web", hostname: "web", terminationGraceMs: 5000, activeDeadlineMs: 60_000, restartPolicy: "Always", qosClass: "Burstable" });
  t.deepEqual(a.containers[0]!.requests, { milliCpu: 250, memoryBytes: 2 ** 26, ephemeralStorageBytes: 0, pods: 0, extended: {} });
  t.deepEqual(a.containers[0]!.limits, { milliCpu: 1000, memoryBytes: 2 ** 27, ephemeralStorageBytes: 0, pods: 0, extended: { "example.com/gpu": 2 } });
});

test("environment: whole maps first, then single values, each from its source", (t) => {
  const a = build({}, {
    envFrom: [{ prefix: "CFG_", configMapRef: { name: "settings" } }, { secretRef: { name: "keys" } }, { configMapRef: { name: "absent", optional: true } }],
    env: [
      { name: "PLAIN", value: "$(password)" }, { name: "EMPTY" }, { name: "COLOR", valueFrom: { configMapKeyRef: { name: "settings", key: "color" } } },
      { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "keys", key: "password" } } }, { name: "NONE", valueFrom: { secretKeyRef: { name: "keys", key: "absent", optional: true } } },
      { name: "NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }, { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
      { name: "LABEL", valueFrom: { fieldRef: { fieldPath: "metadata.labels['a']" } } }, { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
      { name: "CPU", valueFrom: { resourceFieldRef: { resource: "limits.cpu" } } }, { name: "CPU_M", valueFrom: { resourceFieldRef: { resource: "requests.cpu", divisor: "1m" } } },
      { name: "MEM", valueFrom: { resourceFieldRef: { resource: "limits.memory", divisor: "1Mi" } } },
    ],
    resources: { requests: { cpu: "1500m" }, limits: { cpu: "1500m" } },
  });
  t.deepEqual(envOf(a), {
    CFG_color: "blue", password: "s3cret", PLAIN: "$(password)", EMPTY: "", COLOR: "blue", PASSWORD: "s3cret", NAME: "web", NODE: "node-a", LABEL: "1", IP: "<status.podIP>",
    CPU: "2", CPU_M: "1500", MEM: "8192",
  });
  t.deepEqual(a.unresolved, {});
});

for (const [title, container, message] of [
  ["a missing ConfigMap", { env: [{ name: "X", valueFrom: { configMapKeyRef: { name: "absent", key: "k" } } }] }, 'configmap "absent" not found'],
  ["a missing key of a ConfigMap", { env: [{ name: "X", valueFrom: { configMapKeyRef: { name: "settings", key: "k" } } }] }, "couldn't find key k in ConfigMap shop/settings"],
  ["a missing Secret", { env: [{ name: "X", valueFrom: { secretKeyRef: { name: "absent", key: "k" } } }] }, 'secret "absent" not found'],
  ["a missing key of a Secret", { env: [{ name: "X", valueFrom: { secretKeyRef: { name: "keys", key: "k" } } }] }, "couldn't find key k in Secret shop/keys"],
  ["a missing whole ConfigMap", { envFrom: [{ configMapRef: { name: "absent" } }] }, 'configmap "absent" not found'],
  ["a missing whole Secret", { envFrom: [{ secretRef: { name: "absent" } }] }, 'secret "absent" not found'],
  ["an unknown field", { env: [{ name: "X", valueFrom: { fieldRef: { fieldPath: "spec.nope" } } }] }, "env X: no such field: spec.nope"],
] as const) {
  test(`${title} holds up its container, in upstream's words`, (t) => {
    t.deepEqual(build({}, container as unknown as Partial<KubeContainer>).unresolved, { main: message });
  });
}

test("ConfigMap, Secret, downward API and projected volumes become files", (t) => {
  const a = build({ volumes: [
    { name: "cfg", configMap: { name: "settings", defaultMode: 0o600 } },
    { name: "key", secret: { secretName: "keys", items: [{ key: "password", path: "db/pass", mode: 0o400 }] } },
    { name: "down", downwardAPI: { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }, { path: "notes", fieldRef: { fieldPath: "metadata.annotations" } }, { path: "cpu", resourceFieldRef: { resource: "limits.cpu", containerName: "main" } }] } },
    { name: "all", projected: { sources: [{ secret: { name: "keys" } }, { configMap: { name: "settings", items: [{ key: "color", path: "c" }] } }, { downwardAPI: { items: [{ path: "uid", fieldRef: { fieldPath: "metadata.uid" } }] } }] } },
    { name: "opt", configMap: { name: "absent", optional: true } },
  ] });
  t.deepEqual(filesOf(a, 0), { color: "600 blue", "bad=name": "600 x", logo: "600 \u0000png" });
  t.deepEqual(filesOf(a, 1), { "db/pass": "400 s3cret" });
  t.deepEqual(filesOf(a, 2), { labels: '644 a="1"\nb="2"', notes: '644 note="line\\n\\"quoted\\""', cpu: "644 4" });
  t.deepEqual(filesOf(a, 3), { password: "644 s3cret", c: "644 blue", uid: "644 u1" });
  t.deepEqual(filesOf(a, 4), {});
  t.deepEqual(a.volumes.map((v) => v.source?.$case === "files" && v.source.value.memory), [false, true, false, true, false], "what holds a secret is held in memory");
  t.deepEqual(a.unresolved, {});
});

test("emptyDir and hostPath", (t) => {
  const a = build({ volumes: [{ name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } }, { name: "host", hostPath: { path: "/srv", type: "Directory" } }] });
  t.deepEqual(a.volumes.map((v) => v.source), [{ $case: "emptyDir", value: { memory: true, sizeLimitBytes: 2 ** 20, hugePageBytes: 0 } }, { $case: "hostPath", value: { path: "/srv", type: "Directory" } }]);
});

test("a volume of huge pages has the size that the pod asks for", (t) => {
  const spec = (limits: Record<string, string>) => ({ containers: [{ name: "c", image: "i", resources: { limits: { memory: "1Gi", ...limits } } }], volumes: [{ name: "hp", emptyDir: { medium: "HugePages" } }] });
  t.deepEqual(build(spec({ "hugepages-2Mi": "4Mi" })).volumes[0]!.source, { $case: "emptyDir", value: { memory: true, sizeLimitBytes: 0, hugePageBytes: 2 ** 21 } });
  t.regex(build(spec({})).unresolved[""]!, /volume "hp" : medium HugePages: no container of the pod requests huge pages/);
});

test("a volume that can't be made holds up the whole pod and says why", (t) => {
  t.deepEqual(build({ volumes: [{ name: "v", configMap: { name: "absent" } }] }).unresolved, { "": 'MountVolume.SetUp failed for volume "v" : configmap "absent" not found' });
  t.regex(build({ volumes: [{ name: "v", secret: { secretName: "keys", items: [{ key: "k", path: "p" }] } }] }).unresolved[""]!, /references non-existent secret key: k/);
  t.regex(build({ volumes: [{ name: "v", nfs: { server: "s", path: "/" } }] }).unresolved[""]!, /kind nfs are not supported; emptyDir/);
});

test("pull secrets of both forms are read, unreadable and missing ones left out", (t) => {
  t.deepEqual(build({ imagePullSecrets: [{ name: "pull" }, { name: "legacy" }, { name: "broken" }, { name: "absent" }] }).credentials, [
    { registry: "registry.example:5000", username: "me", password: "pass:word", identityToken: "" }, { registry: "old.example", username: "u", password: "p", identityToken: "" },
  ]);
});

test("probes get their defaults and named ports their numbers", (t) => {
  const a = build({}, {
    ports: [{ name: "http", containerPort: 8080 }],
    readinessProbe: { httpGet: { port: "http", path: "/ready" }, periodSeconds: 3 }, livenessProbe: { tcpSocket: { port: 81 } }, startupProbe: { exec: { command: ["true"] } },
    lifecycle: { preStop: { sleep: { seconds: 2 } } },
  }).containers[0]!;
  t.deepEqual(a.readiness, {
    handler: { handler: { $case: "httpGet", value: { scheme: "HTTP", host: "", port: 8080, path: "/ready", headers: [] } } },
    initialDelayMs: 0, periodMs: 3000, timeoutMs: 1000, successThreshold: 1, failureThreshold: 3, terminationGraceMs: 0,
  });
  t.is(a.liveness?.handler?.handler?.$case === "tcpSocket" && a.liveness.handler.handler.value.port, 81);
  t.deepEqual(a.preStop, { handler: { $case: "sleep", value: { durationMs: 2000 } } });
});

test("a deletion was asked for its grace before the timestamp", (t) => {
  t.deepEqual(build({}, {}, { deletionTimestamp: "2026-01-01T00:00:30Z", deletionGracePeriodSeconds: 30 }).deletion, { requestedMs: Date.UTC(2026, 0, 1), graceMs: 30_000 });
  t.is(build().deletion, undefined);
});

test("a start time is taken from the annotation, and what kubectl keeps for itself is left out", (t) => {
  const a = build({}, {}, { annotations: { [START_AT]: "2026-01-01T00:00:00Z", "kubectl.kubernetes.io/last-applied-configuration": "{}" } });
  t.is(a.startAtMs, Date.UTC(2026, 0, 1));
  t.deepEqual(Object.keys(a.annotations), [START_AT]);
  t.is(build({}, {}, { annotations: { [START_AT]: "tomorrow" } }).startAtMs, 0);
});

test("host names stop at 63 characters, and not on a dash", (t) => {
  t.is(build({}, {}, { name: `${"a".repeat(62)}-${"b".repeat(20)}` }).hostname, "a".repeat(62));
});

for (const [qos, resources] of [
  ["BestEffort", {}], ["Guaranteed", { limits: { cpu: "1", memory: "1Gi" } }], ["Guaranteed", { limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "1000m", memory: "1024Mi" } }],
  ["Burstable", { limits: { memory: "1Gi" } }], ["Burstable", { requests: { cpu: "1" } }], ["Burstable", { limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "500m" } }],
] as const) {
  test(`QoS class ${qos} for ${JSON.stringify(resources)}`, (t) => {
    t.is(build({}, { resources }).qosClass, qos);
  });
}

test("a digest says exactly whether two assignments differ, and building changes nothing", (t) => {
  const frozen = pod({ volumes: [{ name: "cfg", configMap: { name: "settings" } }] });
  const digest = (p: Pod): string => encodeAssignment(toAssignment(p, context)).digest;
  t.is(digest(frozen), digest(structuredClone(frozen)));
  t.is(digest(frozen), digest({ ...frozen, status: { phase: "Running" }, metadata: { ...frozen.metadata, resourceVersion: "99" } }));
  t.not(digest(frozen), digest({ ...frozen, metadata: { ...frozen.metadata, labels: { a: "2" } } }));
});

test("an encoded set is what the protocol's own decoder reads, in as many messages as it takes", (t) => {
  const assignments = Array.from({ length: 5 }, (_, i) => build({}, {}, { uid: `u${i}`, annotations: { blob: "x".repeat(400_000) } }));
  const messages = encodeSet({ kind: AssignmentSet_Kind.KIND_INCREMENTAL, appliesTo: "a", resultsIn: "b", upsert: assignments.map(encodeAssignment), generation: 2 ** 50, remove: ["gone"], removeVolumes: [] }).map((m) => AssignmentSet.decode(m));
  t.is(messages.length, 3);
  t.deepEqual(messages.map((m) => m.more), [true, true, false]);
  t.true(messages.every((m) => m.kind === AssignmentSet_Kind.KIND_INCREMENTAL && m.appliesTo === "a" && m.resultsIn === "b"));
  t.deepEqual(messages.flatMap((m) => m.remove), ["gone"]);
  t.deepEqual(messages.flatMap((m) => m.upsert), assignments.map((a) => PodAssignment.decode(PodAssignment.encode({ ...a, generation: 2 ** 50 }).finish())));
  t.is(encodeSet({ kind: AssignmentSet_Kind.KIND_COMPLETE, appliesTo: "", resultsIn: "b", upsert: [], generation: 1, remove: [], removeVolumes: [] }).length, 1, "an empty set is a message too");
});

test("claims: what they are bound to, read-only where the pod says so; until then the pod waits, in words", (t) => {
  const claimed = (claimName: string, readOnly = false): PodAssignment => build({ volumes: [{ name: "data", persistentVolumeClaim: { claimName, readOnly } }] }, { volumeMounts: [{ name: "data", mountPath: "/data" }] });
  t.deepEqual(claimed("bound").volumes[0]!.source, { $case: "local", value: { id: "pvc-1" } });
  t.deepEqual(claimed("static", true).volumes[0]!.source, { $case: "hostPath", value: { path: "/disks/1", type: "Directory" } });
  t.deepEqual([claimed("static", true), claimed("static")].map((a) => a.containers[0]!.mounts[0]!.readOnly), [true, false]);
  t.regex(claimed("waiting").unresolved[""]!, /persistentvolumeclaim "waiting" is not bound to a volume yet/);
  t.regex(claimed("none").unresolved[""]!, /persistentvolumeclaim "none" not found/);
});

test("a RuntimeClass becomes the nodes' name for it; one that is not there holds up the pod", (t) => {
  t.is(build({ runtimeClassName: "quick" }).runtimeClass, "crun");
  t.is(build({ runtimeClassName: "lost" }).unresolved[""], 'RuntimeClass "lost" not found');
});
