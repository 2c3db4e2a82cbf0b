// Proof that the check at the end of every cluster test can fail: each kind of thing that a cluster could leave is found.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, rmdirSync, writeFileSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { Pod } from "../../base/kube/types.gen.ts";
import { layoutOf } from "../../cli/cluster/layout.ts";
import { mountTmpfs, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { hostLinkName } from "../../node-agent/network/linux-pod-network.ts";
import { ensureVirtualHosts, removeVirtualHosts } from "../../node-agent/network/virtual-hosts.ts";
import { Cluster } from "../helpers/cluster.ts";
import { leftovers } from "../helpers/leftovers.ts";
import { networkDifferences, type NodeRecords } from "../helpers/network-truth.ts";

const aLayout = (t: { teardown: (fn: () => void) => void }) => {
  const layout = layoutOf(mkdtempSync(join(tmpdir(), "gantry-left-")));
  t.teardown(() => {
    for (const path of [layout.root, layout.socketDir]) {
      if (existsSync(path)) unmountAllBelow(path);
      rmSync(path, { recursive: true, force: true });
    }
  });
  return layout;
};

test("the check for what a cluster left finds files, mounts, namespaces, links, rules, control groups and processes", async (t) => {
  const layout = aLayout(t);
  t.deepEqual(leftovers(layout, { data: false }), []);
  t.deepEqual(leftovers(layout), [`files ${layout.root}`]);

  mkdirSync(layout.socketDir, { recursive: true });
  t.deepEqual(leftovers(layout, { data: false }), [`files ${layout.socketDir}`]);
  mkdirSync(layout.runDir);
  mountTmpfs(layout.runDir, { mode: 0o700 });
  const files = [`files ${layout.socketDir}`, `files ${layout.runDir}`];
  t.deepEqual(leftovers(layout, { data: false }), [`mount ${layout.runDir}`, ...files]);
  unmountAllBelow(layout.runDir);

  const hosts = { name: layout.bridge, count: 1, cidr: "198.18.253.0/24", directory: layout.hostsDir };
  t.teardown(() => removeVirtualHosts(hosts));
  await ensureVirtualHosts(hosts);
  t.deepEqual(leftovers(layout, { data: false }), [
    `mount ${layout.hostsDir}/host-1`, `link ${layout.bridge}`, `link ${layout.bridge}-1`, `nftables: table inet gantry-${layout.bridge}`, ...files,
  ].sort((a, b) => ["mount", "link", "nftab", "files"].indexOf(a.slice(0, 5).trim()) - ["mount", "link", "nftab", "files"].indexOf(b.slice(0, 5).trim())));
  await removeVirtualHosts(hosts);

  const pids = existsSync("/sys/fs/cgroup/pids") ? "/sys/fs/cgroup/pids" : "/sys/fs/cgroup";
  const cgroup = join(pids, `gantry-${layout.id}`);
  mkdirSync(join(cgroup, "pod"), { recursive: true });
  t.teardown(() => {
    for (const path of [join(cgroup, "pod"), cgroup]) if (existsSync(path)) rmdirSync(path);
  });
  t.deepEqual(leftovers(layout, { data: false }), [`cgroup ${cgroup}`, ...files]);
  // A process that gives its origin away by its control group only, as a container's does, and one that does by its arguments.
  const [inCgroup, named] = [spawn("sleep", ["1000"]), spawn("sh", ["-c", "read line", layout.root])];
  const end = (): void => [inCgroup, named].forEach((child) => child.kill("SIGKILL"));
  t.teardown(end);
  writeFileSync(join(cgroup, "pod/cgroup.procs"), String(inCgroup.pid));
  t.deepEqual(leftovers(layout, { data: false }), [`process ${inCgroup.pid}: sleep 1000`, `process ${named.pid}: sh -c read line ${layout.root}`, `cgroup ${cgroup}`, ...files].sort((a, b) => (a.startsWith("process") && b.startsWith("process") ? a.localeCompare(b, "en", { numeric: true }) : 0)));
  const ended = Promise.all([inCgroup, named].map((child) => new Promise((resolve) => child.once("exit", resolve))));
  end();
  await ended;
});

test("the comparison of a node's network and records with the API finds each kind of thing that one of them lacks", (t) => {
  const [link, other] = [hostLinkName("uid-a"), hostLinkName("uid-b")];
  const pod = (phase: string): Pod => ({
    apiVersion: "v1", kind: "Pod", metadata: { name: "a", namespace: "default", uid: "uid-a" }, status: { phase, podIP: "10.0.0.2" },
    spec: { nodeName: "node-1", containers: [{ name: "c", image: "i", ports: [{ containerPort: 80, hostPort: 8080 }, { containerPort: 81, hostPort: 8081, hostIP: "198.18.0.2", protocol: "UDP" }] }] },
  });
  const all: NodeRecords = { links: [link], addresses: new Map([["uid-a", "10.0.0.2"]]), assignments: ["uid-a"], records: ["uid-a"], hostPorts: ["tcp 8080 -> 10.0.0.2 80", "198.18.0.2 udp 8081 -> 10.0.0.2 81"] };
  const nothing: NodeRecords = { links: [], addresses: new Map(), assignments: [], records: [], hostPorts: [] };
  const running = [{ pod: pod("Running"), hasProcess: true }];
  t.deepEqual(networkDifferences("node-1", all, running), []);
  t.deepEqual(networkDifferences("node-1", nothing, [{ pod: pod("Pending"), hasProcess: false }]), []);
  t.is(networkDifferences("node-1", nothing, running).length, 5, "link, address, assignment, two ports");
  t.is(networkDifferences("node-1", all, []).length, 6, "link, address, assignment, record, two ports");
  t.is(networkDifferences("node-1", all, [{ pod: pod("Succeeded"), hasProcess: false }]).length, 4, "what has ended is remembered, but holds no link, address or port");
  t.deepEqual(networkDifferences("node-1", { ...all, links: [link, other] }, running), [`link ${other} on node-1: no pod has it`]);
  t.deepEqual(networkDifferences("node-1", { ...all, addresses: new Map([["uid-a", "10.0.0.3"]]) }, running), ["a on node-1 has the address 10.0.0.2, but 10.0.0.3 is kept for it"]);
});

test("a cluster is taken down also when its control plane was killed and its etcd is nobody's", async (t) => {
  const cluster = await Cluster.start({ nodes: 0 });
  t.teardown(() => cluster.down().then(() => undefined));
  const etcd = cluster.pid("etcd");
  cluster.kill("control-plane", "SIGKILL");
  await cluster.gone("control-plane");
  t.is(cluster.pid("etcd"), etcd, "etcd outlives its control plane");
  t.true(leftovers(cluster.layout).some((line) => line.startsWith(`process ${etcd}: etcd`)));
  t.deepEqual(await cluster.down(), []);
});
