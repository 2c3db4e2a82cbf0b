import test from "ava";
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { Job, Pod } from "../../../base/kube/types.gen.ts";
import { decodeObject } from "../schema/decode.ts";
import { defaultPullPolicy } from "./pod-defaults.ts";
import { qosClassOf } from "../../../base/kube/qos-class.ts";
import { definitionOfKind } from "./registry.ts";

const context = { nowMs: 0, userName: "tester" };
const created = (apiVersion: string, kind: string, body: object): KubeObject & Record<string, unknown> => {
  const d = definitionOfKind(apiVersion, kind)!;
  const { object } = decodeObject(d.schema, { apiVersion, kind, ...body });
  return d.defaults(d.strategy.prepareForCreate?.(object, context) ?? object) as KubeObject & Record<string, unknown>;
};

test("a pod gets upstream's defaults", (t) => {
  const pod = created("v1", "Pod", {
    metadata: { name: "p" }, status: { phase: "Running" },
    spec: {
      serviceAccount: "robot",
      containers: [{
        name: "c", image: "nginx", ports: [{ containerPort: 80 }], livenessProbe: { httpGet: { port: 80 } }, resources: { limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "500m" } },
        env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }],
      }],
      volumes: [{ name: "a" }, { name: "b", secret: { secretName: "s" } }, { name: "c", hostPath: { path: "/x" } }],
    },
  });
  t.deepEqual(pod["spec"], {
    serviceAccount: "robot", serviceAccountName: "robot", restartPolicy: "Always", dnsPolicy: "ClusterFirst", schedulerName: "default-scheduler",
    terminationGracePeriodSeconds: 30, securityContext: {}, enableServiceLinks: true,
    containers: [{
      name: "c", image: "nginx", imagePullPolicy: "Always", terminationMessagePath: "/dev/termination-log", terminationMessagePolicy: "File",
      ports: [{ containerPort: 80, protocol: "TCP" }],
      livenessProbe: { httpGet: { port: 80, path: "/", scheme: "HTTP" }, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 },
      resources: { limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "500m", memory: "1Gi" } },
      env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "metadata.name", apiVersion: "v1" } } }],
    }],
    volumes: [{ name: "a", emptyDir: {} }, { name: "b", secret: { secretName: "s", defaultMode: 420 } }, { name: "c", hostPath: { path: "/x", type: "" } }],
  });
  t.deepEqual(pod["status"], { phase: "Pending", qosClass: "Burstable" });
});

test("a host network's ports are the host's", (t) => {
  const { spec } = created("v1", "Pod", { spec: { hostNetwork: true, containers: [{ name: "c", image: "a", ports: [{ containerPort: 80 }] }] } }) as unknown as Pod;
  t.deepEqual(spec!.containers[0]!.ports, [{ containerPort: 80, hostPort: 80, protocol: "TCP" }]);
});

const PULLS: readonly (readonly [string, "Always" | "IfNotPresent"])[] = [
  ["nginx", "Always"], ["nginx:latest", "Always"], ["nginx:1.27", "IfNotPresent"], ["localhost:5000/nginx", "Always"], ["localhost:5000/nginx:1", "IfNotPresent"],
  ["nginx@sha256:abc", "IfNotPresent"], ["nginx:latest@sha256:abc", "IfNotPresent"], ["", "Always"],
];
for (const [image, policy] of PULLS) test(`the pull policy of ${JSON.stringify(image)} is ${policy}`, (t) => t.is(defaultPullPolicy(image), policy));

const resources = (...list: readonly object[]): Pod["spec"] & object => ({ containers: list.map((r, i) => ({ name: `c${i}`, resources: r })) });
test("a pod's quality of service follows its requests and limits", (t) => {
  t.is(qosClassOf(resources({}, {})), "BestEffort");
  t.is(qosClassOf(resources({ requests: { cpu: "0" } })), "BestEffort");
  t.is(qosClassOf(resources({ requests: { cpu: "1" } })), "Burstable");
  t.is(qosClassOf(resources({ limits: { cpu: "1", memory: "1Gi" } })), "Guaranteed");
  t.is(qosClassOf(resources({ limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "1000m", memory: "1Gi" } })), "Guaranteed");
  t.is(qosClassOf(resources({ limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "1" } })), "Guaranteed");
  t.is(qosClassOf(resources({ limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "0.5" } })), "Burstable");
  t.is(qosClassOf(resources({ limits: { cpu: "1", memory: "1Gi" } }, {})), "Burstable");
});

const TEMPLATE = { metadata: { labels: { app: "web" } }, spec: { containers: [{ name: "c", image: "a:1" }] } };

test("a deployment gets upstream's defaults, and no pod's own in its template", (t) => {
  const { spec } = created("apps/v1", "Deployment", { spec: { selector: {}, template: { ...TEMPLATE, spec: { containers: [{ name: "c", image: "a:1", resources: { limits: { cpu: "1" } } }] } } }, status: { replicas: 3 } }) as unknown as { spec: Record<string, unknown> };
  t.like(spec, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } } });
  const template = (spec as { template: { spec: Record<string, unknown> & { containers: object[] } } }).template.spec;
  t.false("enableServiceLinks" in template);
  t.like(template.containers[0]!, { imagePullPolicy: "IfNotPresent", resources: { limits: { cpu: "1" } } });
});

test("replicas 0 stays 0, and Recreate gets no rolling parameters", (t) => {
  const { spec } = created("apps/v1", "Deployment", { spec: { replicas: 0, strategy: { type: "Recreate" }, selector: {}, template: TEMPLATE } }) as unknown as { spec: Record<string, unknown> };
  t.like(spec, { replicas: 0, strategy: { type: "Recreate" } });
});

test("a job's selector and labels ask for its uid", (t) => {
  const job = created("batch/v1", "Job", { metadata: { name: "j", uid: "u1" }, spec: { template: TEMPLATE } }) as unknown as Job;
  t.deepEqual(job.spec!.selector, { matchLabels: { "batch.kubernetes.io/controller-uid": "u1" } });
  t.deepEqual(job.spec!.template.metadata!.labels, {
    app: "web", "controller-uid": "u1", "batch.kubernetes.io/controller-uid": "u1", "job-name": "j", "batch.kubernetes.io/job-name": "j",
  });
  t.deepEqual(job.metadata.labels, { app: "web" });
  t.like(job.spec!, { parallelism: 1, completions: 1, backoffLimit: 6, completionMode: "NonIndexed", suspend: false });
});

test("a job with parallelism alone works on a queue: no completions", (t) => {
  const job = created("batch/v1", "Job", { metadata: { name: "j", uid: "u1" }, spec: { parallelism: 3, template: TEMPLATE } }) as unknown as Job;
  t.is(job.spec!.parallelism, 3);
  t.is(job.spec!.completions, undefined);
});

test("a manual selector is left alone", (t) => {
  const job = created("batch/v1", "Job", { metadata: { name: "j", uid: "u1" }, spec: { manualSelector: true, selector: { matchLabels: { app: "web" } }, template: TEMPLATE } }) as unknown as Job;
  t.deepEqual(job.spec!.selector, { matchLabels: { app: "web" } });
  t.deepEqual(job.spec!.template.metadata!.labels, { app: "web" });
});

test("a cronjob gets upstream's defaults", (t) => {
  t.like(created("batch/v1", "CronJob", { spec: { schedule: "* * * * *", jobTemplate: { spec: { template: TEMPLATE } } } })["spec"],
    { concurrencyPolicy: "Allow", suspend: false, successfulJobsHistoryLimit: 3, failedJobsHistoryLimit: 1 });
});

test("stringData becomes data and wins, and the type is Opaque", (t) => {
  const secret = created("v1", "Secret", { data: { a: "b2xk", b: "Yg==" }, stringData: { a: "new" } });
  t.deepEqual({ data: secret["data"], type: secret["type"], stringData: secret["stringData"] }, { data: { a: "bmV3", b: "Yg==" }, type: "Opaque", stringData: undefined });
});

test("a namespace gets its label, its finalizer and a phase", (t) => {
  const ns = created("v1", "Namespace", { metadata: { name: "blue", labels: { a: "b" } } });
  t.deepEqual(ns.metadata.labels, { a: "b", "kubernetes.io/metadata.name": "blue" });
  t.deepEqual([ns["spec"], ns["status"]], [{ finalizers: ["kubernetes"] }, { phase: "Active" }]);
});

test("a pod that is nowhere, or has ended, is deleted at once; others get their grace", (t) => {
  const { strategy } = definitionOfKind("v1", "Pod")!;
  const grace = (part: object): number | undefined => strategy.gracePeriodSeconds?.({ apiVersion: "v1", kind: "Pod", metadata: {}, ...part });
  t.is(grace({ spec: { containers: [], terminationGracePeriodSeconds: 5 } }), 0);
  t.is(grace({ spec: { containers: [], nodeName: "n", terminationGracePeriodSeconds: 5 } }), 5);
  t.is(grace({ spec: { containers: [], nodeName: "n", terminationGracePeriodSeconds: 5 }, status: { phase: "Failed" } }), 0);
});
