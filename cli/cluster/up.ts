// `gantry up`: etcd, a control plane and node agents on this machine, each agent a host to the others, and the example running on them.
// Every step is harmless when its result is already there: that is what makes a second `up`, and one after a reboot, work.
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseAllDocuments } from "yaml";
import { GantryError, describeError } from "../../base/errors.ts";
import { isNodeReady } from "../../base/kube/node-taints.ts";
import { isReady } from "../../base/kube/pod-state.ts";
import { LEASES, NODES, PODS, resourceOfKind, type KubeObject } from "../../base/kube/resources.ts";
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import { ApiClient, loadKubeconfig } from "../api-client.ts";
import { applyObject } from "../apply.ts";
import { buildExampleImage } from "../example-image.ts";
import { createJoinToken } from "../join-token.ts";
import { loadImage } from "../load-image.ts";
import { Progress, seconds } from "../progress.ts";
import { layoutOf, readState, writeState, type ClusterState, type Layout } from "./layout.ts";
import { memoryOf } from "./memory.ts";
import { findMissing } from "./prerequisites.ts";
import { ensureVirtualHosts } from "../../node-agent/network/virtual-hosts.ts";
import { chooseSubnet } from "./subnet.ts";
import { isRunning, startDaemon, tail } from "./processes.ts";

export interface UpOptions {
  readonly root: string;
  readonly nodes: number;
  readonly replicas: number;
  readonly example: boolean;
  readonly apiPort: number;
  readonly agentPort: number;
}

/** Longest a step may take before it counts as failed. */
const READY_TIMEOUT_MS = 60_000;
const EXAMPLE_TIMEOUT_MS = 300_000;
const IP_FORWARD = "/proc/sys/net/ipv4/ip_forward";
const EXAMPLE_IMAGE = "gantry.local/example:latest";
const projectRoot = (): string => {
  // cli/cluster/up.ts in a checkout, dist/cli/cluster/up.js when compiled.
  const above = join(import.meta.dirname, "../..");
  return existsSync(join(above, "package.json")) ? above : join(above, "..");
};

export const up = async (options: UpOptions): Promise<void> => {
  const progress = new Progress();
  try {
    await bringUp(options, progress);
  } catch (error) {
    progress.clear();
    throw error;
  }
};

const bringUp = async (options: UpOptions, progress: Progress): Promise<void> => {
  if (process.getuid?.() !== 0) throw new GantryError("FailedPrecondition", "gantry up needs root: it makes namespaces, mounts and cgroups");
  const missing = findMissing();
  if (missing) throw new GantryError("FailedPrecondition", missing.message);
  const layout = layoutOf(options.root);
  for (const dir of [layout.root, layout.runDir, layout.dataDir, layout.logDir]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  // On the way to the roots of containers, which those with users of their own go as nobody.
  mkdirSync(layout.socketDir, { recursive: true, mode: 0o711 });
  // Users other than root may read their kubeconfig if it is given to them, but not list what lies beside it.
  chmodSync(layout.root, 0o711);

  const before = readState(layout);
  const running = (before?.processes ?? []).filter(isRunning);
  const subnet = before?.subnet ?? chooseSubnet(layout.id);
  const count = Math.max(options.nodes, before?.hosts.length ?? 0);
  let state: ClusterState = {
    id: layout.id, subnet, hostCount: count, gateway: before?.gateway ?? "", apiPort: before?.apiPort ?? options.apiPort, agentPort: before?.agentPort ?? options.agentPort,
    processes: running, hosts: before?.hosts ?? [], previous: before?.previous ?? { ipForward: readFileSync(IP_FORWARD, "utf8").trim() },
  };
  writeState(layout, state);

  progress.update("network: a bridge and a network namespace for each node");
  const made = await ensureVirtualHosts({ name: layout.bridge, count, cidr: subnet, directory: layout.hostsDir });
  const hosts = made.hosts.map((h) => ({ name: `node-${h.number}`, netnsPath: h.netnsPath, address: h.address }));
  state = { ...state, hosts, gateway: made.gateway };
  writeState(layout, state);

  const start = (name: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): void => {
    const daemon = startDaemon(name, command, args, { logFile: join(layout.logDir, `${name}.log`), env: { ...process.env, ...env }, cwd: layout.root });
    state = { ...state, processes: [...state.processes.filter((p) => p.name !== name), daemon] };
    writeState(layout, state);
  };
  const isUp = (name: string): boolean => state.processes.some((p) => p.name === name && isRunning(p));
  const node = process.execPath;
  const main = process.argv[1]!;

  if (isUp("control-plane")) {
    progress.done("control plane: already runs");
  } else {
    progress.update("control plane: starting, with a private etcd");
    // etcd's Unix sockets lie in the data folder, and a socket's path may have 107 bytes: a short name for a checkout in a deep folder.
    const dataLink = join(layout.socketDir, "control-plane");
    mkdirSync(join(layout.dataDir, "control-plane"), { recursive: true, mode: 0o700 });
    rmSync(dataLink, { force: true });
    symlinkSync(join(layout.dataDir, "control-plane"), dataLink);
    start("control-plane", node, [
      ...nodeFlags({ young: 8, old: 2048 }), main, "control-plane", "--data-dir", dataLink, "--api-port", String(state.apiPort), "--agent-port", String(state.agentPort),
      "--advertise-addresses", state.gateway, "--kubeconfig", layout.kubeconfig, "--log-format", "json",
    ]);
  }
  using client = await waitForApi(layout, () => isUp("control-plane"), progress);
  if (!running.some((p) => p.name === "control-plane")) progress.done(`control plane: ready after ${seconds(progress.elapsedMs)} at ${client.target.server.href}`);

  const toStart = hosts.filter((h) => !isUp(h.name));
  const sinceMs = Date.now();
  // Nodes without a container left: what etcd says of theirs is of the run before.
  const emptied = new Set(toStart.filter((h) => !existsSync(join(layout.socketDir, h.name, "containers"))).map((h) => h.name));
  if (toStart.length < hosts.length) progress.done(`nodes: ${hosts.length - toStart.length} of ${hosts.length} already run`);
  if (toStart.length > 0) {
    const { token } = await createJoinToken(client, { ttlMs: 600_000, description: "gantry up" });
    for (const host of toStart) {
      const dataDir = join(layout.dataDir, host.name);
      mkdirSync(dataDir, { recursive: true, mode: 0o700 });
      // nsenter and not `ip netns exec`: that would give the agent a mount namespace of its own, and its mounts would be lost to the next one.
      start(host.name, "nsenter", [
        `--net=${host.netnsPath}`, "--", node, ...nodeFlags({ young: 4, old: 768 }), main, "node-agent", "--node-name", host.name, "--control-planes", `${state.gateway}:${state.agentPort}`,
        "--data-dir", dataDir, "--run-dir", join(layout.socketDir, host.name), "--node-address", host.address, "--metrics-address", `${host.address}:6445`, "--cgroup-root", `gantry-${layout.id}/${host.name}`, "--log-format", "json",
      ], { GANTRY_JOIN_TOKEN: token });
    }
  }
  await waitForNodes(client, layout, hosts.map((h) => h.name), new Set(toStart.map((h) => h.name)), sinceMs, isUp, progress);

  if (options.example) await runExample(client, layout, options, { emptied, sinceMs }, progress);
  await summarize(client, layout, state, progress);
};

/**
 * Bounds of V8's heap, MiB. Without them garbage lies as long as the machine has memory. A young generation that is too small costs more
 * than it saves: at 2 MiB the control plane spent a sixth of its time in scavenges.
 */
const nodeFlags = (heap: { readonly young: number; readonly old: number }): readonly string[] =>
  ["--disable-warning=ExperimentalWarning", `--max-semi-space-size=${heap.young}`, `--max-old-space-size=${heap.old}`];

const waitForApi = async (layout: Layout, alive: () => boolean, progress: Progress): Promise<ApiClient> => {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  let last = "";
  while (performance.now() < deadline) {
    if (!alive()) throw new GantryError("FailedPrecondition", `the control plane ended; its last words (${layout.logDir}/control-plane.log):\n${tail(join(layout.logDir, "control-plane.log"), 8)}`);
    if (existsSync(layout.kubeconfig)) {
      const client = new ApiClient(loadKubeconfig(layout.kubeconfig));
      try {
        await client.send("GET", "/readyz").then((r) => r.resume());
        return client;
      } catch (error) {
        last = describeError(error);
        client[Symbol.dispose]();
      }
    }
    progress.update(`control plane: starting (${Math.round(progress.elapsedMs / 1000)} s)`);
    await delay(50);
  }
  throw new GantryError("Timeout", `the control plane was not ready within ${seconds(READY_TIMEOUT_MS)}: ${last} (see ${layout.logDir}/control-plane.log)`);
};

/** What etcd says of nodes and pods may be of the run before: what counts is what was said since `sinceMs`. */
const waitForNodes = async (client: ApiClient, layout: Layout, names: readonly string[], started: ReadonlySet<string>, sinceMs: number, isUp: (name: string) => boolean, progress: Progress): Promise<void> => {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const [nodes, leases] = await Promise.all([client.list(NODES), client.list(LEASES, "kube-node-lease")]);
    const standsReady = (name: string): boolean => nodes.items.some((n) => n.metadata.name === name && isNodeReady(n))
      && (!started.has(name) || leases.items.some((l) => l.metadata.name === name && Date.parse(l.spec?.renewTime ?? "") >= sinceMs));
    const ready = names.filter(standsReady);
    if (ready.length === names.length) break;
    const dead = names.find((n) => !isUp(n));
    if (dead) throw new GantryError("FailedPrecondition", `node agent ${dead} ended; its last words (${layout.logDir}/${dead}.log):\n${tail(join(layout.logDir, `${dead}.log`), 8)}`);
    if (performance.now() > deadline) throw new GantryError("Timeout", `only ${ready.length} of ${names.length} nodes became ready within ${seconds(READY_TIMEOUT_MS)} (see ${layout.logDir}/)`);
    progress.update(`nodes: ${ready.length} of ${names.length} ready`);
    await delay(50);
  }
  progress.done(`nodes: ${names.length} of ${names.length} ready after ${seconds(progress.elapsedMs)}`);
};

interface Before {
  readonly emptied: ReadonlySet<string>;
  readonly sinceMs: number;
}

const runExample = async (client: ApiClient, layout: Layout, options: UpOptions, before: Before, progress: Progress): Promise<void> => {
  const archive = join(layout.dataDir, "example-image.tar");
  if (!existsSync(archive)) {
    progress.update("example image: building from busybox");
    await buildExampleImage(archive, { busyboxPath: "/bin/busybox" });
  }
  const { items: nodes } = await client.list(NODES);
  const lacking = nodes.filter((n) => !n.status?.images?.some((i) => i.names?.includes(EXAMPLE_IMAGE)));
  if (lacking.length > 0) {
    progress.update("example image: loading onto every node");
    await loadImage(client, archive, { name: EXAMPLE_IMAGE, onProgress: (line) => progress.update(`example image: ${line}`) });
    progress.done(`example image: ${EXAMPLE_IMAGE} is on every node`);
  }
  const manifest = join(projectRoot(), "deploy/examples/hundred.yaml");
  const objects = parseAllDocuments(readFileSync(manifest, "utf8")).map((d) => d.toJS() as KubeObject).filter((o) => o !== null);
  const startedMs = performance.now();
  for (const object of objects) {
    const type = resourceOfKind(object.apiVersion, object.kind);
    if (!type) throw new GantryError("Invalid", `${manifest}: unknown kind ${object.kind}`);
    const sized = object.kind === "Deployment" ? { ...object, spec: { ...(object as Deployment).spec, replicas: options.replicas } } : object;
    await applyObject(client, type, sized, "default");
  }
  await waitForReplicas(client, options.replicas, before, progress);
  progress.done(`example: ${options.replicas} of ${options.replicas} containers ready, ${seconds(performance.now() - startedMs)} after apply`);
};

/** What most of the pods that can't start complain of: " (88 CreateContainerError: ...)"; "" while they are only on their way. */
const trouble = (pods: readonly Pod[]): string => {
  const counts = new Map<string, number>();
  for (const pod of pods) {
    const waiting = pod.status?.containerStatuses?.map((c) => c.state?.waiting).find((w) => w?.message);
    const unschedulable = pod.status?.conditions?.find((c) => c.type === "PodScheduled" && c.status === "False");
    const text = waiting ? `${waiting.reason ?? "waiting"}: ${waiting.message!}` : unschedulable ? `${unschedulable.reason ?? "unschedulable"}: ${unschedulable.message ?? ""}` : "";
    if (text !== "") counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const [worst] = [...counts].sort((a, b) => b[1] - a[1]);
  return worst ? ` (${worst[1]} ${worst[0]})` : "";
};

const waitForReplicas = async (client: ApiClient, replicas: number, before: Before, progress: Progress): Promise<void> => {
  const abort = AbortSignal.timeout(EXAMPLE_TIMEOUT_MS);
  const query = { labelSelector: "app=hundred" };
  const pods = new Map<string, Pod>();
  const isFresh = (pod: Pod): boolean => !pod.metadata.deletionTimestamp && isReady(pod)
    && (!before.emptied.has(pod.spec?.nodeName ?? "") || (pod.status?.containerStatuses ?? []).every((c) => Date.parse(c.state?.running?.startedAt ?? "") >= Math.floor(before.sinceMs / 1000) * 1000));
  const isDone = (): boolean => {
    const ready = [...pods.values()].filter(isFresh).length;
    progress.update(`example: ${ready} of ${replicas} containers ready${ready === replicas ? "" : trouble([...pods.values()])}`);
    return ready === replicas && pods.size === replicas;
  };
  try {
    while (!abort.aborted) {
      const list = await client.list(PODS, "default", query);
      pods.clear();
      for (const pod of list.items) pods.set(pod.metadata.uid!, pod);
      if (isDone()) return;
      for await (const { type, object } of client.watch<Pod>(client.pathOf(PODS, "default"), { ...query, resourceVersion: list.metadata.resourceVersion }, abort)) {
        if (type === "ERROR") break;
        if (type === "DELETED") pods.delete(object.metadata.uid!);
        else pods.set(object.metadata.uid!, object);
        if (isDone()) return;
      }
    }
  } catch (error) {
    if (!abort.aborted) throw error;
  }
  const stuck = [...pods.values()].filter((p) => !isFresh(p));
  throw new GantryError("Timeout", `not all containers became ready within ${seconds(EXAMPLE_TIMEOUT_MS)}${trouble(stuck)}${stuck[0] ? `; try: gantry why pod ${stuck[0].metadata.name!}` : ""}`);
};

const summarize = async (client: ApiClient, layout: Layout, state: ClusterState, progress: Progress): Promise<void> => {
  const { items } = await client.list(PODS);
  const perNode = new Map<string, number>();
  for (const pod of items) if (pod.status?.phase === "Running") perNode.set(pod.spec?.nodeName ?? "", (perNode.get(pod.spec?.nodeName ?? "") ?? 0) + 1);
  const memory = memoryOf(state.processes);
  progress.done("");
  progress.done(`up after ${seconds(progress.elapsedMs)}`);
  progress.done(`  containers  ${[...perNode].sort().map(([node, n]) => `${node}: ${n}`).join(", ") || "none"}`);
  progress.done(`  memory      ${memory.map((m) => `${m.name} ${Math.round(m.pssBytes / 2 ** 20)} MiB`).join(", ")} (PSS)`);
  progress.done(`  kubeconfig  ${layout.kubeconfig}`);
  progress.done(`  logs        ${layout.logDir}`);
  progress.done("");
  progress.done("Try next:");
  progress.done(`  export KUBECONFIG=${layout.kubeconfig}`);
  progress.done("  cli/gantry get pods          (or kubectl get pods -o wide)");
  progress.done("  cli/gantry scale deployment hundred --replicas 10");
  progress.done("  cli/gantry status");
  progress.done("  make down                    (PURGE=1 removes the data too)");
};
