// What a pod can ask for beyond one container: ports of the node, the node's namespaces and shared ones, containers for debugging. Asked for
// and read with kubectl, and seen from inside, from the node and from other hosts.
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, PODS, RUNTIME_CLASSES, STORAGE_CLASSES } from "../../base/kube/resources.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { allProcesses } from "../helpers/leftovers.ts";
import { findKubectl } from "../helpers/kubectl.ts";
import { isReady, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test, { nodes: 2 });

const named = (pods: readonly Pod[], name: string): Pod | undefined => pods.find((p) => p.metadata.name === name);

const started = async (ns: string, object: object): Promise<Pod> => {
  await cluster().create(PODS, ns, object);
  const { name } = (object as { metadata: { name: string } }).metadata;
  return named(await cluster().until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === name && isReady(p))), name)!;
};

const sh = (ns: string, name: string, script: string, container = "main"): Promise<string> => cluster().ok(["exec", "-n", ns, name, "-c", container, "--", "sh", "-c", script]);

/** The status code, or the error's code. */
const ask = (url: string): Promise<string> =>
  new Promise((done) => {
    const request = get(url, { agent: false, timeout: 5000 }, (response) => {
      response.resume();
      response.on("end", () => done(String(response.statusCode)));
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", (error) => done((error as NodeJS.ErrnoException).code ?? error.message));
  });

/** The image has no program that listens for UDP: this one does, in the pod's network. */
const echoOverUdp = async (t: ExecutionContext, pid: number, node: string): Promise<string> => {
  const script = 'const s = require("dgram").createSocket("udp4"); s.on("message", (m, from) => s.send(m, from.port, from.address)); s.bind(5353, () => console.log("bound"))';
  const server = spawn("nsenter", ["-t", String(pid), "-n", process.execPath, "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => server.kill("SIGKILL"));
  await once(server.stdout, "data");
  const client = createSocket("udp4");
  t.teardown(() => client.close());
  const answer = once(client, "message", { signal: AbortSignal.timeout(10_000) });
  client.send("ping", 15353, node);
  return String((await answer)[0]);
};

test.serial("hostPort: from other machines, from the node itself, from pods; through a SIGKILL of the agent; until the pod goes", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "host-ports");
  const web = await started(ns, pod("web", {
    run: "exec httpd -f -p 80 -h /www", spec: { nodeName: "node-1" }, container: { readinessProbe: { httpGet: { path: "/", port: 80 }, periodSeconds: 1 }, ports: [{ containerPort: 80, hostPort: 18080 }, { containerPort: 80, hostPort: 18081, hostIP: "127.0.0.1" }, { containerPort: 5353, hostPort: 15353, protocol: "UDP" }] },
  }));
  const node = web.status!.hostIP!;
  t.is(await ask(`http://${node}:18080/`), "200", "from another machine");
  t.is(await ask(`http://${node}:18081/`), "ECONNREFUSED", "a port of 127.0.0.1 is nobody else's");
  await Promise.all([
    started(ns, pod("node", { spec: { nodeName: "node-1", hostNetwork: true } })), started(ns, pod("near", { spec: { nodeName: "node-1" } })), started(ns, pod("far", { spec: { nodeName: "node-2" } })),
  ]);
  const fetch = (from: string, url: string): Promise<string> => sh(ns, from, `timeout 5 wget -qO- ${url} | grep -c 'It works'; true`);
  t.is(await fetch("node", "http://127.0.0.1:18080/"), "1\n");
  t.is(await fetch("node", "http://127.0.0.1:18081/"), "1\n");
  t.is(await fetch("node", `http://${node}:18080/`), "1\n");
  t.is(await fetch("near", `http://${node}:18080/`), "1\n", "a pod on the same node");
  t.is(await fetch("far", `http://${node}:18080/`), "1\n");
  t.is(await fetch("web", `http://${node}:18080/`), "1\n", "the pod itself");
  t.is(await echoOverUdp(t, c.containers().find((p) => p.podUid === web.metadata.uid)!.pid, node), "ping");

  // The scheduler keeps a second one away; one that goes past it is told why it does not start.
  await c.create(PODS, ns, pod("second", { spec: { nodeSelector: { "kubernetes.io/hostname": "node-1" } }, container: { ports: [{ containerPort: 80, hostPort: 18080 }] } }));
  await c.create(PODS, ns, pod("pushy", { spec: { nodeName: "node-1" }, container: { ports: [{ containerPort: 80, hostPort: 18080 }] } }));
  await c.until(PODS, ns, (pods) => named(pods, "second")?.status?.conditions?.some((x) => /didn't have free ports/.test(x.message ?? "")) === true
    && named(pods, "pushy")?.status?.containerStatuses?.[0]?.state?.waiting?.message === "host port 18080/TCP is taken on this node by pod host-ports/web");
  await c.ok(["delete", "pod", "-n", ns, "second", "pushy", "--wait=false"]);

  c.kill("node-1", "SIGKILL");
  t.is(await ask(`http://${node}:18080/`), "200", "while there is no agent");
  await c.gone("node-1");
  await c.up();
  t.is(await ask(`http://${node}:18080/`), "200", "with the next one");
  await c.ok(["delete", "pod", "-n", ns, "web", "--now"]);
  await until(async () => (await ask(`http://${node}:18080/`)) === "ECONNREFUSED", "the port is closed");
});

test.serial("process namespaces: shared by a pod's containers, also after a SIGKILL of the agent; the node's; the node's network and IPC", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "namespaces");
  const two = (script: string): object => ({ containers: [
    { name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["sh", "-c", script] },
    { name: "side", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["sleep", "1000001"] },
  ] });
  const shared = await started(ns, pod("shared", { spec: { nodeName: "node-1", shareProcessNamespace: true, ...two("sleep 1000002 & exec sleep 1000003") } }));
  const seen = await sh(ns, "shared", "ps -o args", "side");
  for (const line of ["/init", "sleep 1000001", "sleep 1000002", "sleep 1000003"]) t.true(seen.split("\n").includes(line), `${line} in ${seen}`);
  t.is(await sh(ns, "shared", "cat /proc/1/comm"), "init\n");
  c.kill("node-1", "SIGKILL");
  await c.gone("node-1");
  await c.up();
  // A container that ends takes its own children along, and no others; it comes back into the same namespace.
  await until(async () => (await c.kubectl(["exec", "-n", ns, "shared", "-c", "side", "--", "sh", "-c", "kill -9 $(ps -o pid,args | awk '/sleep 100000[3]/{print $1}')"])).code === 0, "exec works again");
  const [again] = await c.until(PODS, ns, (pods) => named(pods, "shared")?.status?.containerStatuses?.some((s) => s.name === "main" && s.restartCount === 1 && s.ready) === true);
  t.is(again!.status!.containerStatuses!.find((s) => s.name === "side")!.restartCount, 0);
  t.is(await sh(ns, "shared", "ps -o args | grep -c 100000[2]; true", "side"), "1\n", "the second instance's, and no orphan of the first");
  t.is(shared.status!.podIP, again!.status!.podIP);

  await started(ns, pod("apart", { spec: two("sleep 1000004") }));
  t.notRegex(await sh(ns, "apart", "ps -o args", "side"), /1000004/);
  await started(ns, pod("host", { spec: { nodeName: "node-1", hostPID: true, hostIPC: true, hostNetwork: true } }));
  t.regex(await sh(ns, "host", "ps -o args"), /node-agent[^\n]*node-1/);
  for (const kind of ["ipc", "pid", "net"]) t.is(await sh(ns, "host", `readlink /proc/self/ns/${kind}`), `${readlinkSync(`/proc/${c.pid("node-1")}/ns/${kind}`)}\n`);
  t.regex(await sh(ns, "host", "ip -o link"), /gantry0|eth0/);
  const host = named((await c.client.list(PODS, ns)).items, "host")!;
  t.is(host.status!.podIP, host.status!.hostIP);
  t.not(await sh(ns, "apart", "readlink /proc/self/ns/ipc"), await sh(ns, "host", "readlink /proc/self/ns/ipc"));
});

test.serial("kubectl debug: a container beside those that run, in a target's process namespace, never restarted", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "debugging");
  await started(ns, pod("patient", { run: "exec sleep 1000005" }));
  if (findKubectl("1.33") === undefined) return t.log("no kubectl 1.33 on this machine");
  await c.ok(["debug", "-n", ns, "patient", `--image=${EXAMPLE_IMAGE}`, "--image-pull-policy=IfNotPresent", "--target=main", "--container=doctor", "--attach=false", "--", "sh", "-c", "ps -o args; exit 3"]);
  const [patient] = await c.until(PODS, ns, ([p]) => p?.status?.ephemeralContainerStatuses?.[0]?.state?.terminated !== undefined);
  t.like(patient!.status!.ephemeralContainerStatuses![0], { name: "doctor", restartCount: 0, state: { terminated: { exitCode: 3 } } });
  t.true(isReady(patient!));
  t.is(patient!.status!.phase, "Running");
  t.regex(await c.ok(["logs", "-n", ns, "patient", "-c", "doctor"]), /^sleep 1000005$/m);

  await c.ok(["debug", "-n", ns, "patient", `--image=${EXAMPLE_IMAGE}`, "--image-pull-policy=IfNotPresent", "--container=alone", "--attach=false", "--", "sleep", "1000006"]);
  await c.until(PODS, ns, ([p]) => p?.status?.ephemeralContainerStatuses?.some((s) => s.name === "alone" && s.state?.running) === true);
  t.notRegex(await sh(ns, "patient", "ps -o args", "alone"), /1000005/);
  t.is(await sh(ns, "patient", "hostname", "alone"), "patient\n");

  const patch = (body: object): Promise<string> => c.fails(["patch", "pod", "-n", ns, "patient", "--subresource=ephemeralcontainers", "--type=merge", "-p", JSON.stringify({ spec: { ephemeralContainers: body } })]);
  t.regex(await patch([]), /spec\.ephemeralContainers: Forbidden: existing ephemeral containers "doctor" may not be removed/);
  t.regex(await c.fails(["debug", "-n", ns, "patient", "--image=x", "--container=lost", "--target=nobody", "--attach=false"]), /targetContainerName: Not found: "nobody"|nobody/);
  await c.ok(["delete", "pod", "-n", ns, "patient", "--timeout=20s"]);
  return undefined;
});

test.serial("claims of the built-in class: made where the pod goes, kept from pod to pod, protected while used, deleted with their data", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "claims");
  t.regex(await c.ok(["get", "storageclass"]), /^local \(default\) +gantry\.io\/local +Delete +WaitForFirstConsumer +false/m);
  await c.create(PERSISTENT_VOLUME_CLAIMS, ns, { metadata: { name: "data" }, spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } });
  const writer = (name: string, run: string, more: object = {}): object => pod(name, {
    run, spec: { securityContext: { fsGroup: 2000 }, volumes: [{ name: "data", persistentVolumeClaim: { claimName: "data" } }], ...more }, container: { volumeMounts: [{ name: "data", mountPath: "/data" }] },
  });
  await started(ns, writer("first", "echo remembered > /data/note; exec sleep 1000"));
  const [claim] = await c.until(PERSISTENT_VOLUME_CLAIMS, ns, ([x]) => x?.status?.phase === "Bound");
  t.regex(await c.ok(["get", "pvc", "-n", ns]), /data +Bound +pvc-\S+ +1Gi +RWO +local/);
  t.regex(await c.ok(["get", "pv"]), new RegExp(`${claim!.spec!.volumeName!} +1Gi +RWO +Delete +Bound +claims/data +local`));
  const first = named((await c.client.list(PODS, ns)).items, "first")!;
  const second = await started(ns, writer("second", "exec sleep 1000"));
  t.is(second.spec!.nodeName, first.spec!.nodeName, "the volume is on one node");
  t.is(await sh(ns, "second", "cat /data/note; stat -c %g /data"), "remembered\n2000\n");
  const directory = join(c.layout.dataDir, first.spec!.nodeName!, "volumes", claim!.spec!.volumeName!);
  t.true(existsSync(join(directory, "note")), directory);

  await c.ok(["delete", "pvc", "-n", ns, "data", "--wait=false"]);
  t.regex(await c.ok(["get", "pvc", "-n", ns]), /data +Terminating/);
  await c.create(PODS, ns, writer("late", "exec sleep 1000"));
  await c.until(PODS, ns, (pods) => named(pods, "late")?.status?.conditions?.some((x) => /persistentvolumeclaim "data" is being deleted/.test(x.message ?? "")) === true);
  await c.ok(["delete", "pod", "-n", ns, "first", "second", "late", "--now"]);
  await c.until(PERSISTENT_VOLUME_CLAIMS, ns, (all) => all.length === 0);
  await c.until(PERSISTENT_VOLUMES, undefined, (all) => all.length === 0);
  t.false(existsSync(directory));

  // A claim of its own for each pod, gone with it.
  await started(ns, pod("scratch", { spec: { volumes: [{ name: "tmp", ephemeral: { volumeClaimTemplate: { spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Mi" } } } } } }] }, container: { volumeMounts: [{ name: "tmp", mountPath: "/tmp" }] } }));
  t.regex(await c.ok(["get", "pvc", "-n", ns, "-o", "name"]), /^persistentvolumeclaim\/scratch-tmp$/m);
  await c.ok(["delete", "pod", "-n", ns, "scratch", "--now"]);
  await c.until(PERSISTENT_VOLUMES, undefined, (all) => all.length === 0);
});

test.serial("volumes of the administrator: bound by class and size, the pod goes to their node, Retain keeps them", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "disks");
  const path = mkdtempSync(join(tmpdir(), "gantry-disk-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  await c.create(STORAGE_CLASSES, "", { metadata: { name: "disks" }, provisioner: "kubernetes.io/no-provisioner", volumeBindingMode: "WaitForFirstConsumer" });
  const affinity = { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: ["node-2"] }] }] } };
  const volume = (name: string, storage: string): Promise<unknown> => c.create(PERSISTENT_VOLUMES, "", { metadata: { name }, spec: { capacity: { storage }, accessModes: ["ReadWriteOnce"], storageClassName: "disks", local: { path }, nodeAffinity: affinity } });
  await volume("large", "10Gi");
  await volume("small", "2Gi");
  await c.create(PERSISTENT_VOLUME_CLAIMS, ns, { metadata: { name: "data" }, spec: { storageClassName: "disks", accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } });
  const p = await started(ns, pod("user", { run: "echo here > /data/x; exec sleep 1000", spec: { volumes: [{ name: "data", persistentVolumeClaim: { claimName: "data" } }] }, container: { volumeMounts: [{ name: "data", mountPath: "/data" }] } }));
  t.is(p.spec!.nodeName, "node-2");
  await until(() => existsSync(join(path, "x")) && readFileSync(join(path, "x"), "utf8") === "here\n", "it writes on its node");
  t.regex(await c.ok(["get", "pv"]), /small +2Gi +RWO +Retain +Bound +disks\/data +disks/);
  t.regex(await c.fails(["patch", "pvc", "-n", ns, "data", "--type=merge", "-p", '{"spec":{"accessModes":["ReadWriteMany"]}}']), /spec: Forbidden: spec is immutable after creation/);
  await c.ok(["delete", "pod,pvc", "-n", ns, "--all", "--now"]);
  await c.until(PERSISTENT_VOLUMES, undefined, (all) => all.find((v) => v.metadata.name === "small")?.status?.phase === "Released");
  t.true(existsSync(join(path, "x")));
  await c.ok(["delete", "pv", "small", "large"]);
  await c.ok(["delete", "storageclass", "disks"]);
});

test.serial("RuntimeClass: another OCI runtime; one that nobody knows is said, and comes right when it is made", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "runtimes");
  await c.create(RUNTIME_CLASSES, "", { metadata: { name: "slow" }, handler: "runc" });
  t.regex(await c.ok(["get", "runtimeclass"]), /slow +runc/);
  const p = await started(ns, pod("other", { spec: { runtimeClassName: "slow" } }));
  const { containerId } = c.containers().find((x) => x.podUid === p.metadata.uid)!;
  t.regex(allProcesses().find((x) => x.commandLine.includes("conmon") && x.commandLine.includes(containerId))!.commandLine, /-r \S*runc /);
  t.is(await sh(ns, "other", "echo fine"), "fine\n");
  await c.create(RUNTIME_CLASSES, "", { metadata: { name: "odd" }, handler: "nobody" });
  await c.create(PODS, ns, pod("odd", { spec: { runtimeClassName: "odd" } }));
  await c.create(PODS, ns, pod("lost", { spec: { runtimeClassName: "lost" } }));
  await c.until(PODS, ns, (pods) => /no runtime for "nobody" is configured on this node/.test(named(pods, "odd")?.status?.containerStatuses?.[0]?.state?.waiting?.message ?? "")
    && /RuntimeClass "lost" not found/.test(named(pods, "lost")?.status?.containerStatuses?.[0]?.state?.waiting?.message ?? ""));
  await c.create(RUNTIME_CLASSES, "", { metadata: { name: "lost" }, handler: "crun" });
  await c.until(PODS, ns, (pods) => isReady(named(pods, "lost")!));
  await c.ok(["delete", "runtimeclass", "slow", "odd", "lost"]);
});

test.serial("hostUsers: false: root inside is nobody on the node and has rights over its own network, with crun and runc, also after a SIGKILL of the agent", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "users");
  await c.create(RUNTIME_CLASSES, "", { metadata: { name: "by-runc" }, handler: "runc" });
  await c.ok(["create", "configmap", "settings", "-n", ns, "--from-literal=key=value"]);
  const own = (name: string, more: object): object => pod(name, {
    spec: { hostUsers: false, nodeName: "node-1", volumes: [{ name: "settings", configMap: { name: "settings" } }, { name: "scratch", emptyDir: { medium: "Memory" } }, { name: "disk", emptyDir: {} }], ...more },
    container: { securityContext: { procMount: "Unmasked", capabilities: { add: ["NET_ADMIN"] } }, volumeMounts: [{ name: "settings", mountPath: "/settings" }, { name: "scratch", mountPath: "/scratch" }, { name: "disk", mountPath: "/disk" }] },
  });
  const sharing = (name: string, more: object): object => {
    const { spec, ...rest } = pod(name, { spec: { hostUsers: false, shareProcessNamespace: true, nodeName: "node-1", ...more } }) as { readonly spec: { readonly containers: readonly object[] } };
    return { ...rest, spec: { ...spec, containers: [spec.containers[0]!, { ...spec.containers[0]!, name: "second" }] } };
  };
  const [pods] = await Promise.all([
    Promise.all([started(ns, own("crun", {})), started(ns, own("runc", { runtimeClassName: "by-runc" }))]),
    started(ns, sharing("sharing-crun", {})), started(ns, sharing("sharing-runc", { runtimeClassName: "by-runc" })),
    c.gantry(["run", "--name", "kept-users", "--userns", "auto", EXAMPLE_IMAGE, "/bin/sh", "-c", "mkdir /d; echo x > /d/f; chown 33:44 /d/f"]),
  ]);
  for (const name of ["sharing-crun", "sharing-runc"]) t.regex(await sh(ns, name, "ps | grep -c '[s]leep'; cat /proc/1/comm; id -u"), /^[2-9]\ninit\n0\n$/, `${name}: each container's processes are seen, and no others`);
  // Files of a container that has ended: owners as inside, also in an image of it.
  const [changes] = await Promise.all([c.gantry("diff kept-users"), c.gantry("cp /etc/debian_version kept-users:/d/copied")]);
  t.regex(changes.out, /^A \/d\/f$/m);
  t.is((await c.gantry("commit kept-users kept-users:1")).code, 0);
  // Made on one node, and at once there for all.
  for (const { name } of c.state.hosts) t.like(await c.gantry(`run --rm --node ${name} kept-users:1 stat -c %u:%g /d /d/f /d/copied`), { code: 0, out: "0:0\n33:44\n0:0\n" }, name);
  c.kill("node-1", "SIGKILL");
  await c.gone("node-1");
  await c.up();
  const masked = await started(ns, pod("masked", { spec: { nodeName: "node-1" } }));
  const users = pods.map((p) => statSync(`/proc/${c.containers().find((x) => x.podUid === p.metadata.uid)!.pid}`).uid);
  t.is(new Set(users).size, 2, "each has ids of its own");
  for (const [i, name] of ["crun", "runc"].entries()) {
    t.is(users[i]! % 65_536, 0, name);
    const seen = await sh(ns, name, "id -u; cat /settings/key; echo; echo x | tee /scratch/x /disk/x /x; chown 7:7 /disk/x; stat -c %u /disk/x; ip addr add 192.0.2.1/32 dev lo && echo net-admin; cat /proc/self/uid_map");
    t.regex(seen, new RegExp(`^0\\nvalue\\nx\\n7\\nnet-admin\\n +0 +${users[i]!} +65536\\n$`), name);
    t.true((await sh(ns, name, "wc -l < /proc/mounts; grep -c ' /proc/' /proc/mounts || true")).endsWith("\n0\n"), `${name}: nothing lies over its /proc`);
    await c.ok(["cp", "-n", ns, "/etc/debian_version", `${name}:/copied`]);
    t.is(await sh(ns, name, "stat -c %u:%g /copied; cat /copied"), `0:0\n${readFileSync("/etc/debian_version", "utf8")}`, name);
    t.regex(await c.ok(["debug", "-n", ns, name, `--image=${EXAMPLE_IMAGE}`, "--image-pull-policy=IfNotPresent", "--attach", "-q", "--", "cat", "/proc/self/uid_map"]), new RegExp(` ${users[i]!} `), "a container beside it has the same users");
  }
  t.not(await sh(ns, masked.metadata.name!, "grep -c ' /proc/' /proc/mounts"), "0\n");
  t.true((await c.client.list<Node>(NODES)).items.every((n) => n.status?.runtimeHandlers?.some((h) => h.features?.userNamespaces)));
  t.regex(await c.fails(["apply", "-n", ns, "-f", "-"], { input: JSON.stringify(pod("both", { spec: { hostUsers: false, hostNetwork: true } })) }), /spec\.hostNetwork: Forbidden: may not be set when `hostUsers` is false/);
  await c.ok(["delete", "runtimeclass", "by-runc"]);
});

test.serial("names by subdomain, paths by variables, kernel settings; what can't be is said", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "details");
  const host = mkdtempSync(join(tmpdir(), "gantry-sub-"));
  t.teardown(() => rmSync(host, { recursive: true, force: true }));
  symlinkSync("/etc", join(host, "trap"));
  const env = [{ name: "POD", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }];
  const mount = (expression: string): object => ({ env, volumeMounts: [{ name: "host", mountPath: "/own", subPathExpr: expression }] });
  const volumes = [{ name: "host", hostPath: { path: host, type: "Directory" } }];
  const create = (name: string, spec: object, container: object = {}): Promise<unknown> => c.create(PODS, ns, pod(name, { spec: { volumes, ...spec }, container }));
  await create("one", { hostname: "first", subdomain: "group", setHostnameAsFQDN: true, securityContext: { sysctls: [{ name: "net.ipv4.ip_unprivileged_port_start", value: "80" }] } }, mount("logs/$(POD)"));
  await create("trapped", {}, mount("trap/x"));
  await create("nameless", {}, mount("$(NOBODY)"));
  await create("greedy", { securityContext: { sysctls: [{ name: "net.core.somaxconn", value: "4000" }] } });
  const message = (pods: readonly Pod[], name: string): string => named(pods, name)?.status?.containerStatuses?.[0]?.state?.waiting?.message ?? "";
  const pods = await c.until(PODS, ns, (all) => all.length === 4 && isReady(named(all, "one")!) && ["trapped", "nameless", "greedy"].every((n) => message(all, n) !== ""));
  t.regex(message(pods, "trapped"), /"trap" is a symlink to something that the volume doesn't hold/);
  t.regex(message(pods, "nameless"), /subPathExpr "\$\(NOBODY\)": the container has no variable "NOBODY"/);
  t.regex(message(pods, "greedy"), /forbidden sysctl: "net\.core\.somaxconn" not allowlisted/);
  t.is(await sh(ns, "one", "echo x > /own/log; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "first.group.details.svc.cluster.local\n80\n");
  t.true(existsSync(join(host, "logs/one/log")));
  t.true((await sh(ns, "one", "cat /etc/hosts")).split("\n").includes(`${named(pods, "one")!.status!.podIP!}\tfirst.group.details.svc.cluster.local`));
});

test.serial("the nodes are as they were", async (t) => {
  t.is((await cluster().client.list(NODES)).items.length, 2);
});
