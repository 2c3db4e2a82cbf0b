// The pod network for real: hosts as network namespaces, pods as pinned ones, and packets between them.
import test from "ava";
import type { ExecutionContext } from "ava";
import { createServer } from "node:http";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { inNetworkNamespace, isPinned, pinNamespaces, unpin } from "../../node-agent/linux/namespaces.ts";
import { NetlinkSocket } from "../../node-agent/linux/netlink.ts";
import { MemoryAddressStore } from "../../node-agent/network/address-store.ts";
import { GANTRY_ROUTE_PROTOCOL, LinuxPodNetwork, hostLinkName } from "../../node-agent/network/linux-pod-network.ts";
import { readAddresses, readLinks, readRoutes } from "../../node-agent/network/rtnetlink.ts";
import type { VirtualHost } from "../../node-agent/network/virtual-hosts.ts";
import type { ClusterNetwork } from "../../proto/gen/gantry/v1/agent.ts";
import { createTestHosts, eventually, runIn, startIn, temporaryDirectory } from "../helpers/hosts.ts";
import type { TestHosts } from "../helpers/hosts.ts";

const CLUSTER_CIDR = "10.99.0.0/16";
const podCidrOf = (number: number): string => `10.99.${number}.0/24`;
const BRIDGE = "gantry0";

const networkOf = (host: VirtualHost, hosts: readonly VirtualHost[]): ClusterNetwork => ({
  clusterCidr: CLUSTER_CIDR, podCidr: podCidrOf(host.number), dnsServers: [], clusterDomain: "cluster.local",
  routes: hosts.map((other) => ({ nodeName: `node-${other.number}`, podCidr: podCidrOf(other.number), via: other.address, peerPort: 0 })),
});

interface Node {
  readonly host: VirtualHost;
  readonly network: LinuxPodNetwork;
  readonly addresses: MemoryAddressStore;
}

const nodeOn = (t: ExecutionContext, host: VirtualHost, addresses = new MemoryAddressStore()): Node => {
  const { netnsPath, address: nodeAddress } = host;
  const network = new LinuxPodNetwork({ bridgeName: BRIDGE, addresses, nodeAddress, netnsPath, clock: new SystemClock(), logger: silentLogger, metrics: new Metrics() });
  t.teardown(() => network.close());
  return { host, network, addresses };
};

const podOn = (t: ExecutionContext, { directory }: Pick<TestHosts, "directory">, uid: string): string => {
  const path = join(directory, `pod-${uid}`);
  pinNamespaces({ net: path });
  t.teardown(() => unpin(path));
  return path;
};

const at = <T>(path: string, read: (socket: NetlinkSocket) => T): T =>
  inNetworkNamespace(path, () => {
    using socket = new NetlinkSocket();
    return read(socket);
  });

const serve = async (t: ExecutionContext, netns: string, text: string): Promise<void> => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, "www"));
  writeFileSync(join(directory, "www", "index.html"), text);
  startIn(t, netns, ["busybox", "httpd", "-f", "-p", "8080", "-h", join(directory, "www")]);
  t.true(await eventually(async () => (await runIn(netns, ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"])).code === 0));
};

const fetchFrom = (netns: string, url: string): ReturnType<typeof runIn> => runIn(netns, ["busybox", "wget", "-q", "-O", "-", url], 3000); // -T crashes busybox 1.35

test.serial("pods on three hosts reach each other by address, on the same and on other hosts, and the outside", async (t) => {
  const all = await createTestHosts(t, 3);
  const nodes = all.hosts.map((host) => nodeOn(t, host));
  for (const { host, network } of nodes) await network.configure(networkOf(host, all.hosts));
  t.deepEqual(nodes.flatMap(({ network }) => network.problems), []);

  const pods = await Promise.all(nodes.flatMap((node) => ["a", "b"].map(async (name) => {
    const uid = `${name}${node.host.number}`;
    const netns = podOn(t, all, uid);
    return { uid, node, netns, ...(await node.network.attach(uid, netns)) };
  })));
  t.deepEqual(pods.map((pod) => pod.ip), [1, 2, 3].flatMap((n) => [`10.99.${n}.2`, `10.99.${n}.3`]));
  t.true(pods.every((pod) => pod.prefixLength === 24 && pod.gateway === `10.99.${pod.node.host.number}.1`));

  for (const { netns } of pods) t.notRegex((await runIn(netns, ["cat", "/proc/net/if_inet6"])).stdout, /^fe80/m, "no link-local address");

  for (const pod of pods) await serve(t, pod.netns, pod.uid);
  for (const from of pods) {
    for (const to of pods) {
      const result = await fetchFrom(from.netns, `http://${to.ip}:8080/`);
      t.is(result.stdout, to.uid, `${from.uid} -> ${to.uid}: ${result.code} ${result.stderr}`);
    }
  }

  const seen: string[] = [];
  const outside = createServer((request, response) => {
    seen.push(request.socket.remoteAddress ?? "");
    response.end("outside");
  }).listen(0, all.gateway);
  t.teardown(() => outside.close());
  await once(outside, "listening");
  const { port } = outside.address() as AddressInfo;
  const { stdout } = await fetchFrom(pods[0]!.netns, `http://${all.gateway}:${port}/`);
  t.is(stdout, "outside");
  t.deepEqual(seen, [all.hosts[0]!.address], "the outside sees the node, not the pod");

  // The node itself reaches its pods and others': that is how probes and port-forward will.
  t.is((await fetchFrom(all.hosts[0]!.netnsPath, `http://${pods[2]!.ip}:8080/`)).stdout, pods[2]!.uid);

  all.cut(all.hosts[1]!);
  t.not((await fetchFrom(pods[0]!.netns, `http://${pods[2]!.ip}:8080/`)).code, 0);
  all.restore(all.hosts[1]!);
  t.is((await fetchFrom(pods[0]!.netns, `http://${pods[2]!.ip}:8080/`)).stdout, pods[2]!.uid);
});

test.serial("attach can be repeated, also by a restarted agent, and detach leaves neither link nor address", async (t) => {
  const all = await createTestHosts(t, 1);
  const [host] = all.hosts as [VirtualHost];
  const addresses = new MemoryAddressStore();
  const first = nodeOn(t, host, addresses);
  await first.network.configure(networkOf(host, all.hosts));
  const netns = podOn(t, all, "pod");
  const made = await first.network.attach("pod", netns);
  t.deepEqual(await first.network.attach("pod", netns), made);
  const before = at(host.netnsPath, readLinks).find((link) => link.name === hostLinkName("pod"));

  const second = nodeOn(t, host, addresses);
  await second.network.configure(networkOf(host, all.hosts));
  t.deepEqual(await second.network.attach("pod", netns), made);
  t.is(at(host.netnsPath, readLinks).find((link) => link.name === hostLinkName("pod"))?.index, before?.index, "the link that works was not touched");

  // Half of it is gone: the address inside was lost.
  inNetworkNamespace(netns, () => undefined);
  t.is((await runIn(netns, ["ip", "addr", "flush", "dev", "eth0"])).code, 0);
  t.deepEqual(await second.network.attach("pod", netns), made);
  t.true(at(netns, readAddresses).some((address) => address.ip === made.ip));

  second.network.detach("pod");
  second.network.detach("pod");
  t.deepEqual([...addresses.load()], []);
  t.true(await eventually(() => !at(host.netnsPath, readLinks).some((link) => link.kind === "veth" && link.name === hostLinkName("pod"))));
  const again = await second.network.attach("pod", netns);
  t.not(again.ip, made.ip, "an address is not reused while others are free");
});

test.serial("reconcile drops the addresses and links of pods that are gone and keeps the others", async (t) => {
  const all = await createTestHosts(t, 1);
  const [host] = all.hosts as [VirtualHost];
  const addresses = new MemoryAddressStore();
  const before = nodeOn(t, host, addresses);
  await before.network.configure(networkOf(host, all.hosts));
  for (const uid of ["keep", "gone", "unknown"]) await before.network.attach(uid, podOn(t, all, uid));
  addresses.delete("unknown"); // a crash between the link and the note of it

  const after = nodeOn(t, host, addresses);
  await after.network.configure(networkOf(host, all.hosts));
  after.network.reconcile(new Set(["keep"]));
  t.deepEqual([...addresses.load().keys()], ["keep"]);
  const names = at(host.netnsPath, readLinks).filter((link) => link.name.startsWith("gp")).map((link) => link.name);
  t.deepEqual(names, [hostLinkName("keep")]);
});

test.serial("a full range says so, and an address that is given back can be had at once", async (t) => {
  const all = await createTestHosts(t, 1);
  const [host] = all.hosts as [VirtualHost];
  const { network } = nodeOn(t, host);
  await t.throwsAsync(network.attach("early", "/proc/self/ns/net"), { code: "FailedPrecondition", message: /no pod CIDR yet/ });
  await network.configure({ ...networkOf(host, []), podCidr: "10.99.7.0/29" });
  const uids = ["1", "2", "3", "4", "5"];
  for (const uid of uids) await network.attach(uid, podOn(t, all, uid));
  await t.throwsAsync(network.attach("6", podOn(t, all, "6")), { code: "TooManyRequests", message: /all 5 addresses of the node's pod range 10\.99\.7\.0\/29 are taken/ });
  network.detach("3");
  t.is((await network.attach("6", join(all.directory, "pod-6"))).ip, "10.99.7.4");
});

test.serial("routes follow the cluster's members: new, moved, gone; others' routes stay; an unreachable node is named", async (t) => {
  const all = await createTestHosts(t, 2);
  const [host, other] = all.hosts as [VirtualHost, VirtualHost];
  const { network } = nodeOn(t, host);
  t.is((await runIn(host.netnsPath, ["ip", "route", "add", "10.50.0.0/24", "via", other.address])).code, 0);
  const configure = (routes: ClusterNetwork["routes"]): Promise<void> => network.configure({ ...networkOf(host, []), routes });
  const ours = (): readonly string[] => at(host.netnsPath, readRoutes).filter((route) => route.protocol === GANTRY_ROUTE_PROTOCOL)
    .map((route) => `${route.destination?.ip}/${route.destination?.prefixLength} via ${route.gateway}`).sort();

  await configure([{ nodeName: "b", podCidr: "10.99.2.0/24", via: other.address, peerPort: 0 }, { nodeName: "c", podCidr: "10.99.3.0/24", via: all.gateway, peerPort: 0 }]);
  t.deepEqual(ours(), [`10.99.2.0/24 via ${other.address}`, `10.99.3.0/24 via ${all.gateway}`]);
  await configure([{ nodeName: "b", podCidr: "10.99.2.0/24", via: all.gateway, peerPort: 0 }, { nodeName: "far", podCidr: "10.99.9.0/24", via: "203.0.113.9", peerPort: 0 }]);
  t.deepEqual(ours(), [`10.99.2.0/24 via ${all.gateway}`]);
  t.is(network.problems.length, 1);
  t.regex(network.problems[0]!, /no route to the pods of node far \(10\.99\.9\.0\/24\): its address 203\.0\.113\.9 is not on a network of this node/);
  t.true(at(host.netnsPath, readRoutes).some((route) => route.destination?.ip === "10.50.0.0"));

  await network.destroy();
  t.deepEqual(ours(), []);
  t.true(at(host.netnsPath, readRoutes).some((route) => route.destination?.ip === "10.50.0.0"));
});

test.serial("destroy leaves no bridge, link, rule or address, also from a fresh process that knows nothing", async (t) => {
  const all = await createTestHosts(t, 1);
  const [host] = all.hosts as [VirtualHost];
  const { network } = nodeOn(t, host);
  const linksBefore = at(host.netnsPath, readLinks).map((link) => link.name).sort();
  await network.configure(networkOf(host, all.hosts));
  await network.attach("pod", podOn(t, all, "pod"));
  t.regex((await runIn(host.netnsPath, ["nft", "list", "ruleset"])).stdout, /table inet gantry-gantry0/);

  await nodeOn(t, host).network.destroy();
  t.is((await runIn(host.netnsPath, ["nft", "list", "ruleset"])).stdout, "");
  t.deepEqual(at(host.netnsPath, readLinks).map((link) => link.name).sort(), linksBefore);
  t.deepEqual(at(host.netnsPath, readAddresses).map((a) => a.ip).sort(), ["127.0.0.1", host.address].sort());
});

test.serial("links of pods whose namespaces live on are deleted after a moment, and their addresses free again; nobody waits", async (t) => {
  const all = await createTestHosts(t, 1);
  const [host] = all.hosts as [VirtualHost];
  const { network } = nodeOn(t, host);
  await network.configure(networkOf(host, all.hosts));
  const uids = Array.from({ length: 130 }, (_, i) => `pod-${i}`);
  for (const uid of uids) await network.attach(uid, podOn(t, all, uid));
  const kept = await network.attach("kept", podOn(t, all, "kept"));
  for (const uid of uids) network.detach(uid);
  // While they are on their way out their addresses are nobody's, and one that returns gets a link of its own.
  const again = await network.attach("pod-7", podOn(t, all, "pod-7"));
  t.true(await eventually(() => at(host.netnsPath, readLinks).filter((link) => link.name.startsWith("gp")).length === 2));
  t.deepEqual(await network.attach("kept", join(all.directory, "pod-kept")), kept);
  t.deepEqual(await network.attach("pod-7", join(all.directory, "pod-pod-7")), again);
});

test.serial("100 pods are linked without a trace in the agent's own namespace", async (t) => {
  const all = await createTestHosts(t, 1);
  const [host] = all.hosts as [VirtualHost];
  const { network } = nodeOn(t, host);
  await network.configure(networkOf(host, all.hosts));
  const uids = Array.from({ length: 100 }, (_, i) => `pod-${i}`);
  const paths = uids.map((uid) => podOn(t, all, uid));
  await Promise.all(uids.map((uid, i) => network.attach(uid, paths[i]!)));
  // By name: what other tests have here comes and goes.
  const names = new Set(uids.map(hostLinkName));
  t.is(at(host.netnsPath, readLinks).filter((link) => names.has(link.name)).length, 100);
  t.deepEqual(readFileSync("/proc/thread-self/net/dev", "utf8").split("\n").map((line) => line.split(":")[0]!.trim()).filter((name) => names.has(name)), []);
  for (const uid of uids) network.detach(uid);
  for (const path of paths) await unpin(path);
  t.false(paths.some(isPinned));
  t.true(await eventually(() => !at(host.netnsPath, readLinks).some((link) => link.name.startsWith("gp"))));
});
