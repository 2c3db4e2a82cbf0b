// What pods use, what they may use, and what happens when that is too much: usage as `kubectl top` shows it, limits of storage, eviction,
// resizing in place, and the ways to confine a process. On one cluster.
import test from "ava";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { linesOf } from "../../cli/api-client.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { isReady, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test, { nodes: 2 });

/** Creates a pod and waits for it. */
const started = async (ns: string, object: object): Promise<Pod> => {
  await cluster().create(PODS, ns, object);
  const { name } = (object as { metadata: { name: string } }).metadata;
  return (await cluster().until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === name && isReady(p)))).find((p) => p.metadata.name === name)!;
};

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
