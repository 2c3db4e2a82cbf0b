// Several control planes on one etcd: one leads, nodes find it through any of them, and when it is killed or stopped another goes on
// where it was.
import { connect } from "node:net";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { isCode } from "../../base/errors.ts";
import { DEPLOYMENTS, NODES, PODS } from "../../base/kube/resources.ts";
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import { text } from "../../cli/api-client.ts";
import { newAuthority, startControlPlane, startEtcdMembers, startNodes, type ControlPlaneProcess } from "../helpers/control-planes.ts";
import { eventually } from "../helpers/fake-agent.ts";
import { deployment, isReady } from "../helpers/workloads.ts";

/** How long a cluster may be without a leader when its process was killed or stopped: a lease of 6 s, and some. */
const TAKEOVER_MS = 12_000;

const leaderOf = async (planes: readonly ControlPlaneProcess[]): Promise<ControlPlaneProcess> => {
  let leader: ControlPlaneProcess | undefined;
  await eventually(async () => {
    const leading = await Promise.all(planes.map((p) => p.leads()));
    leader = planes.find((_, i) => leading[i]);
    return leader !== undefined;
  }, "one of the control planes leads", TAKEOVER_MS);
  return leader!;
};

const scale = (plane: ControlPlaneProcess, replicas: number): Promise<unknown> =>
  plane.client.json("PATCH", plane.client.pathOf(DEPLOYMENTS, "default", "web", "scale"), { body: { spec: { replicas } }, contentType: "application/merge-patch+json" });

const podsOf = async (plane: ControlPlaneProcess): Promise<readonly Pod[]> => (await plane.client.list<Pod>(PODS, "default", { labelSelector: "app=web" })).items;

const allReady = (plane: ControlPlaneProcess, replicas: number, timeoutMs: number): Promise<void> => eventually(async () => {
  const pods = await podsOf(plane);
  return pods.length === replicas && pods.every(isReady);
}, `${replicas} pods are there and ready`, timeoutMs);

test("one of three leads; it is killed in the middle of a scale-up, its successor is stopped and fenced, and every replica is there exactly once", async (t) => {
  t.timeout(180_000);
  const [authority, etcd] = await Promise.all([newAuthority(), startEtcdMembers(t, 1)]);
  const planes = await Promise.all(["a", "b", "c"].map((name) => startControlPlane(t, name, authority, ["--etcd-endpoints", etcd.endpoints.join(","), "--log-level", "debug"])));
  const first = await leaderOf(planes);
  const followers = planes.filter((p) => p !== first);
  for (const follower of followers) {
    await eventually(async () => (await follower.readiness()).includes(`leads, at ${first.api}`), "a follower says where the leader is");
    // A follower serves the API, so it is ready.
    t.regex(await follower.readiness(), /readyz check passed/);
  }

  // Nodes that know a follower only are sent to the leader.
  const agents = await startNodes(t, authority, ["node-a", "node-b", "node-c"], followers.map((f) => f.agents));
  t.true(first.log.filter((line) => line.includes('"message":"session opened"')).length === 3, "all nodes have their session with the leader");

  const [follower] = followers as [ControlPlaneProcess, ControlPlaneProcess];
  await follower.client.json("POST", follower.client.pathOf(DEPLOYMENTS, "default"), { body: deployment("web", 20) });
  await allReady(follower, 20, 10_000);

  // What reaches into a node goes through the leader; a follower names it.
  const [pod] = await podsOf(follower);
  const logPath = first.client.pathOf(PODS, "default", pod!.metadata.name, "log");
  for (const { pods } of agents) if (pods.assignments.has(pod!.metadata.uid!)) pods.logLines.set(`${pod!.metadata.uid!}/main`, ["hello\n"]);
  t.is(await first.client.send("GET", logPath).then(text), "hello\n");
  for (const refused of [() => follower.client.send("GET", logPath), () => follower.client.send("POST", "/apis/gantry.io/v1/images?name=x", { body: "x" })]) {
    const error = await t.throwsAsync(refused());
    t.true(isCode(error, "ServiceUnavailable"));
    t.true(error.message.includes(first.api), error.message);
  }

  const [rest, killedMs] = [followers, performance.now()];
  await scale(follower, 300);
  first.child.kill("SIGKILL");
  const second = await leaderOf(rest);
  t.log(`another leads ${Math.round(performance.now() - killedMs)} ms after the leader was killed`);
  await allReady(follower, 300, 30_000);
  t.log(`300 of 300 ready ${Math.round(performance.now() - killedMs)} ms after it`);
  t.is(new Set(agents.flatMap((a) => [...a.pods.assignments.keys()])).size, 300);

  const third = rest.find((p) => p !== second)!;
  const stoppedMs = performance.now();
  second.child.kill("SIGSTOP");
  t.is(await leaderOf([third]), third);
  t.log(`another leads ${Math.round(performance.now() - stoppedMs)} ms after the leader was stopped`);
  await scale(third, 30);
  await allReady(third, 30, 40_000);
  t.log(`30 of 30 ${Math.round(performance.now() - stoppedMs)} ms after it`);
  const before = await podsOf(third);

  second.child.kill("SIGCONT");
  await eventually(async () => (await second.readiness()).includes(`leads, at ${third.api}`), "the old leader follows");
  t.regex(await second.client.send("GET", "/metrics").then(text), /^gantry_leader\{election="leader"\} 0$/m);
  // Time for it to do harm, if it could.
  await delay(1000);
  t.deepEqual((await podsOf(second)).map((p) => p.metadata.uid).sort(), before.map((p) => p.metadata.uid).sort());
  t.deepEqual((await third.client.list(NODES)).items.map((n) => n.status?.conditions?.find((c) => c.type === "Ready")?.status), ["True", "True", "True"]);
  const { status } = await second.client.get<Deployment>(DEPLOYMENTS, "default", "web");
  t.is(status?.readyReplicas, 30);
});

test("a leader that is told to stop hands over at once, and no silent connection holds it up", async (t) => {
  t.timeout(60_000);
  const [authority, etcd] = await Promise.all([newAuthority(), startEtcdMembers(t, 1)]);
  const planes = await Promise.all(["a", "b"].map((name) => startControlPlane(t, name, authority, ["--etcd-endpoints", etcd.endpoints.join(",")])));
  const first = await leaderOf(planes);
  await startNodes(t, authority, ["node-a"], planes.map((p) => p.agents));
  for (const address of [first.agents, new URL(first.api).host]) {
    const silent = connect(Number(address.split(":")[1]), "127.0.0.1");
    t.teardown(() => silent.destroy());
    silent.on("error", () => undefined);
    await once(silent, "connect");
  }
  const startedMs = performance.now();
  first.child.kill("SIGTERM");
  const [code] = (await once(first.child, "exit")) as [number];
  const tookMs = performance.now() - startedMs;
  t.is(code, 0);
  t.true(tookMs < 1500, `it took ${Math.round(tookMs)} ms to stop`);
  const next = await leaderOf(planes.filter((p) => p !== first));
  t.true(performance.now() - startedMs < 3000, "nobody had to wait for a lease to run out");
  await eventually(() => next.log.some((line) => line.includes('"message":"session opened"')), "the node has found the new leader");
});
