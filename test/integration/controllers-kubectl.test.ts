// The controllers judged by the real kubectl 1.33: rollouts, undo, restart, cascades, jobs, cron jobs, namespaces, and the example
// manifests. Scheduler and agents are played by the test.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "ava";
import type { ExecutionContext } from "ava";
import { DEPLOYMENTS, NODES, PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { isCode } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { silentLogger } from "../../base/logger.ts";
import { startControllers } from "../../control-plane/controllers/run.ts";
import { createEventRecorder } from "../../control-plane/state/event-recorder.ts";
import { keyOf } from "../../control-plane/state/store.ts";
import { NO_NODES } from "../../control-plane/state/testing.ts";
import { startTestApi } from "../helpers/api-server.ts";
import { findKubectl } from "../helpers/kubectl.ts";

/** The node has no agent that renews its lease: on a busy machine a test may last longer than the usual one. */
const SILENCE_MS = 3_600_000;

const KUBECTL = findKubectl("1.33");
const judged = KUBECTL === undefined ? test.skip : test;
const EXAMPLES = new URL("../../deploy/examples/", import.meta.url).pathname;

interface Cluster {
  readonly kubectl: (...args: string[]) => Promise<string>;
  readonly pods: () => Pod[];
  /** Containers of pods with this image end: "Succeeded" or "Failed". */
  readonly outcome: Map<string, "Succeeded" | "Failed">;
  readonly replicasReady: (name: string) => number;
}

const startCluster = async (t: ExecutionContext): Promise<Cluster> => {
  const api = await startTestApi();
  const { store, cache, clock } = api;
  await store.create({ type: NODES, namespace: "", name: "node-1" }, { apiVersion: "v1", kind: "Node", metadata: { name: "node-1", uid: newUid() } }, { writer: "api" });
  const stop = new AbortController();
  const events = createEventRecorder({ store, cache, clock, logger: silentLogger, delayMs: 20 });
  const done = startControllers({ store, cache, clock, random: Math.random, logger: silentLogger, fence: undefined, signal: stop.signal, events, streams: NO_NODES, options: { nodeLeaseMs: SILENCE_MS } });
  const outcome = new Map<string, "Succeeded" | "Failed">();
  const now = (): string => new Date(clock.nowMs()).toISOString();
  const play = async (pod: Pod): Promise<void> => {
    try {
      if (pod.metadata.deletionTimestamp !== undefined) {
        if (!pod.metadata.finalizers?.length) await store.delete(keyOf(PODS, pod), { writer: "agent" });
      } else if (!pod.spec?.nodeName) await store.update(keyOf(PODS, pod), (p) => ({ ...p, spec: { ...p.spec!, nodeName: "node-1" } }), { writer: "scheduler" });
      else if (pod.status?.phase === "Pending") {
        await store.update(keyOf(PODS, pod), (p) => ({ ...p, status: { ...p.status, phase: "Running", conditions: [{ type: "Ready", status: "True", lastTransitionTime: now() }] } }), { writer: "agent" });
      } else if (pod.status?.phase === "Running" && outcome.has(pod.spec.containers[0]!.image ?? "")) {
        const phase = outcome.get(pod.spec.containers[0]!.image ?? "")!;
        await store.update(keyOf(PODS, pod), (p) => ({ ...p, status: { ...p.status, phase, conditions: [] } }), { writer: "agent" });
      }
    } catch (error) {
      if (!isCode(error, "NotFound", "Conflict")) throw error;
    }
  };
  const player = cache.resource(PODS).subscribe(({ type, stored }) => {
    if (type !== "deleted") void play(stored.object);
  });
  t.teardown(async () => {
    player[Symbol.dispose]();
    stop.abort();
    await done;
    events[Symbol.dispose]();
    await api[Symbol.asyncDispose]();
  });
  return {
    outcome,
    kubectl: (...args) => new Promise((resolve, reject) => {
      const env = { PATH: process.env["PATH"], HOME: api.directory, KUBECONFIG: api.kubeconfig, KUBECACHEDIR: join(api.directory, "cache") };
      execFile(KUBECTL!, args, { env, timeout: 60_000 }, (error, out, err) => (error ? reject(new Error(`kubectl ${args.join(" ")}: ${err}${out}`)) : resolve(out)));
    }),
    pods: () => Array.from(cache.resource(PODS).list(), (s) => s.object),
    replicasReady: (name) => cache.resource(DEPLOYMENTS).get("default", name)?.object.status?.readyReplicas ?? 0,
  };
};

judged("hundred.yaml rolls out, scales, and goes with everything that it owned", async (t) => {
  const { kubectl, pods, replicasReady } = await startCluster(t);
  await kubectl("apply", "-f", `${EXAMPLES}hundred.yaml`);
  t.regex(await kubectl("rollout", "status", "deployment/hundred", "--timeout=60s"), /successfully rolled out/);
  t.is(replicasReady("hundred"), 100);
  await kubectl("scale", "deployment/hundred", "--replicas=7");
  await kubectl("wait", "deployment/hundred", "--for=jsonpath={.status.replicas}=7", "--timeout=60s");
  t.regex(await kubectl("get", "deployment", "hundred"), /hundred +7\/7 +7 +7/);
  const described = await kubectl("describe", "deployment", "hundred");
  t.regex(described, /Scaled down replica set hundred-\w+ from 100 to 7/);
  t.regex(described, /NewReplicaSet: +hundred-\w+ \(7\/7 replicas created\)/);
  await kubectl("delete", "deployment/hundred", "--cascade=foreground", "--timeout=60s");
  t.is(pods().length, 0);
});

judged("set image, history, undo and restart", async (t) => {
  const { kubectl, pods } = await startCluster(t);
  await kubectl("create", "deployment", "web", "--image=example:1", "--replicas=4");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  await kubectl("set", "image", "deployment/web", "*=example:2");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  t.true(pods().filter((p) => !p.metadata.deletionTimestamp).every((p) => p.spec!.containers[0]!.image === "example:2"));
  t.regex(await kubectl("rollout", "history", "deployment/web"), /1 +<none>\n2 +<none>/);
  await kubectl("rollout", "undo", "deployment/web");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  t.true(pods().filter((p) => !p.metadata.deletionTimestamp).every((p) => p.spec!.containers[0]!.image === "example:1"));
  t.regex(await kubectl("rollout", "history", "deployment/web"), /2 +<none>\n3 +<none>/);
  const before = new Set(pods().map((p) => p.metadata.uid));
  await kubectl("rollout", "restart", "deployment/web");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  t.false(pods().filter((p) => !p.metadata.deletionTimestamp).some((p) => before.has(p.metadata.uid)));
  await kubectl("rollout", "pause", "deployment/web");
  await kubectl("set", "image", "deployment/web", "*=example:3");
  await kubectl("rollout", "resume", "deployment/web");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  t.true(pods().filter((p) => !p.metadata.deletionTimestamp).every((p) => p.spec!.containers[0]!.image === "example:3"));
});

judged("orphaned pods stay, and a new deployment of the same name takes them over", async (t) => {
  const { kubectl, pods } = await startCluster(t);
  await kubectl("create", "deployment", "web", "--image=example:1", "--replicas=3");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  const names = pods().map((p) => p.metadata.name!).sort();
  await kubectl("delete", "deployment/web", "--cascade=orphan", "--timeout=60s");
  t.deepEqual(pods().map((p) => p.metadata.name!).sort(), names);
  await kubectl("create", "deployment", "web", "--image=example:1", "--replicas=3");
  await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
  t.deepEqual(pods().map((p) => p.metadata.name!).sort(), names);
});

judged("jobs complete, fail, and are made of a cron job by hand", async (t) => {
  const { kubectl, pods, outcome } = await startCluster(t);
  outcome.set("good", "Succeeded").set("bad", "Failed").set("gantry.local/example:latest", "Succeeded");
  await kubectl("create", "job", "fine", "--image=good");
  await kubectl("wait", "job/fine", "--for=condition=complete", "--timeout=60s");
  await kubectl("apply", "-f", `${EXAMPLES}job.yaml`);
  await kubectl("wait", "job/squares", "--for=condition=complete", "--timeout=60s");
  t.regex(await kubectl("describe", "job", "squares"), /Completed Indexes: +0-9/);
  await kubectl("apply", "-f", `${EXAMPLES}midnight.yaml`);
  await kubectl("create", "job", "--from=cronjob/midnight", "now");
  await kubectl("wait", "job/now", "--for=condition=complete", "--timeout=60s");
  t.regex(await kubectl("get", "job", "now"), /now +Complete +100\/100/);
  t.is(pods().filter((p) => p.metadata.labels?.["job-name"] === "now").length, 100);
  await kubectl("create", "job", "doomed", "--image=bad");
  await kubectl("patch", "job", "doomed", "-p", '{"spec":{"backoffLimit":0}}');
  await kubectl("wait", "job/doomed", "--for=condition=failed", "--timeout=60s");
  t.regex(await kubectl("events", "--for", "job/doomed"), /BackoffLimitExceeded +Job\/doomed +Job has reached the specified backoff limit/);
  await kubectl("delete", "job", "fine", "squares", "now", "doomed", "--timeout=60s");
  await kubectl("wait", "pod", "--all", "--for=delete", "--timeout=60s");
  t.is(pods().length, 0);
});

judged("a namespace goes with all that is in it", async (t) => {
  const { kubectl, pods } = await startCluster(t);
  await kubectl("create", "namespace", "shop");
  await kubectl("create", "deployment", "web", "--image=example:1", "--replicas=5", "-n", "shop");
  await kubectl("create", "configmap", "settings", "--from-literal=a=b", "-n", "shop");
  await kubectl("rollout", "status", "deployment/web", "-n", "shop", "--timeout=60s");
  await kubectl("delete", "namespace", "shop", "--timeout=60s");
  t.is(pods().length, 0);
  await t.throwsAsync(kubectl("get", "namespace", "shop"), { message: /not found/ });
});

if (KUBECTL === undefined) test("kubectl 1.33 is not on this machine: the controllers were not judged by it", (t) => t.pass());

judged("a quota is taken from, refuses by name, and is given back", async (t) => {
  const { kubectl, pods } = await startCluster(t);
  await kubectl("create", "quota", "small", "--hard=pods=2,requests.cpu=1,count/configmaps=1");
  await kubectl("run", "a", "--image=x", "--overrides", JSON.stringify({ spec: { containers: [{ name: "a", image: "x", resources: { requests: { cpu: "600m" } } }] } }));
  const second = (...more: string[]) => kubectl("run", "b", "--image=x", "--overrides", JSON.stringify({ spec: { containers: [{ name: "b", image: "x", resources: { requests: { cpu: "600m" } } }] } }), ...more);
  const refusal = /pods "b" is forbidden: exceeded quota: small, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1/;
  await t.throwsAsync(second(), { message: refusal });
  await t.throwsAsync(second("--dry-run=server"), { message: refusal });
  await t.throwsAsync(kubectl("run", "c", "--image=x"), { message: /failed quota: small: must specify requests.cpu for: c/ });
  await kubectl("create", "configmap", "one");
  await t.throwsAsync(kubectl("create", "configmap", "two"), { message: /exceeded quota: small, requested: count\/configmaps=1, used: count\/configmaps=1, limited: count\/configmaps=1/ });
  t.regex(await kubectl("get", "quota"), /NAME +REQUEST +LIMIT +AGE\nsmall +count\/configmaps: 1\/1, pods: 1\/2, requests.cpu: 600m\/1/);
  t.regex(await kubectl("describe", "quota", "small"), /requests.cpu +600m +1\n/);
  await kubectl("delete", "pod", "a", "--now");
  await second();
  t.deepEqual(pods().map((p) => p.metadata.name), ["b"]);
  t.regex(await kubectl("explain", "resourcequota.spec.hard"), /hard is the set of desired hard limits/);
});

judged("a limit range gives defaults and keeps to its bounds", async (t) => {
  const { kubectl, pods } = await startCluster(t);
  const file = join(await mkdtemp(join(tmpdir(), "gantry-limits-")), "limits.yaml");
  t.teardown(() => rm(dirname(file), { recursive: true }));
  await writeFile(file, "apiVersion: v1\nkind: LimitRange\nmetadata: {name: bounds}\nspec: {limits: [{type: Container, max: {memory: 1Gi}, default: {memory: 256Mi}, defaultRequest: {cpu: 100m}}, {type: PersistentVolumeClaim, max: {storage: 1Gi}}]}\n");
  await kubectl("apply", "-f", file);
  t.regex(await kubectl("get", "limits"), /NAME +CREATED AT\nbounds +20/);
  t.regex(await kubectl("describe", "limits", "bounds"), /Container +memory +- +1Gi +256Mi +256Mi/);
  await kubectl("run", "a", "--image=x");
  t.deepEqual(pods()[0]!.spec!.containers[0]!.resources, { limits: { memory: "256Mi" }, requests: { cpu: "100m", memory: "256Mi" } });
  await t.throwsAsync(kubectl("run", "b", "--image=x", "--overrides", JSON.stringify({ spec: { containers: [{ name: "b", image: "x", resources: { limits: { memory: "2Gi" } } }] } })),
    { message: /pods "b" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi/ });
});
