// Node agents are killed: nothing that runs may notice, and nothing that happens meanwhile may be lost.
import { mkdtempSync, rmSync, writeFileSync, chmodSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { container, deployment, exitCode, isReady, isRolledOut, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test);
const NODES = ["node-1", "node-2", "node-3"] as const;

const pidsByPod = (): Map<string, number> => new Map(cluster().containers().map((c) => [c.podUid, c.pid]));

const killAgents = async (): Promise<void> => {
  for (const node of NODES) cluster().kill(node, "SIGKILL");
  await Promise.all(NODES.map((node) => cluster().gone(node)));
};

test.serial("100 containers run on when every agent is killed; what ended meanwhile is told, and no log line is lost", async (t) => {
  t.timeout(180_000);
  const c = cluster();
  const signals = mkdtempSync(join(tmpdir(), "gantry-signals-"));
  chmodSync(signals, 0o755);
  t.teardown(() => rmSync(signals, { recursive: true, force: true }));
  const ns = await c.namespace(t, "survivors");
  const signalVolume = { volumes: [{ name: "signals", hostPath: { path: signals } }] };
  const mounted = { volumeMounts: [{ name: "signals", mountPath: "/signals" }] };
  const onceTold = (file: string, code: number): string => `until [ -e /signals/${file} ]; do sleep 0.05; done; echo done; exit ${code}`;

  await c.create(DEPLOYMENTS, ns, deployment("still", 87));
  for (const [i, nodeName] of NODES.entries()) {
    const at = { nodeName, ...signalVolume };
    await Promise.all([
      c.create(PODS, ns, pod(`counting-${i}`, { run: "i=0; while :; do i=$((i+1)); echo line $i; usleep 20000; done", spec: at, container: mounted })),
      c.create(PODS, ns, pod(`fails-${i}`, { run: onceTold("go", 7 + i), spec: { ...at, restartPolicy: "Never" }, container: mounted })),
      c.create(PODS, ns, pod(`succeeds-${i}`, { run: onceTold("go", 0), spec: { ...at, restartPolicy: "OnFailure" }, container: mounted })),
      c.create(PODS, ns, pod(`killed-${i}`, { spec: { ...at, restartPolicy: "Never" } })),
    ]);
  }
  await c.create(PODS, ns, pod("restarts", { run: `echo instance; [ -e /signals/again ] && exec sleep 1000000; touch /signals/again; ${onceTold("go", 3)}`, spec: signalVolume, container: mounted }));
  const before = await c.until(PODS, ns, (pods) => pods.length === 100 && pods.every(isReady), { timeoutMs: 90_000 });
  const pids = pidsByPod();
  t.is(pids.size, 100);
  const uidOf = (name: string): string => before.find((p) => p.metadata.name === name)!.metadata.uid!;

  await killAgents();
  writeFileSync(join(signals, "go"), "");
  for (const i of NODES.keys()) process.kill(pids.get(uidOf(`killed-${i}`))!, "SIGKILL");
  const ending = [...["fails", "succeeds", "killed"].flatMap((name) => [...NODES.keys()].map((i) => `${name}-${i}`)), "restarts"];
  await until(() => !c.containers().some((p) => ending.some((name) => uidOf(name) === p.podUid)), "the containers that were told to end have ended");
  const endedAt = Date.now();
  await c.up();

  const after = await c.until(PODS, ns, (pods) => ending.every((name) => {
    const p = pods.find((x) => x.metadata.name === name);
    return p !== undefined && (name === "restarts" ? container(p).restartCount === 1 && isReady(p) : exitCode(p) !== undefined);
  }));
  const named = (name: string): Pod => after.find((p) => p.metadata.name === name)!;
  for (const i of NODES.keys()) {
    t.is(exitCode(named(`fails-${i}`)), 7 + i);
    t.is(named(`fails-${i}`).status?.phase, "Failed");
    t.is(container(named(`fails-${i}`)).state?.terminated?.reason, "Error");
    t.is(exitCode(named(`succeeds-${i}`)), 0);
    t.is(named(`succeeds-${i}`).status?.phase, "Succeeded");
    t.is(container(named(`succeeds-${i}`)).state?.terminated?.reason, "Completed");
    t.is(exitCode(named(`killed-${i}`)), 137);
    t.true(Date.parse(String(container(named(`fails-${i}`)).state?.terminated?.finishedAt)) <= endedAt, "the time of the end is that of the end, not that of its discovery");
  }
  t.like(container(named("restarts")), { restartCount: 1, lastState: { terminated: { exitCode: 3 } } });

  const now = pidsByPod();
  for (const p of before.filter((x) => !ending.includes(x.metadata.name!))) {
    t.is(now.get(p.metadata.uid!), pids.get(p.metadata.uid!), `${p.metadata.name}: the same process`);
    const current = named(p.metadata.name!);
    t.is(container(current).restartCount, 0);
    t.is(container(current).containerID, container(p).containerID);
    t.is(current.status?.podIP, p.status?.podIP);
  }
  t.is(c.conmons().length, after.filter((p) => exitCode(p) === undefined).length, "one conmon for each container, none without");

  for (const i of NODES.keys()) {
    const lines = (await c.ok(["logs", "-n", ns, `counting-${i}`])).trimEnd().split("\n");
    t.deepEqual(lines, lines.map((_, n) => `line ${n + 1}`), `counting-${i}: every line once and in order`);
    const following = c.follow(t, ["logs", "-n", ns, "-f", "--tail=1", `counting-${i}`]);
    await following.until(new RegExp(`^line ${lines.length + 50}$`, "m"));
    following.stop();
    t.is(await c.ok(["logs", "-n", ns, `fails-${i}`]), "done\n");
  }
  t.is(await c.ok(["logs", "-n", ns, "restarts", "-p"]), "instance\ndone\n");
  t.is(await c.ok(["logs", "-n", ns, "restarts"]), "instance\n");
  t.is(await c.ok(["exec", "-n", ns, "counting-0", "--", "echo", "still", "here"]), "still here\n", "exec into a container that another agent started");
});

test.serial("agents killed while they start containers: exactly as many come up as were asked for, and all go", async (t) => {
  t.timeout(180_000);
  const c = cluster();
  const ns = await c.namespace(t, "half-way");
  await c.create(DEPLOYMENTS, ns, deployment("many", 60));
  for (const atLeast of [5, 25]) {
    await c.until(PODS, ns, (pods) => pods.filter(isReady).length >= atLeast);
    await killAgents();
    await c.up();
  }
  await c.until(DEPLOYMENTS, ns, ([d]) => d !== undefined && isRolledOut(d, 60), { timeoutMs: 90_000 });
  const pods = await c.until(PODS, ns, (items) => items.length === 60 && items.every(isReady));
  const uids = new Set(pods.map((p) => p.metadata.uid!));
  const running = c.containers().filter((p) => uids.has(p.podUid));
  t.is(new Set(running.map((p) => p.podUid)).size, 60);
  t.is(running.length, 60, "no pod has a second container");
  t.true(pods.every((p) => running.some((r) => r.podUid === p.metadata.uid && String(container(p).containerID).endsWith(r.containerId))));

  await c.ok(["delete", "deployment", "many", "-n", ns]);
  await c.until(PODS, ns, (items) => items.length === 0);
  await until(() => !c.containers().some((p) => uids.has(p.podUid)), "no container is left");
});

test.serial("an agent killed while a pod is being stopped goes on with stopping it, within its grace", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "stopping");
  const { metadata } = await c.create(PODS, ns, pod("stubborn", { run: "trap 'echo asked' TERM; while :; do sleep 0.1; done", spec: { terminationGracePeriodSeconds: 3, nodeName: "node-1" } }));
  await c.until(PODS, ns, ([p]) => p !== undefined && isReady(p));
  const logs = c.follow(t, ["logs", "-n", ns, "-f", "stubborn"]);
  await c.ok(["delete", "pod", "stubborn", "-n", ns, "--wait=false"]);
  await logs.until(/asked/);
  c.kill("node-1", "SIGKILL");
  await c.gone("node-1");
  await c.up();
  await c.until(PODS, ns, (pods) => pods.length === 0, { timeoutMs: 20_000 });
  t.false(c.containers().some((p) => p.podUid === metadata.uid));
});

test.serial("a conmon that is killed: its container's end is noticed nevertheless, and its pod can be deleted", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "conmon");
  await c.create(PODS, ns, pod("watched", { spec: { nodeName: "node-1" } }));
  const [before] = await c.until(PODS, ns, ([p]) => p !== undefined && isReady(p));
  const conmonOf = (p: Pod): number => c.conmons().find((x) => container(p).containerID!.endsWith(x.containerId))!.pid;
  process.kill(conmonOf(before!), "SIGKILL");
  process.kill(c.containers().find((r) => r.podUid === before!.metadata.uid)!.pid, "SIGKILL");
  const [after] = await c.until(PODS, ns, ([p]) => p !== undefined && isReady(p) && container(p).restartCount === 1);
  t.is(container(after!).lastState?.terminated?.exitCode, 255);

  process.kill(conmonOf(after!), "SIGKILL");
  await c.ok(["delete", "pod", "watched", "-n", ns, "--wait=false"]);
  await c.until(PODS, ns, (pods) => pods.length === 0, { timeoutMs: 60_000 });
  t.false(c.containers().some((r) => r.podUid === before!.metadata.uid));
});
