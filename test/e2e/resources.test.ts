// What pods use, what they may use, and what happens when that is too much: usage as `kubectl top` shows it, limits of storage, eviction,
// resizing in place, and the ways to confine a process. On one cluster.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import test from "ava";
import { NODES, PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { linesOf } from "../../cli/api-client.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { isReady, pod } from "../helpers/workloads.ts";

/** For the daemons; what changes here holds for those that are started later. */
const env: Record<string, string> = { GANTRY_EVICTION_MONITORING_PERIOD: "500ms", GANTRY_EVICTION_PRESSURE_TRANSITION_PERIOD: "2s" };
const cluster = useCluster(test, { nodes: 2, env });

/** Creates a pod and waits for it. */
const started = async (ns: string, object: object): Promise<Pod> => {
  await cluster().create(PODS, ns, object);
  const { name } = (object as { metadata: { name: string } }).metadata;
  return (await cluster().until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === name && isReady(p)))).find((p) => p.metadata.name === name)!;
};

const podNamed = async (ns: string, name: string, isSo: (p: Pod) => boolean): Promise<Pod> =>
  (await cluster().until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === name && isSo(p)))).find((p) => p.metadata.name === name)!;

/** As a user who changes a daemon's settings: it is killed, and `gantry up` starts it again. */
const restartNode = async (node: string): Promise<void> => {
  cluster().kill(node, "SIGKILL");
  await cluster().gone(node);
  await cluster().up();
};

/** A control group file of a pod's container: version 1 by its controller, version 2. */
const cgroupFile = (p: Pod, controller: string, file: string, unified: string): string => {
  const { pid } = cluster().containers().find((c) => c.podUid === p.metadata.uid)!;
  const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n").map((line) => line.split(":"));
  const path = lines.find(([, controllers]) => controllers!.split(",").includes(controller))?.[2];
  return readFileSync(path === undefined ? `/sys/fs/cgroup${lines.find(([id]) => id === "0")![2]!}/${unified}` : `/sys/fs/cgroup/${controller}${path}/${file}`, "utf8").trim();
};

test.serial("a node under memory pressure says so, takes no more best effort pods, and lets pods go: best effort first", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "pressure");
  const there = { nodeSelector: { "kubernetes.io/hostname": "node-2" } };
  await started(ns, pod("modest", { spec: there, container: { resources: { requests: { memory: "64Mi" } } } }));
  await started(ns, pod("greedy", { spec: there }));
  env["GANTRY_EVICTION_HARD"] = "memory.available<1Ti"; // more than this machine has, so that it is met without a byte being used
  try {
    await restartNode("node-2");
    const [greedy, modest] = [await podNamed(ns, "greedy", (p) => p.status?.phase === "Failed"), await podNamed(ns, "modest", (p) => p.status?.phase === "Failed")];
    t.is(greedy.status!.reason, "Evicted");
    t.regex(greedy.status!.message!, /^The node was low on resource: memory\. Threshold quantity: 1Ti, available: \S+\. Container main was using \S+, request is 0, has larger consumption of memory\. $/);
    t.notRegex(modest.status!.message!, /Container main/, "it kept within its request");
    t.like(greedy.status!.conditions!.find((x) => x.type === "DisruptionTarget"), { status: "True", reason: "TerminationByKubelet" });
    const endOf = (p: Pod): string => p.status!.containerStatuses![0]!.state!.terminated!.finishedAt!;
    t.true(endOf(greedy) <= endOf(modest));
    const [node] = await c.until(NODES, undefined, (nodes) => nodes.some((n) => n.metadata.name === "node-2" && n.spec?.taints?.some((x) => x.key === "node.kubernetes.io/memory-pressure")));
    t.truthy(node);
    t.regex(await c.ok(["describe", "node", "node-2"]), /MemoryPressure +True .*AgentHasInsufficientMemory/);
    await until(async () => /Evicted/.test(await c.ok(["get", "events", "-n", ns])), "an event tells of it");
  } finally {
    delete env["GANTRY_EVICTION_HARD"];
    await restartNode("node-2");
  }
  await c.until(NODES, undefined, (nodes) => nodes.every((n) => !n.spec?.taints?.some((x) => x.key.endsWith("-pressure"))));
});

test("storage: a container, or a volume, that takes more than its limit is evicted", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "storage");
  await c.create(PODS, ns, pod("layer", { run: "dd if=/dev/zero of=/big bs=1M count=4; sleep 1000", container: { resources: { limits: { "ephemeral-storage": "2Mi" } } } }));
  await c.create(PODS, ns, pod("volume", { run: "dd if=/dev/zero of=/v/big bs=1M count=4; sleep 1000", container: { volumeMounts: [{ name: "v", mountPath: "/v" }] }, spec: { volumes: [{ name: "v", emptyDir: { sizeLimit: "1Mi" } }] } }));
  const [layer, volume] = [await podNamed(ns, "layer", (p) => p.status?.phase === "Failed"), await podNamed(ns, "volume", (p) => p.status?.phase === "Failed")];
  t.like(layer.status, { reason: "Evicted", message: 'Container main exceeded its local ephemeral storage limit "2Mi". ' });
  t.like(volume.status, { reason: "Evicted", message: 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ' });
});

test("resources change in place: kubectl patch --subresource resize", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "resize");
  const v1 = existsSync("/sys/fs/cgroup/memory");
  const p = await started(ns, pod("elastic", { container: { resources: { requests: { cpu: "100m", memory: "32Mi" }, limits: { cpu: "200m", memory: "64Mi" } }, resizePolicy: [{ resourceName: "memory", restartPolicy: "RestartContainer" }, { resourceName: "cpu", restartPolicy: "NotRequired" }] } }));
  const resize = (resources: object): Promise<string> => c.ok(["patch", "pod", "-n", ns, "elastic", "--subresource", "resize", "-p", JSON.stringify({ spec: { containers: [{ name: "main", resources }] } })], { version: "1.33" });
  t.like(p.status!.containerStatuses![0], { allocatedResources: { cpu: "100m", memory: "32Mi" }, resources: { requests: { cpu: "100m", memory: "32Mi" }, limits: { cpu: "200m", memory: "64Mi" } } });

  await resize({ requests: { cpu: "250m" }, limits: { cpu: "500m" } });
  const grown = await podNamed(ns, "elastic", (x) => x.status?.containerStatuses?.[0]?.resources?.limits?.["cpu"] === "500m");
  t.like(grown.status!.containerStatuses![0], { restartCount: 0, allocatedResources: { cpu: "250m" }, containerID: p.status!.containerStatuses![0]!.containerID });
  t.is(Number(cgroupFile(p, "cpu", "cpu.cfs_quota_us", "cpu.max").split(" ")[0]), 50_000);
  if (v1) t.is(cgroupFile(p, "cpu", "cpu.shares", ""), "256");

  await resize({ requests: { memory: "48Mi" }, limits: { memory: "96Mi" } });
  const restarted = await podNamed(ns, "elastic", (x) => x.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(x));
  t.is(restarted.status!.containerStatuses![0]!.resources!.limits!["memory"], "96Mi");
  t.is(cgroupFile(p, "memory", "memory.limit_in_bytes", "memory.max"), String(96 << 20));

  await resize({ requests: { cpu: "900" }, limits: { cpu: "900" } });
  const refused = await podNamed(ns, "elastic", (x) => x.status?.conditions?.some((k) => k.type === "PodResizePending") === true);
  t.like(refused.status!.conditions!.find((k) => k.type === "PodResizePending"), { status: "True", reason: "Infeasible" });
  t.regex(refused.status!.conditions!.find((k) => k.type === "PodResizePending")!.message!, /Node didn't have enough capacity: cpu, requested: 900000, capacity: \d+/);
  t.is(refused.status!.containerStatuses![0]!.allocatedResources!["cpu"], "250m");
  await resize({ requests: { cpu: "250m" }, limits: { cpu: "500m" } });
  await podNamed(ns, "elastic", (x) => x.status?.conditions?.every((k) => k.type !== "PodResizePending") === true);
  t.regex(await c.fails(["patch", "pod", "-n", ns, "elastic", "--subresource", "resize", "-p", '{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"500m","memory":"96Mi"}}}]}}'], { version: "1.33" }), /Pod QOS Class may not change as a result of resizing/);
  t.regex(await c.fails(["patch", "pod", "-n", ns, "elastic", "-p", '{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"300m"}}}]}}']), /pod updates may not change fields/);
});

test("huge pages: counted on the node, mounted, and no more than a pod asks for", async (t) => {
  const c = cluster();
  const pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  const before = existsSync(pages) ? readFileSync(pages, "utf8") : undefined;
  if (before !== undefined) {
    t.teardown(() => writeFileSync(pages, before)); // those in use go with their pods
    writeFileSync(pages, "8");
  }
  if (before === undefined || readFileSync(pages, "utf8") !== "8\n") {
    t.log("this machine has no huge pages of 2 MiB, or no 8 of them in one piece each");
    t.pass();
    return;
  }
  const ns = await c.namespace(t, "pages");
  const volume = { container: { volumeMounts: [{ name: "hp", mountPath: "/hp" }] }, spec: { volumes: [{ name: "hp", emptyDir: { medium: "HugePages" } }] } };
  const limits = { memory: "64Mi", "hugepages-2Mi": "4Mi" };
  // The volume ends at the pod's limit; the control group counts the pages of other mounts, too.
  const run = "fallocate -l 4M /hp/fits && ! fallocate -l 6M /hp/more && exec sleep 1000000";
  await c.create(PODS, ns, pod("mapper", { run, ...volume, container: { ...volume.container, resources: { limits } } }));
  const node = (await c.until(NODES, undefined, (nodes) => nodes.every((n) => n.status?.capacity?.["hugepages-2Mi"] === "16Mi")))[0]!;
  t.is(node.status!.allocatable!["hugepages-2Mi"], "16Mi");
  const mapper = await podNamed(ns, "mapper", isReady);
  const limit = (p: Pod): string => cgroupFile(p, "hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max");
  t.is(limit(mapper), String(4 << 20));
  t.is(cgroupFile(mapper, "hugetlb", "../hugetlb.2MB.rsvd.limit_in_bytes", "../hugetlb.2MB.rsvd.max"), String(4 << 20), "of the pod, also for what mmap sets aside");
  t.is(limit(await started(ns, pod("plain"))), "0");
  t.regex(await c.ok(["describe", "node", mapper.spec!.nodeName!]), /hugepages-2Mi +4Mi \(25%\) +4Mi \(25%\)/);
  await c.create(PODS, ns, pod("greedy", { run, ...volume, container: { ...volume.container, resources: { limits: { ...limits, "hugepages-2Mi": "18Mi" } } } }));
  const greedy = await podNamed(ns, "greedy", (p) => p.status?.conditions?.some((k) => k.reason === "Unschedulable") === true);
  t.regex(greedy.status!.conditions!.find((k) => k.reason === "Unschedulable")!.message!, /Insufficient hugepages-2Mi/);
});

test("usage: kubectl top, a stream for gantry stats, and cAdvisor's metrics", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "usage");
  const busy = await started(ns, pod("busy", {
    container: { command: ["/bin/sh", "-c", "while :; do :; done"], resources: { limits: { cpu: "200m", memory: "64Mi" } } },
  }));
  await started(ns, pod("idle"));

  const parsed = (line: string): { readonly cpu: number; readonly memory: number } => {
    const [, cpu, memory] = /(\d+)m +(\d+)Mi/.exec(line) ?? [];
    return { cpu: Number(cpu), memory: Number(memory) };
  };
  await until(async () => parsed((await c.ok(["top", "pods", "-n", ns, "--no-headers", "busy"]))).cpu > 100, "the busy pod shows in kubectl top");
  const top = await c.ok(["top", "pods", "-n", ns, "--containers", "--no-headers"]);
  t.regex(top, /^busy +main +(1[0-9]{2}|2[0-4][0-9])m +\d+Mi/m);
  t.regex(top, /^idle +main +\d{1,2}m +\d+Mi/m);
  t.regex(await c.ok(["top", "nodes"]), /node-1 +\d+m +\d+% +\d+Mi +\d+%/);
  t.regex(await c.ok(["top", "pods", "-A", "-l", "app=busy"]), /busy/);
  t.regex(await c.fails(["top", "pods", "-n", ns, "nobody"]), /podmetrics?|nobody/i);

  const path = `/apis/gantry.io/v1/namespaces/${ns}/pods/busy/stats`;
  const samples: Record<string, number>[] = [];
  for await (const line of linesOf(await c.client.send("GET", `${path}?follow=true&period=0.2`))) {
    samples.push(JSON.parse(line) as Record<string, number>);
    if (samples.length === 3) break;
  }
  const [first, , third] = samples;
  t.true(third!["cpuNanos"]! > first!["cpuNanos"]!);
  t.is(third!["memoryLimitBytes"], 64 << 20);
  t.true(third!["memoryBytes"]! > 0 && third!["memoryBytes"]! < 64 << 20);
  t.true(third!["pids"]! >= 1);
  for (const field of ["networkRx", "networkTx", "blockRead", "blockWrite"]) t.is(typeof third![field], "number", field);
  t.regex((await t.throwsAsync(c.client.send("GET", `${path}?follow=true&period=0`))).message, /period: "0" must be a number of seconds/);
  t.regex((await t.throwsAsync(c.client.send("GET", path.replace("busy", "nobody")))).message, /not found/);

  const host = c.state.hosts.find((h) => h.name === busy.spec!.nodeName)!;
  const metrics = await (await fetch(`http://${host.address}:6445/metrics/cadvisor`)).text();
  t.regex(metrics, new RegExp(`^container_cpu_usage_seconds_total\\{namespace="${ns}",pod="busy",container="main",image="[^"]+"\\} [0-9.]+$`, "m"));
  t.regex(metrics, new RegExp(`^container_network_receive_bytes_total\\{namespace="${ns}",pod="busy"\\} \\d+$`, "m"));
});
