import test from "ava";
import type { KubeObject } from "../../../base/kube/resources.ts";
import { decodeObject } from "../schema/decode.ts";
import { definitionOfKind } from "./registry.ts";

const context = { nowMs: Date.UTC(2026, 0, 1), userName: "tester" };
const LABELS = { app: "web" };

interface Made { readonly object: KubeObject; readonly faults: readonly string[] }

/** As the API does on create; `previous` is an update's old object. */
const made = (apiVersion: string, kind: string, body: object, previous?: KubeObject): Made => {
  const definition = definitionOfKind(apiVersion, kind)!;
  const meta = { name: "x", uid: "uid-1", ...(definition.type.namespaced ? { namespace: "default" } : {}) };
  const { object: decoded, causes } = decodeObject(definition.schema, { apiVersion, kind, ...body, metadata: { ...meta, ...(body as { metadata?: object }).metadata } });
  if (causes.length > 0) throw new Error(JSON.stringify(causes));
  const prepared = previous ? (definition.strategy.prepareForUpdate?.(decoded, previous, context) ?? decoded) : (definition.strategy.prepareForCreate?.(decoded, context) ?? decoded);
  const object = definition.defaults(prepared);
  return { object, faults: definition.validate(object, previous, context).map((c) => `${c.field}: ${c.message}`) };
};

const podSpec = (part: object = {}): object => ({ containers: [{ name: "c", image: "nginx" }], ...part });
const withContainer = (part: object): object => podSpec({ containers: [{ name: "c", image: "nginx", ...part }] });
const template = (spec: object = podSpec(), labels: object = LABELS): object => ({ metadata: { labels }, spec });
const deployment = (part: object = {}): object => ({ spec: { selector: { matchLabels: LABELS }, template: template(), ...part } });

const SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

type Case = readonly [name: string, kind: readonly [string, string], body: object, faults: readonly string[]];
const POD = ["v1", "Pod"] as const;
const DEPLOYMENT = ["apps/v1", "Deployment"] as const;
const JOB = ["batch/v1", "Job"] as const;
const CRON_JOB = ["batch/v1", "CronJob"] as const;
const pod = (spec: object): object => ({ spec });
const job = (part: object = {}): object => ({ spec: { template: { spec: podSpec({ restartPolicy: "Never" }) }, ...part } });
const cronJob = (part: object = {}): object => ({ spec: { schedule: "0 0 * * *", jobTemplate: job(), ...part } });

const SCALER = ["gantry.io/v1", "ScheduledScaler"] as const;
const scaler = (part: object = {}): object => ({ spec: { scaleTargetRef: { kind: "Deployment", name: "web" }, entries: [{ schedule: "0 0 * * *", replicas: 100 }], ...part } });

const QUOTA = ["v1", "ResourceQuota"] as const;
const quota = (hard: object, part: object = {}): object => ({ spec: { hard, ...part } });
const RANGE = ["v1", "LimitRange"] as const;
const range = (...limits: object[]): object => ({ spec: { limits } });

const CASES: readonly Case[] = [
  ["a quota of everything is fine", QUOTA, quota({ pods: "1", "requests.cpu": "1500m", "limits.memory": "1Gi", "count/deployments.apps": "3", "requests.storage": "1Gi", "fast.storageclass.storage.k8s.io/requests.storage": "1Gi", "requests.nvidia.com/gpu": "1" }), []],
  ["a quota of what nobody knows", QUOTA, quota({ frobs: "1" }), ['spec.hard[frobs]: Invalid value: "frobs": must be a standard resource for quota']],
  ["a quota of less than nothing, and of half a pod", QUOTA, quota({ cpu: "-1", pods: "1500m" }), [
    'spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0', 'spec.hard[pods]: Invalid value: "1500m": must be an integer']],
  ["scopes that exclude each other", QUOTA, quota({ pods: "1" }, { scopes: ["BestEffort", "NotBestEffort"] }), ['spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes']],
  ["a scope for what isn't a pod's", QUOTA, quota({ configmaps: "1", cpu: "1" }, { scopes: ["BestEffort"] }), [
    'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource configmaps', 'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource cpu']],
  ["a selected scope without values", QUOTA, quota({ pods: "1" }, { scopeSelector: { matchExpressions: [{ scopeName: "PriorityClass", operator: "In" }] } }), [
    "spec.scopeSelector.matchExpressions[0].values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"]],
  ["limits of all types are fine", RANGE, range({ type: "Container", min: { cpu: "100m" }, max: { cpu: "2" }, default: { cpu: "1" }, defaultRequest: { cpu: "500m" }, maxLimitRequestRatio: { cpu: "4" } }, { type: "Pod", max: { memory: "1Gi" } }, { type: "PersistentVolumeClaim", max: { storage: "1Gi" } }), []],
  ["two limits of one type", RANGE, range({ type: "Pod" }, { type: "Pod" }), ['spec.limits[1].type: Duplicate value: "Pod"']],
  ["an unknown type of limit", RANGE, range({ type: "Frob" }), ['spec.limits[0].type: Invalid value: "Frob": must be a standard limit type or fully qualified']],
  ["a minimum above the maximum", RANGE, range({ type: "Pod", min: { cpu: "2" }, max: { cpu: "1" } }), ['spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1']],
  ["a default beyond the maximum", RANGE, range({ type: "Container", max: { cpu: "1" }, default: { cpu: "2" }, defaultRequest: { cpu: "1" } }), ['spec.limits[0].default[cpu]: Invalid value: "2": default value 2 is greater than max value 1']],
  ["a default for pods", RANGE, range({ type: "Pod", default: { cpu: "1" } }), ["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]],
  ["a limit of claims without one", RANGE, range({ type: "PersistentVolumeClaim" }), ["spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided"]],
  ["a ratio below one", RANGE, range({ type: "Pod", maxLimitRequestRatio: { cpu: "500m" } }), ['spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1']],
  ["a plain pod is fine", POD, pod(podSpec()), []],
  ["a plain deployment is fine", DEPLOYMENT, deployment(), []],
  ["a plain job is fine", JOB, job(), []],
  ["a plain cronjob is fine", CRON_JOB, cronJob(), []],
  ["upper case in a name", POD, { metadata: { name: "Web" }, spec: podSpec() }, [`metadata.name: Invalid value: "Web": ${SUBDOMAIN}`]],
  ["a bad label", POD, { metadata: { labels: { "a b": "c d" } }, spec: podSpec() }, [
    `metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
    `metadata.labels: Invalid value: "c d": ${LABEL_VALUE}`]],
  ["annotations beyond 256 KiB", POD, { metadata: { annotations: { a: "x".repeat(262_144) } }, spec: podSpec() }, ["metadata.annotations: Too long: may not be more than 262144 bytes"]],
  ["a start that is no time", POD, { metadata: { annotations: { "gantry.io/start-at": "midnight" } }, spec: podSpec() },
    ['metadata.annotations[gantry.io/start-at]: Invalid value: "midnight": must be an RFC 3339 time such as 2026-01-02T00:00:00Z']],
  ["a finalizer without a domain", POD, { metadata: { finalizers: ["mine"] }, spec: podSpec() }, ['metadata.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified']],
  ["a pod without containers", POD, pod({ containers: [] }), ["spec.containers: Required value"]],
  ["a pod without spec", POD, {}, ["spec: Required value"]],
  ["a container without image and name", POD, pod({ containers: [{}] }), ["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"]],
  ["two containers of one name", POD, pod({ containers: [{ name: "c", image: "a" }, { name: "c", image: "a" }] }), ['spec.containers[1].name: Duplicate value: "c"']],
  ["a port out of range", POD, pod(withContainer({ ports: [{ containerPort: 70_000 }] })), ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]],
  ["an unknown protocol", POD, pod(withContainer({ ports: [{ containerPort: 1, protocol: "ICMP" }] })), ['spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"']],
  ["one host port twice", POD, pod(withContainer({ ports: [{ containerPort: 1, hostPort: 80 }, { containerPort: 2, hostPort: 80 }] })), ['spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"']],
  ["a mount of no volume", POD, pod(withContainer({ volumeMounts: [{ name: "v", mountPath: "/x" }] })), ['spec.containers[0].volumeMounts[0].name: Not found: "v"']],
  ["two mounts at one path", POD, pod({ containers: [{ name: "c", image: "a", volumeMounts: [{ name: "v", mountPath: "/x" }, { name: "v", mountPath: "/x" }] }], volumes: [{ name: "v" }] }),
    ['spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique']],
  ["a sub path that climbs out", POD, pod({ containers: [{ name: "c", image: "a", volumeMounts: [{ name: "v", mountPath: "/x", subPath: "../y" }] }], volumes: [{ name: "v" }] }),
    ["spec.containers[0].volumeMounts[0].subPath: Invalid value: \"../y\": must not contain '..'"]],
  ["a volume of two kinds", POD, pod(podSpec({ volumes: [{ name: "v", emptyDir: {}, hostPath: { path: "/x" } }] })), ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]],
  ["a volume that Gantry can't mount", POD, pod(podSpec({ volumes: [{ name: "v", nfs: { server: "s", path: "/" } }] })),
    ["spec.volumes[0].nfs: Forbidden: Gantry can't mount volumes of the kind nfs yet; supported: emptyDir, hostPath, configMap, secret, downwardAPI, projected, persistentVolumeClaim, ephemeral"]],
  ["requests above limits", POD, pod(withContainer({ resources: { requests: { cpu: "2" }, limits: { cpu: "1" } } })), ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']],
  ["a negative request", POD, pod(withContainer({ resources: { requests: { memory: "-1Mi" } } })), ['spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0']],
  ["an unknown resource", POD, pod(withContainer({ resources: { requests: { gold: "1" } } })), [
    'spec.containers[0].resources.requests[gold]: Invalid value: "gold": must be a standard resource type or fully qualified', "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"]],
  ["huge pages: more asked for than allowed", POD, pod(withContainer({ resources: { requests: { memory: "1Mi", "hugepages-2Mi": "2Mi" }, limits: { "hugepages-2Mi": "4Mi" } } })), ['spec.containers[0].resources.requests: Invalid value: "2Mi": must be equal to hugepages-2Mi limit of 4Mi']],
  ["huge pages: asked for without a limit", POD, pod(withContainer({ resources: { requests: { memory: "1Mi", "hugepages-2Mi": "2Mi" } } })), ["spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"]],
  ["huge pages: half of one", POD, pod(withContainer({ resources: { limits: { memory: "1Mi", "hugepages-2Mi": "1Mi" }, requests: { "hugepages-2Mi": "1Mi" } } })), [
    'spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "1Mi": is not positive integer multiple of hugepages-2Mi', 'spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "1Mi": is not positive integer multiple of hugepages-2Mi']],
  ["huge pages: of no size", POD, pod(withContainer({ resources: { limits: { memory: "1Mi", "hugepages-big": "1Mi" } } })), ["limits", "requests"].map((kind) => `spec.containers[0].resources.${kind}[hugepages-big]: Invalid value: "1Mi": is not positive integer multiple of hugepages-big`)],
  ["huge pages alone", POD, pod(withContainer({ resources: { limits: { "hugepages-2Mi": "2Mi" } } })), ["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"]],
  ["a volume of huge pages in a pod that has none", POD, pod(podSpec({ volumes: [{ name: "v", emptyDir: { medium: "HugePages" } }] })), ['spec.volumes[0].emptyDir.medium: Invalid value: "HugePages": no container of the pod requests huge pages']],
  ["a volume of something else", POD, pod(podSpec({ volumes: [{ name: "v", emptyDir: { medium: "Tape" } }] })), ['spec.volumes[0].emptyDir.medium: Unsupported value: "Tape": supported values: "", "HugePages", "HugePages-<size>", "Memory"']],
  ["an unknown restart policy", POD, pod(podSpec({ restartPolicy: "Sometimes" })), ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"']],
  ["a variable without source", POD, pod(withContainer({ env: [{ name: "A", valueFrom: {} }] })), ['spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`']],
  ["a variable from an unknown field", POD, pod(withContainer({ env: [{ name: "A", valueFrom: { fieldRef: { fieldPath: "spec.foo" } } }] })),
    ['spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.foo": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"']],
  ["a probe of two kinds", POD, pod(withContainer({ livenessProbe: { exec: { command: ["a"] }, tcpSocket: { port: 1 } } })), ["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]],
  ["a probe of a port that has no such name", POD, pod(withContainer({ readinessProbe: { httpGet: { port: "web" } } })), ['spec.containers[0].readinessProbe.httpGet.port: Invalid value: "web": no port of the container has this name']],
  ["a probe on an init container", POD, pod(podSpec({ initContainers: [{ name: "i", image: "a", livenessProbe: { exec: { command: ["a"] } } }] })), ["spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"]],
  ["privileged without escalation", POD, pod(withContainer({ securityContext: { privileged: true, allowPrivilegeEscalation: false } })),
    ['spec.containers[0].securityContext: Invalid value: {"privileged":true,"allowPrivilegeEscalation":false}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true']],
  ["an AppArmor profile without its name", POD, pod(podSpec({ securityContext: { appArmorProfile: { type: "Localhost" } } })), ["spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost"]],
  ["a name for a profile that has none", POD, pod(podSpec({ securityContext: { appArmorProfile: { type: "RuntimeDefault", localhostProfile: "x" } } })), ['spec.securityContext.appArmorProfile.localhostProfile: Invalid value: "x": can only be set when AppArmor type is Localhost']],
  ["a policy for groups that isn't one", POD, pod(podSpec({ securityContext: { supplementalGroupsPolicy: "Loose" } })), ['spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Loose": supported values: "Merge", "Strict"']],
  ["an unmasked /proc on the host's users", POD, pod(withContainer({ securityContext: { procMount: "Unmasked" } })), ['spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`']],
  ["users of its own on the host's network", POD, pod(podSpec({ hostUsers: false, hostNetwork: true })), ["spec.hostNetwork: Forbidden: may not be set when `hostUsers` is false"]],
  ["a toleration without key that isn't Exists", POD, pod(podSpec({ tolerations: [{ value: "x" }] })), ['spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"']],
  ["a node affinity without terms", POD, pod(podSpec({ affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: {} } } })),
    ["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term"]],
  ["negative replicas", DEPLOYMENT, deployment({ replicas: -1 }), ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]],
  ["a selector that misses its template", DEPLOYMENT, deployment({ template: template(podSpec(), { app: "db" }) }), ['spec.template.metadata.labels: Invalid value: {"app":"db"}: `selector` does not match template `labels`']],
  ["no selector", DEPLOYMENT, { spec: { template: template() } }, ["spec.selector: Required value"]],
  ["an empty selector", DEPLOYMENT, deployment({ selector: {} }), ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]],
  ["a deployment of pods that end", DEPLOYMENT, deployment({ template: template(podSpec({ restartPolicy: "Never" })) }), ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"']],
  ["a rollout that can't move", DEPLOYMENT, deployment({ strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } } }), ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]],
  ["a bad percentage", DEPLOYMENT, deployment({ strategy: { rollingUpdate: { maxSurge: "half" } } }),
    ["spec.strategy.rollingUpdate.maxSurge: Invalid value: \"half\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"]],
  ["Recreate with rolling parameters", DEPLOYMENT, deployment({ strategy: { type: "Recreate", rollingUpdate: { maxSurge: 1 } } }), ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]],
  ["a replica set without template", ["apps/v1", "ReplicaSet"], { spec: { selector: { matchLabels: LABELS } } }, ["spec.template: Required value"]],
  ["a job whose pods never end", JOB, job({ template: { spec: podSpec() } }), ['spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "Never", "OnFailure"']],
  ["an indexed job without completions", JOB, job({ completionMode: "Indexed", parallelism: 2 }), ["spec.completions: Required value: when completion mode is Indexed"]],
  ["a complete failure policy is fine", JOB, job({ completionMode: "Indexed", completions: 3, backoffLimitPerIndex: 1, maxFailedIndexes: 2, managedBy: "acme.io/queue",
    podFailurePolicy: { rules: [{ action: "FailIndex", onExitCodes: { containerName: "c", operator: "In", values: [1, 2] } }, { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget" }] }] },
    successPolicy: { rules: [{ succeededIndexes: "0,2", succeededCount: 1 }] } }), []],
  ["a failure policy of a job whose containers restart", JOB, job({ podReplacementPolicy: "TerminatingOrFailed", template: { spec: podSpec({ restartPolicy: "OnFailure" }) }, podFailurePolicy: { rules: [
    { action: "FailIndex", onExitCodes: { containerName: "other", operator: "In", values: [3, 0, 0] } }, { action: "Shrug" }] } }), [
    'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"',
    'spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set',
    'spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "other": must be one of the container or initContainer names in the pod template (c)',
    "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
    "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In operator",
    "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 0",
    "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,0]: must be ordered",
    'spec.podFailurePolicy.rules[1].action: Unsupported value: "Shrug": supported values: "Count", "FailIndex", "FailJob", "Ignore"',
    'spec.podFailurePolicy.rules[1]: Invalid value: {"action":"Shrug"}: specifying one of OnExitCodes and OnPodConditions is required',
    'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified']],
  ["limits per index without indexes", JOB, job({ backoffLimitPerIndex: 1, successPolicy: { rules: [{ succeededCount: 1 }] }, managedBy: "queue" }), [
    "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode", 'spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode',
    'spec.managedBy: Invalid value: "queue": must be a domain-prefixed path (such as "acme.io/foo")']],
  ["success rules beyond the completions", JOB, job({ completionMode: "Indexed", completions: 3, maxFailedIndexes: 4, successPolicy: { rules: [{ succeededIndexes: "1-3" }, { succeededIndexes: "2,1" }, { succeededIndexes: "0-1", succeededCount: 3 }, { succeededIndexes: "x" }, {}] } }), [
    "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified", "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
    'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "1-3": index 3 is too large: indexes must be smaller than completions (3)',
    'spec.successPolicy.rules[1].succeededIndexes: Invalid value: "2,1": indexes must be in ascending order, each once',
    "spec.successPolicy.rules[2].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
    'spec.successPolicy.rules[3].succeededIndexes: Invalid value: "x": "x" is neither an index nor a range such as 2-4',
    "spec.successPolicy.rules[4]: Required value: at least one of succeededCount or succeededIndexes must be specified"]],
  ["a cronjob with a zone in its schedule", CRON_JOB, cronJob({ schedule: "TZ=UTC 0 0 * * *" }), ['spec.schedule: Invalid value: "TZ=UTC 0 0 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead']],
  ["a cronjob in a zone that isn't", CRON_JOB, cronJob({ timeZone: "Mars/Olympus" }), ['spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus']],
  ["a cronjob in a zone that is only an offset", CRON_JOB, cronJob({ timeZone: "+01:00" }), ['spec.timeZone: Invalid value: "+01:00": unknown time zone +01:00']],
  ["a cronjob with seconds, staged two minutes ahead", CRON_JOB, { metadata: { annotations: { "gantry.io/stage-ahead": "2m" } }, ...cronJob({ schedule: "30 0 0 * * *" }) }, []],
  ["a cronjob staged for what is no time", CRON_JOB, { metadata: { annotations: { "gantry.io/stage-ahead": "soon" } }, ...cronJob() }, ['metadata.annotations[gantry.io/stage-ahead]: Invalid value: "soon": "soon" is not a duration: expected a duration such as "30s" or "2m", at most 1h, or "0s" to turn staging off']],
  ["a cronjob staged too far ahead", CRON_JOB, { metadata: { annotations: { "gantry.io/stage-ahead": "2h" } }, ...cronJob() }, ['metadata.annotations[gantry.io/stage-ahead]: Invalid value: "2h": "2h" is too long: expected a duration such as "30s" or "2m", at most 1h, or "0s" to turn staging off']],
  ["a plain scheduled scaler is fine", SCALER, scaler(), []],
  ["a scheduled scaler of what has no size", SCALER, scaler({ scaleTargetRef: { kind: "CronJob", name: "x" } }), ['spec.scaleTargetRef.kind: Unsupported value: "CronJob": supported values: "Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"']],
  ["a scheduled scaler without entries", SCALER, scaler({ entries: [] }), ["spec.entries: Required value: at least one: schedule and replicas"]],
  ["a scheduled scaler's entry for an autoscaler", SCALER, scaler({ entries: [{ schedule: "0 0 * * *", minReplicas: 2 }, { schedule: "0 6 * * *", minReplicas: 2, maxReplicas: 5, replicas: 3 }] }), []],
  ["a scheduled scaler's entry that sets nothing", SCALER, scaler({ entries: [{ schedule: "0 0 * * *" }] }), ["spec.entries[0].replicas: Required value: the number of pods from this time on; or minReplicas and maxReplicas of the target's HorizontalPodAutoscaler"]],
  ["a scheduled scaler's bounds that contradict each other", SCALER, scaler({ entries: [{ schedule: "0 0 * * *", minReplicas: 5, maxReplicas: 2 }, { schedule: "0 6 * * *", minReplicas: 0, replicas: 9, maxReplicas: 4 }] }), [
    "spec.entries[0].maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`", "spec.entries[1].minReplicas: Invalid value: 0: must be greater than zero", "spec.entries[1].replicas: Invalid value: 9: must lie between `minReplicas` and `maxReplicas`, or be 0"]],
  ["a scheduled scaler in a zone that isn't", SCALER, scaler({ entries: [{ schedule: "0 0 * * *", timeZone: "Mars/Olympus", replicas: 1 }] }), ['spec.entries[0].timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus']],
  ["a cronjob with too long a name", CRON_JOB, { metadata: { name: "n".repeat(53) }, ...cronJob() }, [`metadata.name: Invalid value: "${"n".repeat(53)}": must be no more than 52 characters`]],
  ["a config map key with a slash", ["v1", "ConfigMap"], { data: { "a/b": "x" } }, [
    "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"]],
  ["a config map above 1 MiB", ["v1", "ConfigMap"], { data: { a: "x".repeat(1_048_577) } }, [": Too long: may not be more than 1048576 bytes"]],
  ["a TLS secret without key", ["v1", "Secret"], { type: "kubernetes.io/tls", stringData: { "tls.crt": "x" } }, ["data[tls.key]: Required value"]],
  ["pull credentials that are no JSON don't leak", ["v1", "Secret"], { type: "kubernetes.io/dockerconfigjson", stringData: { ".dockerconfigjson": "hunter2" } },
    ['data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be valid JSON']],
  ["a namespace with a dot", ["v1", "Namespace"], { metadata: { name: "a.b" } }, [
    "metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]],
  ["a daemon set with both bounds", ["apps/v1", "DaemonSet"], deployment({ updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1, maxSurge: "150%" } } }), [
    'spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "150%": must not be greater than 100%', 'spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "150%": may not be set when maxUnavailable is non-zero']],
  ["a daemon set that surges with host ports", ["apps/v1", "DaemonSet"], deployment({ updateStrategy: { rollingUpdate: { maxSurge: 1 } }, template: template(withContainer({ ports: [{ containerPort: 80, hostPort: 80 }] })) }), [
    "spec.template.spec.containers[0].ports[0].hostPort: Forbidden: may not be specified when daemonset.spec.updateStrategy.rollingUpdate.maxSurge is non-zero: two pods on one node can't share a host port"]],
  ["a plain daemon set is fine", ["apps/v1", "DaemonSet"], deployment({ updateStrategy: { type: "OnDelete" } }), []],
  ["a plain stateful set is fine", ["apps/v1", "StatefulSet"], deployment({ serviceName: "web", replicas: 3 }), []],
  ["a stateful set full of mistakes", ["apps/v1", "StatefulSet"], deployment({ podManagementPolicy: "Chaos", updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: -1, maxUnavailable: 0 } }, ordinals: { start: -2 }, persistentVolumeClaimRetentionPolicy: { whenDeleted: "Burn" } }), [
    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0", "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
    'spec.podManagementPolicy: Unsupported value: "Chaos": supported values: "OrderedReady", "Parallel"', "spec.ordinals.start: Invalid value: -2: must be greater than or equal to 0",
    'spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Burn": supported values: "Delete", "Retain"']],
  ["a replication controller takes its selector from its template", ["v1", "ReplicationController"], { spec: { template: template() } }, []],
  ["a revision without data", ["apps/v1", "ControllerRevision"], { revision: -1 }, ["revision: Invalid value: -1: must be greater than or equal to 0", "data: Required value"]],
  ["a lease of no time", ["coordination.k8s.io/v1", "Lease"], { spec: { leaseDurationSeconds: 0 } }, ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than zero"]],
  ["a taint of unknown effect", ["v1", "Node"], { spec: { taints: [{ key: "a", effect: "Frob" }] } }, ['spec.taints[0].effect: Unsupported value: "Frob": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"']],
  ["an event of another namespace", ["v1", "Event"], { involvedObject: { kind: "Pod", namespace: "blue", name: "p" } }, ['involvedObject.namespace: Invalid value: "blue": does not match event.namespace "default"']],
];
for (const [name, [apiVersion, kind], body, faults] of CASES) test(`${kind}: ${name}`, (t) => t.deepEqual(made(apiVersion, kind, body).faults, faults));

test("a cron schedule of four fields is refused, naming what is expected", (t) => {
  t.regex(made(...CRON_JOB, cronJob({ schedule: "0 0 * *" })).faults.join(), /spec\.schedule: Invalid value: "0 0 \* \*": .*five fields/);
});

const updated = (kind: readonly [string, string], before: object, after: object): readonly string[] => made(kind[0], kind[1], after, made(kind[0], kind[1], before).object).faults;

test("a pod's image, tolerations and labels may change, the rest of its spec may not", (t) => {
  t.deepEqual(updated(POD, pod(podSpec()), { metadata: { labels: { a: "b" } }, spec: podSpec({ containers: [{ name: "c", image: "nginx:2", imagePullPolicy: "Always" }], tolerations: [{ operator: "Exists" }], activeDeadlineSeconds: 5 }) }), []);
  const [fault] = updated(POD, pod(podSpec()), pod(withContainer({ command: ["sh"] })));
  t.regex(fault!, /^spec: Forbidden: pod updates may not change fields other than .*; changed: spec\.containers$/);
  t.regex(updated(POD, pod(podSpec()), pod(podSpec({ nodeName: "n" })))[0]!, /changed: spec\.nodeName/);
  t.regex(updated(POD, pod(podSpec({ tolerations: [{ operator: "Exists" }] })), pod(podSpec()))[0]!, /existing toleration can not be modified/);
});

test("labelling a pod that a controller made without a pod's own defaults is no change of its spec", (t) => {
  const { object } = made(...POD, pod(withContainer({ resources: { limits: { cpu: "1" } } })));
  const spec = { ...(object as KubeObject & { spec: Record<string, unknown> }).spec, containers: [{ name: "c", image: "nginx", terminationMessagePath: "/dev/termination-log", terminationMessagePolicy: "File", imagePullPolicy: "Always", resources: { limits: { cpu: "1" } } }] };
  delete (spec as { enableServiceLinks?: unknown }).enableServiceLinks;
  const raw = { ...object, spec } as KubeObject;
  const { object: next, faults } = made(...POD, { metadata: { labels: { a: "b" } }, spec }, raw);
  t.deepEqual(faults, []);
  t.deepEqual((next as typeof raw & { spec: unknown }).spec, spec);
});

test("selectors, a job's template and an immutable config map stay", (t) => {
  t.regex(updated(DEPLOYMENT, deployment(), deployment({ selector: { matchLabels: { app: "web", b: "c" } }, template: template(podSpec(), { app: "web", b: "c" }) })).join(), /^spec\.selector: Invalid value: .*: field is immutable$/);
  t.deepEqual(updated(["v1", "ConfigMap"], { data: { a: "1" }, immutable: true }, { data: { a: "2" }, immutable: true }), ["data: Forbidden: field is immutable when `immutable` is set"]);
  t.deepEqual(updated(["v1", "Secret"], { type: "a/b" }, { type: "c/d" }), ['type: Invalid value: "c/d": field is immutable']);
  t.deepEqual(updated(["v1", "Secret"], { type: "a/b" }, {}), []);
  const old = made(...JOB, job()).object as KubeObject & { spec: object };
  const again = (spec: object): readonly string[] => made(...JOB, { metadata: old.metadata, spec: { ...old.spec, ...spec } }, old).faults;
  t.deepEqual(again({ parallelism: 5, suspend: true, ttlSecondsAfterFinished: 9 }), []);
  t.regex(again({ managedBy: "acme.io/queue" })[0]!, /^spec\.managedBy: .*field is immutable$/);
  t.regex(again({ completions: 7 })[0]!, /^spec\.completions: Invalid value: 7: field is immutable$/);
  t.regex(again({ template: { spec: podSpec({ restartPolicy: "OnFailure" }) } }).join(), /spec\.template: .*field is immutable/);
});

test("a quota keeps its scopes, and what is pending is not the user's to change", (t) => {
  t.regex(updated(QUOTA, quota({ pods: "1" }, { scopes: ["BestEffort"] }), quota({ pods: "2" })).join(), /^spec\.scopes: .*field is immutable$/);
  const { object } = made(...QUOTA, quota({ pods: "1" }));
  const stored = { ...object, metadata: { ...object.metadata, annotations: { "gantry.io/quota-pending": "{}" } } };
  t.deepEqual(made(...QUOTA, quota({ pods: "2" }), stored).object.metadata.annotations, { "gantry.io/quota-pending": "{}" });
});

test("of a stateful set only what its controller can follow may change", (t) => {
  const kind = ["apps/v1", "StatefulSet"] as const;
  t.deepEqual(updated(kind, deployment(), deployment({ replicas: 5, minReadySeconds: 3, template: template(withContainer({ image: "nginx:2" })), ordinals: { start: 2 } })), []);
  t.regex(updated(kind, deployment(), deployment({ serviceName: "other" }))[0]!, /^spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', .* and 'minReadySeconds' are forbidden$/);
});

test("what the server set can't be changed, and a dying object gets no new finalizer", (t) => {
  const { object } = made(...POD, pod(podSpec()));
  const dying = { ...object, metadata: { ...object.metadata, deletionTimestamp: "2026-01-01T00:00:00Z", creationTimestamp: "2026-01-01T00:00:00Z" } };
  const meta = { ...dying.metadata, finalizers: ["a/b"], uid: "other" };
  t.deepEqual(made(...POD, { ...dying, metadata: meta }, dying).faults, [
    'metadata.uid: Invalid value: "other": field is immutable',
    'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"a/b"}']);
});
