// The gantry command as a user without kubectl meets it: a cluster up, looked at, worked with, and down; and what a second up and a
// down without --purge leave and find again.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "ava";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import { Cluster, GANTRY, until, useCluster } from "../helpers/cluster.ts";
import { leftovers } from "../helpers/leftovers.ts";
import { container, deployment, isReady, isRolledOut, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test, { nodes: 2 });
const EXAMPLES = resolve(import.meta.dirname, "../../deploy/examples");

const ok = async (args: string | readonly string[], input?: string): Promise<string> => {
  const ran = await cluster().gantry(args, input === undefined ? {} : { input });
  if (ran.code !== 0) throw new Error(`gantry ${String(args)} ended with ${ran.code}: ${ran.err}`);
  return ran.out;
};

test.serial("apply, get in every form, describe, scale, why, logs, exec, delete", async (t) => {
  const c = cluster();
  t.regex(await ok(["apply", "-f", join(EXAMPLES, "web.yaml")]), /configmap\/web-pages created[\s\S]*deployment\.apps\/web created/);
  await c.until(DEPLOYMENTS, "default", ([d]) => d !== undefined && isRolledOut(d, 3));
  t.regex(await ok(["apply", "-f", join(EXAMPLES, "web.yaml")]), /configmap\/web-pages unchanged[\s\S]*deployment\.apps\/web unchanged/);
  t.regex(await ok("get pods -o wide"), /NAME +READY +STATUS +RESTARTS +AGE +IP +NODE[\s\S]*web-\S+ +1\/1 +Running +0 .* node-[12]/);
  t.is((JSON.parse(await ok("get pods -o json")) as { items: unknown[] }).items.length, 3);
  t.regex(await ok("get deploy web -o yaml"), /kind: Deployment[\s\S]*readyReplicas: 3/);
  t.regex(await ok("get pods -l app=web -o name"), /^(pod\/web-\S+\n){3}$/);
  t.is(await ok("get pods -l app=none -o name"), "");
  t.regex(await ok("get deploy,rs,nodes"), /deployment[\s\S]*replicaset[\s\S]*node-2/);
  t.regex(await ok("get pods -A"), /NAMESPACE +NAME[\s\S]*default +web-/);
  t.regex(await ok("describe deployment web"), /web[\s\S]*ScalingReplicaSet/);
  const [first] = (await c.client.list(PODS, "default")).items;
  const name = first!.metadata.name!;
  t.regex(await ok(["describe", "pod", name]), new RegExp(`${name}[\\s\\S]*Running[\\s\\S]*Scheduled`));
  t.regex(await ok(["why", "pod", name]), new RegExp(first!.spec!.nodeName!));
  t.like(JSON.parse(await ok(["why", "pod", name, "-o", "json"])), { nodeName: first!.spec!.nodeName! });

  t.regex(await ok(["exec", name, "--", "wget", "-qO-", "http://127.0.0.1:8080/"]), /Hello from Gantry/);
  t.is(await ok(["exec", "-i", name, "--", "cat"], "to and fro\n"), "to and fro\n");
  t.is((await c.gantry(["exec", name, "--", "sh", "-c", "exit 9"])).code, 9);
  await until(async () => /response:200/.test(await ok(["logs", name])), "the log tells of the request");
  t.is((await ok(["logs", name, "--tail", "1"])).trim().split("\n").length, 1);
  t.regex(await ok("scale deployment web --replicas 1"), /scaled/);
  await c.until(PODS, "default", (pods) => pods.length === 1);
  t.regex(await ok(["delete", "-f", join(EXAMPLES, "web.yaml")]), /deployment\.apps "web" deleted/);
  await c.until(PODS, "default", (pods) => pods.length === 0);
  t.regex((await c.gantry("get pod nope")).err, /pods "nope" not found/);
});

test.serial("load puts an image on every node; status tells what runs and what it costs", async (t) => {
  const c = cluster();
  t.regex(await ok(["load", join(c.layout.dataDir, "example-image.tar")]), /loaded gantry\.local\/example:latest on 2 nodes/);
  const status = await c.gantry(["status", "--state-dir", c.layout.root, "-o", "json"]);
  t.is(status.code, 0);
  const report = JSON.parse(status.out) as { running: boolean; daemons: { name: string; running: boolean; pssBytes: number }[]; nodes: { name: string; ready: boolean }[] };
  t.true(report.running);
  t.deepEqual(report.daemons.map((d) => d.name).sort(), ["control-plane", "etcd", "node-1", "node-2"]);
  t.true(report.daemons.every((d) => d.running && d.pssBytes > 2 ** 20));
  t.deepEqual(report.nodes.map((n) => n.ready), [true, true]);
  t.regex((await c.gantry(["status", "--state-dir", c.layout.root])).out, /control-plane +pid \d+ +\d+ MiB[\s\S]*node-1 +Ready/);
});

test.serial("up again is harmless: the same daemons, the same containers", async (t) => {
  const c = cluster();
  await c.create(DEPLOYMENTS, "default", deployment("stay", 4));
  await c.until(PODS, "default", (pods) => pods.length === 4 && pods.every(isReady));
  const before = [c.state.processes, c.containers().map((r) => r.pid).sort()];
  const again = await c.gantry(["up", "--no-example", "--nodes", "2", "--state-dir", c.layout.root]);
  t.is(again.code, 0, again.err);
  t.regex(again.err + again.out, /already run/);
  t.deepEqual([c.state.processes, c.containers().map((r) => r.pid).sort()], before);
  await c.ok("delete deployment stay");
  await c.until(PODS, "default", (pods) => pods.length === 0);
});

test.serial("everything killed at once: after up the containers are the same processes", async (t) => {
  t.timeout(180_000);
  const c = cluster();
  await c.create(DEPLOYMENTS, "default", deployment("survive", 10));
  const before = await c.until(PODS, "default", (pods) => pods.length === 10 && pods.every(isReady));
  const pids = new Map(c.containers().map((r) => [r.podUid, r.pid]));
  for (const name of ["control-plane", "etcd", "node-1", "node-2"]) c.kill(name, "SIGKILL");
  await Promise.all(["control-plane", "etcd", "node-1", "node-2"].map((name) => c.gone(name)));
  await c.up();
  await c.ok(["scale", "deployment", "survive", "--replicas=12"]);
  const after = await c.until(PODS, "default", (pods) => pods.length === 12 && pods.every(isReady));
  for (const p of before) {
    const same = after.find((x) => x.metadata.uid === p.metadata.uid);
    t.is(container(same!).restartCount, 0);
    t.is(c.containers().find((r) => r.podUid === p.metadata.uid)?.pid, pids.get(p.metadata.uid!));
  }
  await c.ok("delete deployment survive");
  await c.until(PODS, "default", (pods) => pods.length === 0);
});

test.serial("down without --purge leaves the data and nothing else; up brings back what ran", async (t) => {
  t.timeout(180_000);
  const c = cluster();
  await c.create(DEPLOYMENTS, "default", deployment("back", 5));
  await c.create(PODS, "default", pod("done", { run: "echo said before; exit 4", spec: { restartPolicy: "Never" } }));
  await c.until(PODS, "default", (pods) => pods.length === 6 && pods.every((p) => isReady(p) || p.status?.phase === "Failed"));
  const down = await c.gantry(["down", "--state-dir", c.layout.root]);
  t.is(down.code, 0, down.err);
  t.deepEqual(leftovers(c.layout, { data: false }), []);
  t.true(existsSync(c.layout.dataDir));
  await c.up();
  const pods = await c.until(PODS, "default", (items) => items.filter(isReady).length === 5 && c.containers().length === 5, { timeoutMs: 90_000 });
  t.is(pods.length, 6);
  t.is(pods.find((p) => p.metadata.name === "done")?.status?.phase, "Failed", "what had ended is not run again");
  t.is(await c.ok("logs done"), "said before\n");
  t.is(c.conmons().length, 5);
});

test("a cluster that is in the middle of coming up can be taken down", async (t) => {
  t.timeout(120_000);
  const root = mkdtempSync(join(tmpdir(), "gantry-e2e-"));
  const halfway = await Cluster.halfway(root, async (args) => {
    const child = spawn(GANTRY, args, { stdio: "ignore" });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    // The control plane runs, the nodes are about to.
    await until(() => existsSync(join(root, "admin.kubeconfig")), "the control plane is up");
    child.kill("SIGKILL");
    await ended;
  });
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  t.not(leftovers(halfway.layout).length, 0);
  t.deepEqual(await halfway.down(), []);
});

test("an address that is taken is named", async (t) => {
  const c = cluster();
  const root = mkdtempSync(join(tmpdir(), "gantry-e2e-"));
  t.teardown(async () => {
    await c.gantry(["down", "--purge", "--state-dir", root]);
    rmSync(root, { recursive: true, force: true });
  });
  writeFileSync(join(root, "unrelated"), "");
  const ran = await c.gantry(["up", "--no-example", "--nodes", "1", "--state-dir", root, "--api-port", String(c.state.apiPort), "--agent-port", String(c.state.agentPort)]);
  t.is(ran.code, 1);
  t.regex(ran.err, new RegExp(`(${c.state.apiPort}|${c.state.agentPort}).*another process uses this port|EADDRINUSE`));
});
