// What a container gets: limits, environment, volumes, names, a confined process, and a graceful end. Seen from inside by exec and logs,
// and from outside in the kernel's files.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { CONFIG_MAPS, EVENTS, PODS, SECRETS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { container, exitCode, isReady, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test, { nodes: 2 });

/** Creates a pod and waits for it. */
const started = async (ns: string, object: object): Promise<Pod> => {
  await cluster().create(PODS, ns, object);
  const { name } = (object as { metadata: { name: string } }).metadata;
  return (await cluster().until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === name && isReady(p)))).find((p) => p.metadata.name === name)!;
};

const ended = async (ns: string, name: string): Promise<Pod> =>
  (await cluster().until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === name && exitCode(p) !== undefined))).find((p) => p.metadata.name === name)!;

const sh = (ns: string, name: string, script: string): Promise<string> => cluster().ok(["exec", "-n", ns, name, "--", "sh", "-c", script]);

/** A control group file of a pod's container, by its name in version 1 and in version 2. */
const cgroupFile = (p: Pod, v1: readonly [controller: string, file: string], v2: string): string => {
  const { pid } = cluster().containers().find((c) => c.podUid === p.metadata.uid)!;
  const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n").map((line) => line.split(":"));
  const path = lines.find(([, controllers]) => controllers!.split(",").includes(v1[0]))?.[2];
  return readFileSync(path === undefined ? `/sys/fs/cgroup${lines.find(([id]) => id === "0")![2]!}/${v2}` : `/sys/fs/cgroup/${v1[0]}${path}/${v1[1]}`, "utf8").trim();
};

test("limits and requests arrive in the control groups", async (t) => {
  const ns = await cluster().namespace(t, "limits");
  const p = await started(ns, pod("limited", { container: { resources: { limits: { cpu: "500m", memory: "32Mi" }, requests: { cpu: "250m", memory: "16Mi" } } } }));
  const v1 = existsSync("/sys/fs/cgroup/memory");
  t.is(cgroupFile(p, ["memory", "memory.limit_in_bytes"], "memory.max"), String(32 * 2 ** 20));
  const period = v1 ? Number(cgroupFile(p, ["cpu", "cpu.cfs_period_us"], "")) : Number(cgroupFile(p, ["cpu", ""], "cpu.max").split(" ")[1]);
  t.is(Number(cgroupFile(p, ["cpu", "cpu.cfs_quota_us"], "cpu.max").split(" ")[0]) / period, 0.5);
  if (v1) t.is(cgroupFile(p, ["cpu", "cpu.shares"], ""), "256");
  t.regex(cgroupFile(p, ["pids", "pids.max"], "pids.max"), /^\d+$/, "a fork bomb is stopped before it takes the node");
  t.is(p.status?.qosClass, "Burstable");
  const free = await started(ns, pod("free"));
  if (v1) t.is(cgroupFile(free, ["cpu", "cpu.cfs_quota_us"], ""), "-1");
  t.is(free.status?.qosClass, "BestEffort");
});

test("too much memory: OOMKilled", async (t) => {
  const ns = await cluster().namespace(t, "oom");
  const limits = { resources: { limits: { memory: "16Mi" } } };
  await cluster().create(PODS, ns, pod("greedy", { run: "echo eating; dd if=/dev/zero of=/dev/null bs=64M count=1", spec: { restartPolicy: "Never" }, container: limits }));
  // The shell is the container's first process, and the kernel takes the largest: both ways must say why.
  await cluster().create(PODS, ns, pod("greedy-itself", { run: ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"], spec: { restartPolicy: "Never" }, container: limits }));
  for (const name of ["greedy", "greedy-itself"]) t.like(container(await ended(ns, name)).state?.terminated, { exitCode: 137, reason: "OOMKilled" }, name);
  t.regex(await cluster().ok(["get", "pods", "-n", ns]), /greedy +0\/1 +OOMKilled/);
  t.false(existsSync(join(cluster().layout.root, "oom")), "conmon leaves its note in the container's directory, not in the agent's");
});

test("exit codes, restart policies and CrashLoopBackOff", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "exits");
  const run = (name: string, script: string, restartPolicy: string): Promise<unknown> => c.create(PODS, ns, pod(name, { run: script, spec: { restartPolicy } }));
  await Promise.all([
    run("fine", "exit 0", "Never"), run("seven", "exit 7", "Never"), run("killed", "kill -9 $$; sleep 100", "Never"), run("term", "kill -TERM $$; sleep 100", "Never"),
    run("crashing", "echo attempt; exit 1", "Always"), run("unlucky", "exit 2", "OnFailure"), run("lucky", "exit 0", "OnFailure"), run("finishing", "exit 0", "Always"),
  ]);
  const pods = await c.until(PODS, ns, (all) => {
    const of = (name: string): Pod => all.find((p) => p.metadata.name === name)!;
    return all.length === 8 && ["fine", "seven", "lucky"].every((n) => exitCode(of(n)) !== undefined)
      && ["crashing", "unlucky"].every((n) => of(n).status?.containerStatuses?.[0]?.state?.waiting?.reason === "CrashLoopBackOff" && container(of(n)).restartCount >= 1)
      && (of("finishing").status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1;
  });
  const of = (name: string): Pod => pods.find((p) => p.metadata.name === name)!;
  t.like(of("fine").status, { phase: "Succeeded" });
  t.like(container(of("fine")).state?.terminated, { exitCode: 0, reason: "Completed" });
  t.like(of("seven").status, { phase: "Failed" });
  t.like(container(of("seven")).state?.terminated, { exitCode: 7, reason: "Error" });
  t.is(of("lucky").status?.phase, "Succeeded");
  t.is(container(of("lucky")).restartCount, 0);
  t.like(container(of("crashing")), { lastState: { terminated: { exitCode: 1, reason: "Error" } }, ready: false });
  t.regex(container(of("crashing")).state?.waiting?.message ?? "", /back-off \d+/i);
  t.like(container(of("unlucky")), { lastState: { terminated: { exitCode: 2 } } });
  t.like(container(of("finishing")), { lastState: { terminated: { exitCode: 0, reason: "Completed" } } });
  t.regex(await c.ok(["get", "pods", "-n", ns]), /crashing +0\/1 +(CrashLoopBackOff|Error) +\d/);
  await until(async () => /Restart Count: +\d[\s\S]*Warning +BackOff .*[Bb]ack-off/.test(await c.ok(["describe", "pod", "crashing", "-n", ns])), "kubectl describe tells of the back-off");
  t.is(await c.ok(["logs", "-n", ns, "crashing", "-p"]), "attempt\n");
});

test("environment from values, ConfigMaps, Secrets and the pod itself", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "environment");
  await c.create(CONFIG_MAPS, ns, { metadata: { name: "settings" }, data: { colour: "red", "shape": "round" } });
  await c.create(SECRETS, ns, { metadata: { name: "hush" }, stringData: { password: "sword fish" } });
  const p = await started(ns, pod("reader", {
    container: {
      env: [
        { name: "PLAIN", value: "a b" }, { name: "JOINED", value: "$(PLAIN)-$(COLOUR)-$$(PLAIN)" }, { name: "COLOUR", valueFrom: { configMapKeyRef: { name: "settings", key: "colour" } } },
        { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "hush", key: "password" } } }, { name: "ABSENT", valueFrom: { configMapKeyRef: { name: "settings", key: "none", optional: true } } },
        { name: "POD", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }, { name: "NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
        { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }, { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
        { name: "LABEL", valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } }, { name: "LIMIT", valueFrom: { resourceFieldRef: { resource: "limits.memory" } } },
      ],
      envFrom: [{ prefix: "CFG_", configMapRef: { name: "settings" } }], resources: { limits: { memory: "16Mi" } },
    },
  }));
  const env = Object.fromEntries((await sh(ns, "reader", "cat /proc/1/environ | tr '\\0' '\\n'")).trim().split("\n").map((line) => line.split(/=(.*)/s, 2) as [string, string]));
  t.like(env, {
    PLAIN: "a b", COLOUR: "red", PASSWORD: "sword fish", POD: "reader", NAMESPACE: ns, IP: p.status!.podIP!, NODE: p.spec!.nodeName!, LABEL: "reader", LIMIT: String(16 * 2 ** 20), CFG_colour: "red", CFG_shape: "round",
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOSTNAME: "reader",
  });
  // A variable may use only those before it.
  t.is(env["JOINED"], "a b-$(COLOUR)-$(PLAIN)");
  t.false("ABSENT" in env);

  await c.create(PODS, ns, pod("waiting", { container: { env: [{ name: "X", valueFrom: { secretKeyRef: { name: "later", key: "x" } } }] } }));
  const [waiting] = await c.until(PODS, ns, (pods) => pods.some((w) => w.status?.containerStatuses?.[0]?.state?.waiting?.reason === "CreateContainerConfigError"), { selector: "app=waiting" });
  t.regex(container(waiting!).state?.waiting?.message ?? "", /secret.*later.*not found/i);
  await c.create(SECRETS, ns, { metadata: { name: "later" }, stringData: { x: "1" } });
  await c.until(PODS, ns, (pods) => pods.length === 1 && isReady(pods[0]!), { selector: "app=waiting" });
});

test("volumes: configMap, secret in memory, emptyDir shared by containers, hostPath, subPath", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "volumes");
  const host = mkdtempSync(join(tmpdir(), "gantry-host-"));
  t.teardown(() => rmSync(host, { recursive: true, force: true }));
  writeFileSync(join(host, "from-host"), "hello from the host\n");
  await c.create(CONFIG_MAPS, ns, { metadata: { name: "files" }, data: { "a.conf": "a=1\n", "b.conf": "b=2\n" } });
  await c.create(SECRETS, ns, { metadata: { name: "keys" }, stringData: { key: "opensesame" } });
  await started(ns, pod("mounted", {
    spec: {
      volumes: [
        { name: "files", configMap: { name: "files" } }, { name: "one", configMap: { name: "files", items: [{ key: "b.conf", path: "deep/b", mode: 0o400 }] } },
        { name: "keys", secret: { secretName: "keys", defaultMode: 0o440 } }, { name: "scratch", emptyDir: {} }, { name: "memory", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } }, { name: "host", hostPath: { path: host, type: "Directory" } },
      ],
      containers: ["main", "side"].map((name) => ({
        name, image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["/bin/sleep", "1000000"],
        volumeMounts: [
          { name: "files", mountPath: "/files" }, { name: "one", mountPath: "/one" }, { name: "keys", mountPath: "/keys", readOnly: true }, { name: "scratch", mountPath: "/scratch" },
          { name: "memory", mountPath: "/memory" }, { name: "host", mountPath: "/host" }, { name: "files", mountPath: "/etc/single.conf", subPath: "a.conf" },
        ],
      })),
    },
  }));
  t.is(await sh(ns, "mounted", "cat /files/a.conf /files/b.conf /one/deep/b /etc/single.conf; ls /one"), "a=1\nb=2\nb=2\na=1\ndeep\n");
  t.is(await sh(ns, "mounted", "stat -L -c %a /one/deep/b /keys/key"), "400\n440\n");
  t.is(await sh(ns, "mounted", "cat /keys/key"), "opensesame");
  t.regex(await sh(ns, "mounted", "grep ' /keys ' /proc/mounts; grep ' /memory ' /proc/mounts"), /^tmpfs \/keys tmpfs ro[\s\S]*tmpfs \/memory tmpfs .*size=1024k/, "a secret never touches the disk");
  t.regex((await c.kubectl(["exec", "-n", ns, "mounted", "--", "sh", "-c", "echo x > /keys/key"])).err, /Read-only file system/);
  await c.ok(["exec", "-n", ns, "mounted", "-c", "side", "--", "sh", "-c", "echo from side > /scratch/file; echo out > /host/to-host"]);
  t.is(await sh(ns, "mounted", "cat /scratch/file; cat /host/from-host"), "from side\nhello from the host\n");
  t.is(readFileSync(join(host, "to-host"), "utf8"), "out\n");

  await c.client.json("PATCH", c.client.pathOf(CONFIG_MAPS, ns, "files"), { body: { data: { "a.conf": "a=9\n" } }, contentType: "application/merge-patch+json" });
  await until(async () => (await sh(ns, "mounted", "cat /files/a.conf")) === "a=9\n", "a changed ConfigMap arrives in the running container");
  t.is(await sh(ns, "mounted", "cat /etc/single.conf"), "a=1\n", "a subPath stays what it was");
  await c.ok(["delete", "pod", "mounted", "-n", ns]);
  t.is(readFileSync(join(host, "from-host"), "utf8"), "hello from the host\n", "the host's files stay");
});

test("names, working directory, command and args, the image's own command, another user", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "process");
  const bare = (name: string, container: object, spec: object = {}): object =>
    ({ metadata: { name }, spec: { terminationGracePeriodSeconds: 1, restartPolicy: "Never", ...spec, containers: [{ name: "main", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", ...container }] } });
  await Promise.all([
    c.create(PODS, ns, bare("args", { command: ["/bin/sh", "-c"], args: ["pwd; hostname; cat /etc/hostname; id -u; id -g; echo \"$0 $@\"", "zero", "one two", "$(WORD)"], env: [{ name: "WORD", value: "three" }], workingDir: "/made/here", securityContext: { runAsUser: 1234, runAsGroup: 99 } })),
    c.create(PODS, ns, bare("named", { command: ["/bin/sh", "-c", "hostname; cat /etc/hosts; cat /etc/resolv.conf"] }, { hostname: "called", subdomain: "sub", hostAliases: [{ ip: "10.1.2.3", hostnames: ["db.example"] }], dnsPolicy: "None", dnsConfig: { nameservers: ["10.9.9.9"], searches: ["example.org"] } })),
    c.create(PODS, ns, bare("default", {})),
  ]);
  await Promise.all([ended(ns, "args"), ended(ns, "named")]);
  t.is(await c.ok(["logs", "-n", ns, "args"]), "/made/here\nargs\nargs\n1234\n99\nzero one two three\n");
  const named = await c.ok(["logs", "-n", ns, "named"]);
  t.regex(named, /^called\n[\s\S]*127\.0\.0\.1\s+localhost[\s\S]*10\.1\.2\.3\s+db\.example[\s\S]*nameserver 10\.9\.9\.9/);
  const [own] = (await c.until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === "default" && isReady(p)))).filter((p) => p.metadata.name === "default");
  t.regex(c.containers().find((r) => r.podUid === own!.metadata.uid)!.commandLine, /sleep 86400/, "the image's command");
});

test("a container's process is confined: seccomp, capabilities, no new privileges, masked and read-only paths", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "confined");
  await started(ns, pod("plain"));
  await started(ns, pod("tight", { container: { securityContext: { capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] }, readOnlyRootFilesystem: true, runAsUser: 1000, runAsNonRoot: true } } }));
  await started(ns, pod("privileged", { container: { securityContext: { privileged: true } } }));
  const status = async (name: string): Promise<Record<string, string>> => Object.fromEntries((await sh(ns, name, "cat /proc/1/status")).split("\n").map((line) => line.split(/:\s*/, 2) as [string, string]));
  const plain = await status("plain");
  t.like(plain, { Seccomp: "2", NoNewPrivs: "1", CapEff: "00000000a80425fb", CapBnd: "00000000a80425fb", CapAmb: "0000000000000000", CapInh: "0000000000000000" });
  const exec = Object.fromEntries((await sh(ns, "plain", "cat /proc/self/status")).split("\n").map((line) => line.split(/:\s*/, 2) as [string, string]));
  t.like(exec, { Seccomp: "2", NoNewPrivs: "1", CapEff: plain["CapEff"]! }, "exec is no way out");
  t.like(await status("tight"), { Seccomp: "2", CapBnd: "0000000000000400", Uid: "1000\t1000\t1000\t1000" });
  const attempt = async (name: string, script: string): Promise<string> => {
    const ran = await c.kubectl(["exec", "-n", ns, name, "--", "sh", "-c", script]);
    return `${ran.code} ${ran.out}${ran.err}`;
  };
  t.regex(await attempt("tight", "echo x > /file"), /Read-only file system/);
  t.regex(await attempt("plain", "mount -t tmpfs none /tmp"), /^[^0].*(permission denied|not permitted)/is);
  t.regex(await attempt("plain", "unshare -U true"), /^[^0].*not permitted/is);
  t.regex(await attempt("plain", "echo 1 > /proc/sys/kernel/panic"), /^[^0].*Read-only/is);
  t.is(await attempt("plain", "for p in bus fs irq sys; do [ ! -e /proc/$p ] || grep -q \" /proc/$p proc ro\" /proc/mounts || echo $p; done"), "0 ", "read-only, if this kernel has it");
  t.is(await attempt("plain", "for p in kcore keys timer_list sched_debug; do [ ! -e /proc/$p ] || cat /proc/$p; done | wc -c"), "0 0\n", "masked, if this kernel has it");
  t.notRegex(await sh(ns, "plain", "ls -l /dev"), /^b|kmsg|mem$|tun$|fuse$/m, "no device of the host");
  t.regex(await attempt("privileged", "mount -t tmpfs none /tmp && grep -c ' /tmp ' /proc/mounts"), /^0 1/);
});

test("a pod is told to end, may take its time, and is killed when that is up", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "graceful");
  await Promise.all([
    started(ns, pod("polite", { run: "trap 'echo told; sleep 1; echo done; exit 0' TERM; echo up; while :; do sleep 0.1; done", spec: { terminationGracePeriodSeconds: 30 } })),
    started(ns, pod("deaf", { run: "trap 'echo told' TERM; while :; do sleep 0.1; done", spec: { terminationGracePeriodSeconds: 6 } })),
    started(ns, pod("hooked", { spec: { terminationGracePeriodSeconds: 2 }, container: { lifecycle: { preStop: { exec: { command: ["/bin/sh", "-c", "echo hook > /proc/1/fd/1"] } } } } })),
  ]);
  const [polite, deaf, hooked] = ["polite", "deaf", "hooked"].map((name) => c.follow(t, ["logs", "-n", ns, "-f", name]));
  await polite!.until(/up/);
  const startedMs = performance.now();
  await Promise.all(["polite", "deaf", "hooked"].map((name) => c.ok(["delete", "pod", "-n", ns, name, "--wait=false"])));
  t.regex(await c.ok(["get", "pods", "-n", ns]), /Terminating/);
  await polite!.until(/told\ndone\n/);
  await deaf!.until(/told/);
  await hooked!.until(/hook/);
  await c.until(PODS, ns, (pods) => pods.length === 0, { timeoutMs: 20_000 });
  t.true(performance.now() - startedMs > 5900, "the deaf one was given its six seconds");
  t.deepEqual(await Promise.all([polite!.ended, deaf!.ended, hooked!.ended]), [0, 0, 0], "following a log ends with the container");
});

test("init containers run first, one after another; sidecars stay; a failing one holds the pod up", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "init");
  const step = (name: string, script: string, extra: object = {}): object =>
    ({ name, image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["/bin/sh", "-c", script], volumeMounts: [{ name: "work", mountPath: "/work" }], ...extra });
  await c.create(PODS, ns, {
    metadata: { name: "ordered" },
    spec: {
      terminationGracePeriodSeconds: 1, volumes: [{ name: "work", emptyDir: {} }], restartPolicy: "Never",
      initContainers: [step("first", "echo first >> /work/log"), step("side", "echo side >> /work/log; sleep 1000000", { restartPolicy: "Always", startupProbe: { exec: { command: ["/bin/grep", "side", "/work/log"] }, periodSeconds: 1 } }), step("second", "echo second >> /work/log")],
      containers: [step("main", "cat /work/log")],
    },
  });
  await c.create(PODS, ns, pod("stuck", { spec: { restartPolicy: "Never", initContainers: [step("fails", "exit 3", { volumeMounts: [] })] } }));
  const pods = await c.until(PODS, ns, (all) => all.find((p) => p.metadata.name === "ordered")?.status?.phase === "Succeeded" && all.find((p) => p.metadata.name === "stuck")?.status?.phase === "Failed");
  t.is(await c.ok(["logs", "-n", ns, "ordered"]), "first\nside\nsecond\n");
  t.is(pods.find((p) => p.metadata.name === "stuck")?.status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode, 3);
  t.is(c.containers().filter((r) => pods.some((p) => p.metadata.uid === r.podUid)).length, 0, "the sidecar ended with the pod");
});

test("probes: not ready until one succeeds, restarted when one fails", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "probes");
  await c.create(PODS, ns, pod("slow", { run: "sleep 2; touch /tmp/up; sleep 1000000", container: { readinessProbe: { exec: { command: ["/bin/test", "-e", "/tmp/up"] }, periodSeconds: 1 } } }));
  await c.create(PODS, ns, pod("sick", { run: "touch /tmp/up; sleep 2; rm /tmp/up; sleep 1000000", container: { livenessProbe: { exec: { command: ["/bin/test", "-e", "/tmp/up"] }, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1 } } }));
  await c.until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === "slow" && p.status?.phase === "Running" && !isReady(p)));
  await c.until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === "slow" && isReady(p)));
  await c.until(PODS, ns, (pods) => pods.some((p) => p.metadata.name === "sick" && (p.status?.containerStatuses?.[0]?.restartCount ?? 0) > 0));
  // Told within a second or two, beside the real work.
  await c.until(EVENTS, ns, (events) => ["slow", "sick"].every((name) => events.some((e) => e.reason === "Unhealthy" && e.involvedObject.name === name)));
  t.regex(await c.ok(["describe", "pod", "-n", ns, "slow"]), /Warning +Unhealthy .*Readiness probe failed: command \["\/bin\/test","-e","\/tmp\/up"\] ended with exit code 1/);
  const told = await c.ok(["describe", "pod", "-n", ns, "sick"]);
  t.regex(told, /Warning +Unhealthy .*Liveness probe failed/);
  t.regex(told, /Normal +Killing .*Container main failed liveness probe, will be restarted/);
});

test("pods reach each other by IP on any node, and the outside with their node's address", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "network");
  const serves = (name: string, nodeName: string): Promise<Pod> =>
    started(ns, pod(name, { run: `mkdir /tmp/www; echo "I am ${name}" > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www`, spec: { nodeName }, container: { readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 } } }));
  const pods = await Promise.all([serves("one", "node-1"), serves("also-one", "node-1"), serves("two", "node-2")]);
  for (const from of pods) {
    for (const to of pods) t.is(await sh(ns, from.metadata.name!, `wget -qO- http://${to.status!.podIP!}:8080/`), `I am ${to.metadata.name}\n`, `${from.metadata.name} -> ${to.metadata.name}`);
  }
  t.true((await sh(ns, "two", "ip -o -4 addr show eth0")).includes(` ${pods[2].status!.podIP!}/`));

  const seen: (string | undefined)[] = [];
  const outside = createServer((request, response) => {
    seen.push(request.socket.remoteAddress);
    response.end("outside\n");
  }).listen(0, c.state.gateway);
  t.teardown(() => void outside.close());
  await once(outside, "listening");
  const { port } = outside.address() as AddressInfo;
  for (const name of ["one", "two"]) t.is(await sh(ns, name, `wget -qO- http://${c.state.gateway}:${port}/`), "outside\n");
  t.deepEqual(seen, c.state.hosts.map((h) => h.address), "masqueraded");
});

test("pods on the host's network have the node's address and ports", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "host-network");
  const p = await started(ns, pod("bare", { spec: { hostNetwork: true, nodeName: "node-2" } }));
  t.is(p.status?.podIP, c.state.hosts[1]!.address);
  t.is(p.status?.hostIP, c.state.hosts[1]!.address);
  t.regex(await sh(ns, "bare", "ip -o link"), /gantry0/, "it sees the node's bridge");
});
