import test from "ava";
import type { KubeObject } from "../base/kube/resources.ts";
import type { Event, Pod } from "../base/kube/types.gen.ts";
import { describeObject } from "./describe.ts";

const nowMs = Date.parse("2026-01-01T01:00:00Z");
const describe = (object: object, events: readonly Partial<Event>[] = [], pods: readonly object[] = []): string =>
  describeObject(object as KubeObject, { events: events as Event[], pods: pods as Pod[], nowMs });

const pod = {
  apiVersion: "v1", kind: "Pod",
  metadata: { name: "web-1", namespace: "shop", labels: { app: "web", tier: "front" }, creationTimestamp: "2026-01-01T00:00:00Z", ownerReferences: [{ kind: "ReplicaSet", name: "web", controller: true }] },
  spec: {
    nodeName: "node-1", nodeSelector: { disk: "ssd" }, tolerations: [{ key: "gpu", operator: "Exists", effect: "NoSchedule" }],
    containers: [{
      name: "httpd", image: "web:1", command: ["/bin/httpd", "-f"], ports: [{ containerPort: 80, name: "http" }], resources: { limits: { memory: "32Mi" } },
      env: [{ name: "A", value: "b" }, { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "s", key: "password" } } }], volumeMounts: [{ name: "pages", mountPath: "/www", readOnly: true }],
      livenessProbe: { httpGet: { path: "/", port: "http" }, periodSeconds: 5 },
    }],
    volumes: [{ name: "pages", configMap: { name: "web-pages" } }, { name: "tmp", emptyDir: {} }],
  },
  status: {
    phase: "Running", podIP: "10.64.0.2", hostIP: "192.0.2.1", qosClass: "Burstable", conditions: [{ type: "Ready", status: "False", reason: "ContainersNotReady", message: "containers with unready status: [httpd]" }],
    containerStatuses: [{ name: "httpd", ready: false, restartCount: 3, state: { waiting: { reason: "CrashLoopBackOff", message: "back-off 40s" } }, lastState: { terminated: { reason: "OOMKilled", exitCode: 137 } } }],
  },
};

test("a pod shows where it is, what its containers do and why, what it has mounted", (t) => {
  const lines = describe(pod).split("\n");
  for (const line of [
    "Name:           web-1", "Namespace:      shop", "Labels:         app=web", "                tier=front", "Controlled By:  ReplicaSet/web", "Node:           node-1/192.0.2.1", "Status:         Running",
    "    State:          Waiting: CrashLoopBackOff (back-off 40s)", "    Restart Count:  3", "      memory:         32Mi", "    Environment:    A: b", "                    PASSWORD: <key password of secret s>",
    "    Mounts:         /www from pages (ro)", "Volumes:        pages: configMap (name=web-pages)", "                tmp: emptyDir", "Node-Selectors: disk=ssd", "Tolerations:    gpu:NoSchedule op=Exists",
    "  Ready  False   ContainersNotReady  containers with unready status: [httpd]", "Events:         <none>",
  ]) t.true(lines.includes(line), `${line}\n---\n${lines.join("\n")}`);
  t.true(lines.some((l) => l.startsWith("    Last State:     Terminated: OOMKilled, exit code 137")));
  t.true(lines.some((l) => l.startsWith("    Liveness:       http-get http://:http/ delay=0s timeout=1s period=5s")));
});

test("a pod without a status has nothing to show, and is not an error", (t) => {
  const text = describe({ apiVersion: "v1", kind: "Pod", metadata: { name: "x", deletionTimestamp: "2026-01-01T00:59:00Z", finalizers: ["a/b"] }, spec: { containers: [{ name: "c" }] } });
  t.regex(text, /^Status: +Terminating$/m);
  t.regex(text, /^Deleting: +since 2026-01-01T00:59:00Z; waits for a\/b$/m);
  t.regex(text, /^Node: +<none>$/m);
});

test("events come oldest first, with their age and how often they happened", (t) => {
  const text = describe(pod, [
    { type: "Normal", reason: "Started", message: "started\n", lastTimestamp: "2026-01-01T00:59:30Z", source: { component: "agent" }, metadata: {} },
    { type: "Warning", reason: "BackOff", message: "again", firstTimestamp: "2026-01-01T00:10:00Z", lastTimestamp: "2026-01-01T00:58:00Z", count: 7, reportingComponent: "agent", metadata: {} },
  ]);
  t.deepEqual(text.split("\n").slice(-4), [
    "Events:",
    "  Type     Reason   Age               From   Message",
    "  Warning  BackOff  2m (x7 over 50m)  agent  again",
    "  Normal   Started  30s               agent  started",
  ]);
});

test("a secret shows how long its values are, never the values", (t) => {
  const text = describe({ apiVersion: "v1", kind: "Secret", type: "Opaque", metadata: { name: "s", annotations: { "kubectl.kubernetes.io/last-applied-configuration": "hunter2" } }, data: { password: Buffer.from("hunter2").toString("base64") } });
  t.regex(text, /^ {2}password: 7 bytes$/m);
  t.notRegex(text, /hunter2|aHVudGVyMg/);
});

test("a config map shows its texts, line by line", (t) => {
  const lines = describe({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c" }, data: { one: "1", many: "a\n  b\n" }, binaryData: { bytes: "AAAA" } }).split("\n");
  t.deepEqual(lines.slice(lines.indexOf("Data:"), -1), ["Data:", "  one: 1", "  many:", "    a", "      b", "  bytes: 3 bytes"]);
});

test("a node shows what it has and what its pods take of it; pods that ended take nothing", (t) => {
  const node = {
    apiVersion: "v1", kind: "Node", metadata: { name: "node-1" }, spec: { podCIDR: "10.64.0.0/22", taints: [{ key: "dedicated", value: "batch", effect: "NoSchedule" }] },
    status: { capacity: { cpu: "2", memory: "1Gi", pods: "500" }, allocatable: { cpu: "2", memory: "1Gi", pods: "500" }, addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
  };
  const with100m = (name: string, phase: string) => ({ metadata: { name, namespace: "default" }, spec: { containers: [{ name: "c", resources: { requests: { cpu: "100m", memory: "64Mi" } } }] }, status: { phase } });
  const text = describe(node, [], [with100m("a", "Running"), with100m("b", "Pending"), with100m("c", "Succeeded")]);
  t.regex(text, /^Taints: +dedicated=batch:NoSchedule$/m);
  t.regex(text, /^Pods: +\(2 in total\)$/m);
  t.regex(text, /^ {2}cpu +200m \(10%\) +0 \(0%\)$/m);
  t.regex(text, /^ {2}memory +128Mi \(13%\) +0Mi \(0%\)$/m);
  t.regex(text, /^ {2}default +a +100m +64Mi$/m);
});

test("workloads show how far they are, their selector and their template", (t) => {
  const template = { metadata: { labels: { app: "x" } }, spec: { containers: [{ name: "main", image: "i" }] } };
  const selector = { matchLabels: { app: "x" }, matchExpressions: [{ key: "tier", operator: "In", values: ["a", "b"] }] };
  const deployment = describe({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" }, spec: { replicas: 3, selector, template, strategy: { type: "Recreate" } }, status: { replicas: 2, updatedReplicas: 1, unavailableReplicas: 3 } });
  t.regex(deployment, /^Replicas: +3 desired \| 1 updated \| 2 total \| 0 available \| 3 unavailable$/m);
  t.regex(deployment, /^Selector: +app=x,tier in \(a,b\)$/m);
  t.regex(deployment, /^Strategy: +Recreate$/m);
  t.regex(deployment, /^ {6}Image: +i$/m);
  const job = describe({ apiVersion: "batch/v1", kind: "Job", metadata: { name: "j" }, spec: { parallelism: 3, completions: 10, template }, status: { startTime: "2026-01-01T00:59:00Z", active: 2, succeeded: 7, failed: 1 } });
  t.regex(job, /^Duration: +60s$/m);
  t.regex(job, /^Pods: +2 active \(0 ready\) \/ 7 succeeded \/ 1 failed$/m);
  const cronJob = describe({ apiVersion: "batch/v1", kind: "CronJob", metadata: { name: "c" }, spec: { schedule: "0 0 * * *", jobTemplate: { spec: { parallelism: 100, template } } } });
  t.regex(cronJob, /^Schedule: +0 0 \* \* \*$/m);
  t.regex(cronJob, /^Last Schedule: +<none>$/m);
});

test("any other kind is shown whole, with the users' own keys as they wrote them", (t) => {
  const text = describe({ apiVersion: "example.io/v1", kind: "Widget", metadata: { name: "w" }, spec: { someNumber: 1, matchLabels: { appName: "x" }, list: [{ firstField: 1, another: 2 }, "text"], none: null } });
  t.regex(text, /^API Version: +example\.io\/v1$/m);
  t.true(text.includes("Spec:\n  Some Number: 1\n  Match Labels:\n    appName: x\n  List:\n    - First Field: 1\n      Another: 2\n    - text\n"), text);
});

test("stateful and daemon sets show how far an update is", (t) => {
  const template = { metadata: { labels: { app: "db" } }, spec: { containers: [{ name: "c", image: "db:1" }] } };
  const set = describe({ apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "db" }, spec: { replicas: 3, serviceName: "db", selector: { matchLabels: { app: "db" } }, template, updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 2 } }, volumeClaimTemplates: [{ metadata: { name: "data" }, spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } }] }, status: { replicas: 3, updatedReplicas: 1, availableReplicas: 2, currentRevision: "db-a", updateRevision: "db-b" } });
  for (const line of ["3 desired | 1 updated | 3 total | 2 available", "OrderedReady, from ordinal 0", "RollingUpdate, partition 2", "db-a, updating to db-b", "data: 1Gi, ReadWriteOnce"]) t.true(set.includes(line), set);
  const daemon = describe({ apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "log" }, spec: { selector: { matchLabels: { app: "log" } }, template, updateStrategy: { type: "OnDelete" } }, status: { desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 1, numberAvailable: 2, numberMisscheduled: 1 } });
  for (const line of ["3 desired | 3 current | 1 updated | 2 available | 1 misscheduled", "OnDelete"]) t.true(daemon.includes(line), daemon);
});
