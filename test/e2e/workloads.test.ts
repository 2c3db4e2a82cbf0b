// Workload controllers on real containers, as a user sees them through kubectl and gantry.
import test from "ava";
import { CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, JOBS, NODES, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICATION_CONTROLLERS, STATEFUL_SETS } from "../../base/kube/resources.ts";
import type { Job, Pod } from "../../base/kube/types.gen.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { deployment, exitCode, isReady } from "../helpers/workloads.ts";

const cluster = useCluster(test);

const templateOf = (name: string, run: string | readonly string[] = ["/bin/sleep", "1000000"], spec: object = {}): { spec: { selector: object; template: object } } => {
  const { spec: { selector, template } } = deployment(name, 1, { run, spec }) as { spec: { selector: object; template: object } };
  return { spec: { selector, template } };
};
const job = (name: string, run: string, spec: object = {}, podSpec: object = {}): object => {
  const { spec: { template } } = templateOf(name, run, { restartPolicy: "Never", ...podSpec });
  return { apiVersion: "batch/v1", kind: "Job", metadata: { name }, spec: { template, ...spec } };
};
const has = (j: Job | undefined, type: string): boolean => j?.status?.conditions?.some((c) => c.type === type && c.status === "True") === true;
const names = (pods: readonly Pod[]): string[] => pods.map((p) => p.metadata.name!).sort();

test("a stateful set: ordered names that stay, a canary, its rollout, history and undo, and scaling down", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "stateful");
  const ok = (args: string | readonly string[], input?: string): Promise<string> => c.ok(["-n", ns, ...(typeof args === "string" ? args.split(" ") : args)], input === undefined ? {} : { input });
  const set = { apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "db" }, spec: { replicas: 3, serviceName: "db", ...templateOf("db", "echo I am $(hostname); exec sleep 1000000").spec } };
  await ok("apply -f -", JSON.stringify(set));
  await ok("rollout status sts/db --timeout=60s");
  const pods = await c.until(PODS, ns, (items) => items.length === 3 && items.every(isReady));
  t.deepEqual(names(pods), ["db-0", "db-1", "db-2"]);
  const started = names(pods).map((n) => Date.parse(pods.find((p) => p.metadata.name === n)!.metadata.creationTimestamp!));
  t.deepEqual(started, [...started].sort((a, b) => a - b));
  t.regex((await c.gantry(["logs", "sts/db", "--prefix", "-n", ns])).out, /\[pod\/db-1\/main\] I am db-1/);
  t.is((await ok("exec db-2 -- hostname")).trim(), "db-2");
  await ok(["patch", "sts", "db", "-p", JSON.stringify({ spec: { updateStrategy: { rollingUpdate: { partition: 2 } } } })]);
  await ok("set env sts/db STAGE=canary");
  t.regex(await ok("rollout status sts/db --timeout=60s"), /partitioned roll out complete: 1 new pods have been updated/);
  t.is((await ok(["exec", "db-2", "--", "sh", "-c", "echo -$STAGE-"])).trim(), "-canary-");
  t.is((await ok(["exec", "db-1", "--", "sh", "-c", "echo -$STAGE-"])).trim(), "--");
  await ok(["patch", "sts", "db", "-p", JSON.stringify({ spec: { updateStrategy: { rollingUpdate: { partition: 0 } } } })]);
  await ok("rollout status sts/db --timeout=60s");
  t.regex(await ok("rollout history sts/db"), /\n1 [\s\S]*\n2 /);
  t.regex(await ok("rollout undo sts/db"), /rolled back/);
  await ok("rollout status sts/db --timeout=60s");
  t.is((await ok(["exec", "db-2", "--", "sh", "-c", "echo -$STAGE-"])).trim(), "--");
  t.regex(await ok("get sts"), /db +3\/3 /);
  t.regex((await c.gantry(["get", "all", "-n", ns])).out, /pod\/db-0[\s\S]*statefulset\.apps\/db +3\/3/);
  t.regex((await c.gantry(["describe", "sts", "db", "-n", ns])).out, /OrderedReady, from ordinal 0[\s\S]*SuccessfulCreate/);
  t.is((await c.gantry(["scale", "sts/db", "--replicas", "1", "-n", ns])).code, 0);
  t.deepEqual(names(await c.until(PODS, ns, (items) => items.length === 1)), ["db-0"]);
  await ok("delete sts db");
  await c.until(PODS, ns, (items) => items.length === 0);
  await c.until(CONTROLLER_REVISIONS, ns, (items) => items.length === 0);
});

test("a daemon set: on every node, also a cordoned one, rolled node by node, undone, and off a node that is no place for it", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "daemons");
  const ok = (args: string | readonly string[], input?: string): Promise<string> => c.ok(["-n", ns, ...(typeof args === "string" ? args.split(" ") : args)], input === undefined ? {} : { input });
  await ok("cordon node-3");
  t.teardown(() => c.kubectl("uncordon node-3").then(() => undefined));
  await ok("apply -f -", JSON.stringify({ apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "log" }, ...templateOf("log") }));
  t.regex(await ok("rollout status ds/log --timeout=60s"), /successfully rolled out/);
  const pods = await c.until(PODS, ns, (items) => items.length === 3 && items.every(isReady));
  t.deepEqual(pods.map((p) => p.spec!.nodeName).sort(), [...c.nodes]);
  t.regex(await ok("get ds"), /log +3 +3 +3 +3 +3 +<none>/);
  await ok("set env ds/log STAGE=two");
  await ok("rollout status ds/log --timeout=60s");
  const [one] = (await c.client.list(PODS, ns)).items;
  t.is((await ok(["exec", one!.metadata.name!, "--", "sh", "-c", "echo -$STAGE-"])).trim(), "-two-");
  t.regex(await ok("rollout history ds/log"), /\n1 [\s\S]*\n2 /);
  t.regex(await ok("rollout undo ds/log"), /rolled back/);
  await ok("rollout status ds/log --timeout=60s");
  await ok(["patch", "ds", "log", "-p", JSON.stringify({ spec: { template: { spec: { nodeSelector: { "kubernetes.io/hostname": "node-2" } } } } })]);
  await c.until(PODS, ns, (items) => items.length === 1 && items[0]!.spec!.nodeName === "node-2");
  const [set] = await c.until(DAEMON_SETS, ns, ([ds]) => ds?.status?.desiredNumberScheduled === 1 && ds.status.numberMisscheduled === 0);
  t.is(set!.status!.observedGeneration, set!.metadata.generation);
});

test("a job with a failure policy: 42 ends it, another code is tried again", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "jobs");
  const rules = { podFailurePolicy: { rules: [{ action: "FailJob", onExitCodes: { operator: "In", values: [42] } }] } };
  await c.create(JOBS, ns, job("fatal", "exit 42", { backoffLimit: 5, ...rules }));
  await c.create(JOBS, ns, job("indexes", 'test "$JOB_COMPLETION_INDEX" != 1', { completions: 3, parallelism: 3, completionMode: "Indexed", backoffLimitPerIndex: 0 }));
  await c.create(JOBS, ns, job("leader", 'test "$JOB_COMPLETION_INDEX" = 0 || exec sleep 1000', { completions: 3, parallelism: 3, completionMode: "Indexed", successPolicy: { rules: [{ succeededIndexes: "0" }] } }));
  const find = (items: readonly Job[], name: string): Job | undefined => items.find((j) => j.metadata.name === name);
  const jobs = await c.until(JOBS, ns, (items) => has(find(items, "fatal"), "Failed") && has(find(items, "indexes"), "Failed") && has(find(items, "leader"), "Complete"));
  t.regex(find(jobs, "fatal")!.status!.conditions!.find((x) => x.type === "Failed")!.message!, /failed with exit code 42 matching FailJob rule at index 0/);
  t.is(find(jobs, "fatal")!.status!.failed, 1);
  t.like(find(jobs, "indexes")!.status, { completedIndexes: "0,2", failedIndexes: "1", succeeded: 2, failed: 1 });
  t.like(find(jobs, "leader")!.status, { completedIndexes: "0", succeeded: 1, failed: 2 });
  const pods = (await c.client.list(PODS, ns, { labelSelector: "job-name=fatal" })).items;
  t.deepEqual(pods.map(exitCode), [42]);
  t.true(pods.every((p) => !p.metadata.finalizers));
});

// First and alone: it kills what all others need.
test.serial("no result of a job is lost or doubled when finished pods are deleted as fast as they come, and the control plane is killed", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "counting");
  await c.create(JOBS, ns, job("many", "exit 0", { completions: 24, parallelism: 6 }));
  const end = new AbortController();
  const deleting = (async () => {
    while (!end.signal.aborted) {
      await c.kubectl(["-n", ns, "delete", "pods", "--field-selector", "status.phase=Succeeded", "--wait=false"]).catch(() => undefined);
    }
  })();
  await c.until(JOBS, ns, ([j]) => (j?.status?.succeeded ?? 0) >= 6);
  c.kill("control-plane", "SIGKILL");
  await c.gone("control-plane");
  await c.up();
  const [done] = await c.until(JOBS, ns, ([j]) => has(j, "Complete"));
  end.abort();
  await deleting;
  t.is(done!.status!.succeeded, 24);
  t.is(done!.status!.failed ?? 0, 0);
});

test("a replication controller keeps its number, adopts and lets go", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "replication");
  const { spec: { template } } = templateOf("rc");
  await c.create(REPLICATION_CONTROLLERS, ns, { metadata: { name: "rc" }, spec: { replicas: 2, template } });
  const [one] = await c.until(PODS, ns, (items) => items.filter(isReady).length === 2);
  await c.ok(["-n", ns, "scale", "rc/rc", "--replicas=3"]);
  await c.until(REPLICATION_CONTROLLERS, ns, ([rc]) => rc?.status?.readyReplicas === 3);
  await c.ok(["-n", ns, "label", "pod", one!.metadata.name!, "app=free", "--overwrite"]);
  const pods = await c.until(PODS, ns, (items) => items.filter((p) => isReady(p)).length === 4);
  t.is(pods.find((p) => p.metadata.name === one!.metadata.name)!.metadata.ownerReferences, undefined);
  t.regex(await c.ok(["-n", ns, "get", "rc"]), /rc +3 +3 +3 /);
  t.is((await c.client.list(STATEFUL_SETS, ns)).items.length, 0);
  t.is((await c.client.list(NODES)).items.length, 3);
});

test("one pod a node by anti-affinity; a pod of a higher class takes the room of a lower one, which waits", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "crowded");
  const classes = ["crowded-low", "crowded-high"];
  t.teardown(() => c.ok(["delete", "priorityclass", ...classes]).then(() => undefined));
  for (const [name, value] of [["crowded-low", "-10"], ["crowded-high", "1000"]] as const) await c.ok(["create", "priorityclass", name, `--value=${value}`, "--description=x"]);
  t.regex(await c.ok(["get", "priorityclass"]), /crowded-high +1000 +false +\S+ +PreemptLowerPriority[\s\S]*system-node-critical +2000001000 +false/);
  t.regex(await c.fails(["-n", ns, "run", "x", "--image=x", "--overrides", '{"spec":{"priorityClassName":"lost"}}']), /no PriorityClass with name lost was found/);
  const template = (name: string, replicas: number, priorityClassName: string, apart: boolean): string => JSON.stringify({
    apiVersion: "apps/v1", kind: "Deployment", metadata: { name }, spec: { replicas, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name } }, spec: {
      priorityClassName, terminationGracePeriodSeconds: 1, containers: [{ name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["sleep", "1000"], resources: { requests: { cpu: "1200m" } } }],
      ...(apart && { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: name } } }] } } }),
    } } },
  });
  await c.ok(["-n", ns, "apply", "-f", "-"], { input: template("low", 4, "crowded-low", true) });
  const named = (pods: readonly Pod[], name: string): readonly Pod[] => pods.filter((p) => p.metadata.labels?.["app"] === name && p.metadata.deletionTimestamp === undefined);
  const spread = await c.until(PODS, ns, (pods) => named(pods, "low").filter(isReady).length === 3);
  t.is(new Set(named(spread, "low").filter(isReady).map((p) => p.spec!.nodeName)).size, 3);
  t.regex((await c.gantry(["why", "deploy/low", "-n", ns])).out, /3 node\(s\) didn't match pod anti-affinity rules/);
  await c.ok(["-n", ns, "apply", "-f", "-"], { input: template("high", 1, "crowded-high", false) });
  const after = await c.until(PODS, ns, (pods) => named(pods, "high").some(isReady));
  t.is(named(after, "high")[0]!.spec!.priority, 1000);
  await c.until(PODS, ns, (pods) => named(pods, "low").filter(isReady).length === 2 && named(pods, "low").length === 4);
  t.regex(await c.ok(["-n", ns, "get", "events"]), /Preempted +pod\/low-\S+ +Preempted by pod \S+ on node node-\d/);
});

test("a gated pod says so, can get no more gates, and runs when they are removed", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "gated");
  await c.ok(["-n", ns, "apply", "-f", "-"], { input: JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name: "gated" }, spec: { schedulingGates: [{ name: "example.com/wait" }], containers: [{ name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["sleep", "1000"] }] } }) });
  await c.until(PODS, ns, ([pod]) => pod?.status?.conditions?.some((k) => k.reason === "SchedulingGated") === true);
  t.regex(await c.ok(["-n", ns, "get", "pod", "gated"]), /gated +0\/1 +SchedulingGated/);
  t.regex((await c.gantry(["why", "pod", "gated", "-n", ns])).out, /held by scheduling gates "example\.com\/wait"[\s\S]*Smallest change: remove "example\.com\/wait" from spec\.schedulingGates/);
  const patch = (schedulingGates: { name: string }[]): string[] => ["-n", ns, "patch", "pod", "gated", "--type=merge", "-p", JSON.stringify({ spec: { schedulingGates } })];
  t.regex(await c.fails(patch([{ name: "example.com/wait" }, { name: "example.com/more" }])), /spec\.schedulingGates.*only deletion is allowed/);
  await c.ok(patch([]));
  await c.until(PODS, ns, ([pod]) => pod !== undefined && isReady(pod));
});

test("why says what holds a workload up: no room, a probe, an image, an order", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "why");
  const why = async (what: string): Promise<string> => (await c.gantry(["why", what, "-n", ns])).out;
  const create = (kind: string, name: string, replicas: number, container: object): Promise<string> => {
    const d = deployment(name, replicas, { container }) as { spec: object };
    return c.ok(["-n", ns, "apply", "-f", "-"], { input: JSON.stringify({ ...d, kind, spec: { ...d.spec, ...(kind === "StatefulSet" && { serviceName: name }) } }) });
  };
  await create("Deployment", "huge", 2, { resources: { requests: { cpu: "900" } } });
  await create("Deployment", "absent", 2, { image: "gantry.local/absent:1", imagePullPolicy: "Never" });
  await create("StatefulSet", "sick", 3, { readinessProbe: { exec: { command: ["/bin/sh", "-c", "echo not yet; exit 3"] }, periodSeconds: 1 } });
  await create("Deployment", "fine", 1, {});
  await c.ok(["-n", ns, "rollout", "status", "deploy/fine", "--timeout=60s"]);
  await until(async () => /2 pods \(absent-\S+, absent-\S+\): container main waits: ErrImageNeverPull/.test(await why("deploy/absent")), "the image is missed");
  // Another test may have cordoned a node meanwhile, which is said too.
  t.regex(await why("deploy/huge"), /^Deployment why\/huge: 0 of 2 ready, .*\n[\s\S]*2 pods \(huge-\S+, huge-\S+\): has no node\n {2}0\/3 nodes are available: [^\n]*3 Insufficient cpu[\s\S]*Smallest change: /);
  await until(async () => /sick-0\): container main runs, but is not ready: Readiness probe failed: command \["\/bin\/sh","-c","echo not yet; exit 3"\] ended with exit code 3: not yet/.test(await why("sts/sick")), "the probe is named");
  t.regex(await why("sts/sick"), /sick-0 has to be ready before the 2 pods that are missing can follow \(OrderedReady\)/);
  t.regex(await why("deploy/fine"), /1 of 1 ready[^\n]*\nNothing is wrong with its pods\.\n$/);
});

test("a stateful set's claims outlive its pods, and go with what the retention policy says", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "claims");
  const { spec } = templateOf("data", "date +%N >> /data/log; exec sleep 1000000") as { spec: { selector: object; template: { spec: { containers: object[] } } } };
  const [main] = spec.template.spec.containers;
  const template = { ...spec.template, spec: { ...spec.template.spec, containers: [{ ...main, volumeMounts: [{ name: "data", mountPath: "/data" }] }] } };
  await c.create(STATEFUL_SETS, ns, { metadata: { name: "data" }, spec: {
    replicas: 2, selector: spec.selector, template, persistentVolumeClaimRetentionPolicy: { whenScaled: "Delete", whenDeleted: "Retain" },
    volumeClaimTemplates: [{ metadata: { name: "data" }, spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "10Mi" } } } }],
  } });
  await c.until(PODS, ns, (items) => items.length === 2 && items.every(isReady));
  const lines = async (): Promise<number> => (await c.ok(["-n", ns, "exec", "data-0", "--", "cat", "/data/log"])).trim().split("\n").length;
  t.is(await lines(), 1);
  const [old] = (await c.client.list(PODS, ns)).items.filter((p) => p.metadata.name === "data-0");
  await c.ok(["-n", ns, "delete", "pod", "data-0"]);
  await c.until(PODS, ns, (items) => items.some((p) => p.metadata.name === "data-0" && p.metadata.uid !== old!.metadata.uid && isReady(p)));
  t.is(await lines(), 2);
  await c.ok(["-n", ns, "scale", "sts/data", "--replicas=1"]);
  const claims = await c.until(PERSISTENT_VOLUME_CLAIMS, ns, (items) => items.length === 1);
  t.is(claims[0]!.metadata.name, "data-data-0");
  await c.ok(["-n", ns, "delete", "sts", "data"]);
  await c.until(PODS, ns, (items) => items.length === 0);
  t.is((await c.client.list(PERSISTENT_VOLUME_CLAIMS, ns)).items.length, 1);
});

test("autoscalers: up by CPU that is burnt and by a number that pods serve, down again when both are gone", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "autoscaling");
  const ok = (args: string | readonly string[], input?: string): Promise<string> => c.ok(["-n", ns, ...(typeof args === "string" ? args.split(" ") : args)], input === undefined ? {} : { input });
  const apply = (object: object): Promise<string> => ok("apply -f -", JSON.stringify(object));
  const burner = deployment("burner", 1, { run: "while [ ! -e /idle ]; do :; done; exec sleep 1000000", container: { resources: { requests: { cpu: "50m" }, limits: { cpu: "100m" } } } });
  const queue = deployment("queue", 1, { run: "mkdir /www; echo 'jobs{kind=\"mail\"} 30' >/www/metrics; exec httpd -f -p 8080 -h /www", container: { ports: [{ containerPort: 8080 }] } });
  await Promise.all([apply(burner), apply(queue)]);
  // By a client of autoscaling/v1, and then given a behaviour by one of v2.
  await ok("autoscale deployment burner --cpu-percent=50 --min=1 --max=2");
  await ok(["patch", "hpa", "burner", "--type=merge", "-p", JSON.stringify({ spec: { behavior: { scaleDown: { stabilizationWindowSeconds: 0 } } } })]);
  await apply({ apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: { name: "queue" }, spec: {
    scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "queue" }, maxReplicas: 3, behavior: { scaleDown: { stabilizationWindowSeconds: 0 } },
    metrics: [{ type: "Pods", pods: { metric: { name: "jobs", selector: { matchLabels: { kind: "mail" } } }, target: { type: "AverageValue", averageValue: "10" } } }],
  } });
  const sizes = (burners: number, queues: number): Promise<unknown> => Promise.all([["burner", burners], ["queue", queues]].map(([name, size]) =>
    c.until(DEPLOYMENTS, ns, (items) => items.some((d) => d.metadata.name === name && d.spec?.replicas === size && d.status?.readyReplicas === size))));
  await sizes(2, 3);
  await c.until(HORIZONTAL_POD_AUTOSCALERS, ns, (items) => items.every((h) => (h.status?.currentMetrics?.length ?? 0) > 0));
  t.regex(await ok("get hpa"), /burner +Deployment\/burner +cpu: \d+%\/50% +1 +2 [\s\S]*queue +Deployment\/queue +\d+\/10 +1 +3 /);
  t.regex(await ok("describe hpa burner"), /ScalingActive +True +ValidMetricFound[\s\S]*SuccessfulRescale .*New size: 2; reason: cpu resource utilization \(percentage of request\) above target/);
  const all = await c.until(PODS, ns, (items) => items.length === 5 && items.every(isReady));
  await Promise.all(all.map((p) => ok(["exec", p.metadata.name!, "--", "sh", "-c", "touch /idle; if [ -e /www ]; then echo 'jobs{kind=\"mail\"} 1' >/www/metrics; fi"])));
  await sizes(1, 1);
  t.regex((await c.gantry(["why", "deploy", "queue", "-n", ns])).out, /HorizontalPodAutoscaler queue .*from 1 to 3/);
});
