import test, { type ExecutionContext } from "ava";
import { flagOf, parseOptions } from "../../base/config.ts";
import { isCode } from "../../base/errors.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { toPodTemplate } from "./container-request.ts";
import { healthOfImage, nodeToPullOn, nodesWith, withSettings } from "./image-settings.ts";
import { hostsOfLink, mountsFrom } from "./other-containers.ts";
import { REFUSED_FLAGS } from "./refused-flags.ts";
import { CONTAINER_OPTIONS, requestOfFlags, warningsOf } from "./run-flags.ts";

const request = (line: string, env: Record<string, string> = {}, files: Record<string, string> = {}) => {
  const { values, positionals, rest } = parseOptions(CONTAINER_OPTIONS, { argv: line.split(" "), stopAtPositional: 0 });
  const [image, ...args] = [...positionals, ...rest];
  return requestOfFlags(values, image!, args, { env, folder: "/home/me/app", readFile: (path) => files[path]!, newName: () => "brave-otter" });
};
const template = (...given: Parameters<typeof request>) => toPodTemplate(request(...given), { "gantry.io/run": request(...given).name });
const spec = (line: string): NonNullable<Pod["spec"]> => template(line).spec!;
const fault = (t: ExecutionContext, line: string): string => {
  const error = t.throws(() => template(line));
  t.true(isCode(error, "BadRequest"), String(error));
  return error.message;
};

test("nothing but an image: docker's defaults", (t) => {
  t.deepEqual(template("nginx"), {
    metadata: { labels: { "gantry.io/run": "brave-otter" }, annotations: { "gantry.io/keep-writable-layer": "true" } },
    spec: { containers: [{ name: "brave-otter", image: "nginx", imagePullPolicy: "IfNotPresent" }], restartPolicy: "Never", terminationGracePeriodSeconds: 10 },
  });
});

test("the issue's own line: a bind mount of this folder and a port", (t) => {
  const pod = spec("-d --name web -v /home/me/app:/home/node/app -p 8080:8080 web:1".replace("-d ", ""));
  t.deepEqual(pod.volumes, [{ name: "bind-home-me-app", hostPath: { path: "/home/me/app", type: "" } }]);
  t.like(pod.containers[0], { name: "web", image: "web:1", volumeMounts: [{ name: "bind-home-me-app", mountPath: "/home/node/app" }], ports: [{ containerPort: 8080, hostPort: 8080, protocol: "TCP" }] });
});

test("what follows the image is the container's, flags and all", (t) => {
  t.deepEqual(spec("--rm busybox ls -l --rm").containers[0]!.args, ["ls", "-l", "--rm"]);
  const { command, args } = spec("--entrypoint sh busybox -c $(HOME)").containers[0]!;
  t.deepEqual([command, args], [["sh"], ["-c", "$$(HOME)"]], "docker expands nothing");
  t.like(spec("--entrypoint= busybox ls -l").containers[0], { command: ["ls", "-l"], args: undefined });
  t.deepEqual(withSettings(request("--entrypoint= busybox"), { Cmd: ["sh"] }).args, ["sh"]);
});

test("environment: files first, then flags; commas and = stay; a name alone takes its value from here", (t) => {
  const { containers } = template("-e LIST=a,b=c -e TOKEN -e NONE --env-file vars x", { TOKEN: "t" }, { vars: "LIST=old\nMORE=1\n" }).spec!;
  t.deepEqual(containers[0]!.env, [{ name: "LIST", value: "a,b=c" }, { name: "MORE", value: "1" }, { name: "TOKEN", value: "t" }]);
});

test("restart policies", (t) => {
  t.is(spec("--restart no x").restartPolicy, "Never");
  t.is(spec("--restart always x").restartPolicy, "Always");
  t.is(spec("--restart unless-stopped x").restartPolicy, "Always");
  t.is(spec("--restart on-failure x").restartPolicy, "OnFailure");
  t.is(template("--restart on-failure:3 x").metadata!.annotations!["gantry.io/max-restarts"], "3");
  t.regex(fault(t, "--restart sometimes x"), /--restart: "sometimes" is not no, always, unless-stopped or on-failure\[:N\]/);
  t.regex(fault(t, "--restart always:3 x"), /always:3/);
  t.regex(fault(t, "--rm --restart always x"), /--rm and --restart exclude each other/);
});

test("resources: caps, as docker means them", (t) => {
  t.deepEqual(spec("-m 512m --cpus 1.5 x").containers[0]!.resources, { limits: { cpu: "1500m", memory: "512Mi" }, requests: { cpu: "0" } });
  t.deepEqual(spec("-m 1g --memory-reservation 256m x").containers[0]!.resources, { limits: { memory: "1Gi" }, requests: { memory: "256Mi" } });
  t.regex(fault(t, "-m 1m --memory-reservation 2m x"), /is more than --memory/);
});

test("users: numbers are Kubernetes', names are for the image to know", (t) => {
  t.deepEqual(spec("-u 1000:100 x").containers[0]!.securityContext, { runAsUser: 1000, runAsGroup: 100 });
  t.is(template("-u node:users x").metadata!.annotations!["gantry.io/user"], "node:users");
  const { metadata, spec: { securityContext } = {} } = template("--group-add audio --group-add 7 --group-add video x");
  t.deepEqual([securityContext, metadata!.annotations!["gantry.io/groups"]], [{ supplementalGroups: [7] }, "audio,video"]);
  t.is(fault(t, "--group-add a,b x"), '--group-add: "a,b" is not a group: a number, or a name of the image\'s /etc/group');
});

test("security", (t) => {
  t.deepEqual(spec("--security-opt apparmor=mine --security-opt label=disable x").containers[0]!.securityContext?.appArmorProfile, { type: "Localhost", localhostProfile: "mine" });
  t.deepEqual(spec("--security-opt apparmor:unconfined x").containers[0]!.securityContext?.appArmorProfile, { type: "Unconfined" });
  t.throws(() => spec("--security-opt label=type:x x"), { message: /"label=type:x" is not no-new-privileges/ });
  t.deepEqual(spec("--cap-drop ALL --cap-add cap_net_admin --read-only --security-opt no-new-privileges --security-opt seccomp=unconfined x").containers[0]!.securityContext, {
    readOnlyRootFilesystem: true, capabilities: { add: ["NET_ADMIN"], drop: ["ALL"] }, allowPrivilegeEscalation: false, seccompProfile: { type: "Unconfined" },
  });
  t.deepEqual(spec("--privileged --pid host --ipc host x").containers[0]!.securityContext, { privileged: true });
  t.like(spec("--privileged --pid host --ipc host x"), { hostPID: true, hostIPC: true });
  t.deepEqual(spec("--sysctl net.core.somaxconn=1024 --group-add 7 x").securityContext, { sysctls: [{ name: "net.core.somaxconn", value: "1024" }], supplementalGroups: [7] });
});

test("networks: the host's, none, and one of a name, whose members find each other", (t) => {
  t.true(spec("--network host x").hostNetwork);
  t.is(template("--network none x").metadata!.annotations!["gantry.io/network"], "none");
  const { labels, annotations } = template("--network shop --name db --network-alias database x").metadata!;
  t.is(labels!["gantry.io/hosts-group"], "shop");
  t.is(annotations!["gantry.io/hosts-names"], "db,database");
  t.regex(fault(t, "--network host -p 80:80 x"), /--publish has no effect with --network host/);
});

test("hosts, DNS, health, terminal, pull, platform", (t) => {
  t.deepEqual(spec("--add-host db:10.0.0.5 --add-host v6:[fe80::1] x").hostAliases, [{ ip: "10.0.0.5", hostnames: ["db"] }, { ip: "fe80::1", hostnames: ["v6"] }]);
  t.like(spec("--dns 9.9.9.9 --dns-search corp --dns-option ndots:2 x"), { dnsPolicy: "None", dnsConfig: { nameservers: ["9.9.9.9"], searches: ["corp"], options: [{ name: "ndots", value: "2" }] } });
  t.deepEqual(spec("--health-cmd true --health-interval 5s --health-timeout 2s --health-retries 4 x").containers[0]!.readinessProbe, { exec: { command: ["/bin/sh", "-c", "true"] }, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 4 });
  t.like(spec("-it --pull always x").containers[0], { stdin: true, tty: true, imagePullPolicy: "Always" });
  t.deepEqual(spec("--platform linux/aarch64 --node node-2 x").nodeSelector, { "kubernetes.io/arch": "arm64", "kubernetes.io/hostname": "node-2" });
});

test("volumes: a named one is a claim, mounted twice it is still one; memory is memory", (t) => {
  const pod = spec("-v data:/a -v data:/b:ro --tmpfs /t:size=1m --shm-size 64m -v /own x");
  t.deepEqual(pod.volumes, [
    { name: "data", persistentVolumeClaim: { claimName: "data" } }, { name: "own-own", emptyDir: {} }, { name: "tmpfs-t", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } },
    { name: "tmpfs-dev-shm", emptyDir: { medium: "Memory", sizeLimit: "64Mi" } },
  ]);
  t.deepEqual(pod.containers[0]!.volumeMounts!.slice(0, 2), [{ name: "data", mountPath: "/a" }, { name: "data", mountPath: "/b", readOnly: true }]);
  t.regex(fault(t, "-v a:/x -v b:/x y"), /two mounts have the same target \/x/);
});

test("labels that Kubernetes would refuse are kept beside", (t) => {
  const { labels, annotations } = template("-l tier=web -l note=hello,world! -l flag x").metadata!;
  t.like(labels, { tier: "web", flag: "" });
  t.like(annotations, { note: "hello,world!" });
  t.regex(fault(t, "-l =x y"), /--label: "=x" is not NAME=VALUE/);
});

test("what the process and the control group get: annotations that the agent obeys", (t) => {
  const { annotations } = template("--ulimit nofile=1024:2048 --ulimit core=-1 --init --device /dev/fuse --pids-limit 64 --cpu-shares 512 --cpuset-cpus 0-1 --cpuset-mems 0 -m 64m --memory-swap 128m --oom-score-adj -5 x").metadata!;
  t.deepEqual(annotations, {
    "gantry.io/keep-writable-layer": "true", "gantry.io/ulimits": "nofile=1024:2048,core=-1:-1", "gantry.io/devices": "/dev/fuse:/dev/fuse:rwm", "gantry.io/init": "true", "gantry.io/pids-limit": "64",
    "gantry.io/cpu-shares": "512", "gantry.io/cpuset-cpus": "0-1", "gantry.io/cpuset-mems": "0", "gantry.io/memory-swap": "134217728", "gantry.io/oom-score-adj": "-5",
  });
  const rates = template("--blkio-weight 500 --device-read-bps /dev/vda:1mb --device-read-bps /dev/vdb:64k --device-write-bps /dev/vda:5 --device-read-iops /dev/vda:7 --device-write-iops /dev/vda:8 x").metadata!.annotations;
  t.like(rates, {
    "gantry.io/blkio-weight": "500", "gantry.io/device-read-bps": "/dev/vda:1048576,/dev/vdb:65536", "gantry.io/device-write-bps": "/dev/vda:5", "gantry.io/device-read-iops": "/dev/vda:7", "gantry.io/device-write-iops": "/dev/vda:8",
  });
  t.regex(fault(t, "--blkio-weight 5 x"), /--blkio-weight: "5" is not a whole number from 10 to 1000/);
  t.regex(fault(t, "--device-read-iops /dev/vda:1mb x"), /--device-read-iops: "1mb" is not a whole number/);
  t.regex(fault(t, "--ulimit nofile x"), /--ulimit: "nofile" is not NAME=SOFT\[:HARD\]/);
  t.regex(fault(t, "--device fuse x"), /--device: "fuse" is not \/dev\/NAME/);
  t.regex(fault(t, "--memory-swap 1g x"), /--memory-swap needs --memory/);
  t.regex(fault(t, "-m 1g --memory-swap 1m x"), /--memory-swap 1m is less than --memory 1g/);
  t.regex(fault(t, "--pids-limit 0 x"), /--pids-limit: "0" is not more than 0, or -1 for no limit/);
});

test("--tmpfs: its options are the mount's; without any docker's noexec", (t) => {
  const { metadata, spec: pod } = template("--tmpfs /t:size=1m,mode=1770,uid=5,exec --tmpfs /u --mount type=tmpfs,target=/m,tmpfs-mode=0700 x");
  t.deepEqual(pod!.volumes!.map((v) => v.name), ["tmpfs-m", "tmpfs-t", "tmpfs-u"]);
  t.like(metadata!.annotations, { "tmpfs.gantry.io/tmpfs-t": "noexec,mode=1770,uid=5,exec", "tmpfs.gantry.io/tmpfs-u": "noexec", "tmpfs.gantry.io/tmpfs-m": "noexec,mode=0700" });
  t.regex(fault(t, "--tmpfs /t:mode=x y"), /--tmpfs: "mode=x" is not mode=1777/);
});

test("CPU time by period and quota; other spellings; labels from a file; a RuntimeClass", (t) => {
  t.deepEqual(spec("--cpu-quota 50000 x").containers[0]!.resources!.limits, { cpu: "500m" });
  t.deepEqual(spec("--cpu-period 50000 --cpu-quota 100000 x").containers[0]!.resources!.limits, { cpu: "2" });
  t.regex(fault(t, "--cpus 1 --cpu-quota 5 x"), /leave one out/);
  t.is(spec("-h box x").hostname, "box");
  t.true(spec("--net host x").hostNetwork);
  t.deepEqual(spec("--dns-opt ndots:2 x").dnsConfig!.options, [{ name: "ndots", value: "2" }]);
  const { labels, annotations } = template("--label-file l --label b=flag --annotation note=1 x", {}, { l: "# labels\na=file\n\nb=file\n" }).metadata!;
  t.like(labels, { a: "file", b: "flag" });
  t.is(annotations!["note"], "1");
  t.is(spec("--runtime runc x").runtimeClassName, "runc");
  t.regex(fault(t, "--network container:web x"), /--network container:web is not supported: .* containers of one pod/);
  t.regex(fault(t, "--uts host x"), /--uts host needs --network host/);
  t.regex(warningsOf(parseOptions(CONTAINER_OPTIONS, { argv: ["--log-opt", "max-size=1m"] }).values)[0]!, /--log-opt max-size=1m has no effect/);
});

test("docker's flags that Gantry doesn't do are known, with a reason and a way", (t) => {
  for (const [key, { refused }] of Object.entries(REFUSED_FLAGS)) {
    t.true((refused ?? "").length > 10, key);
    t.regex(fault(t, `--${flagOf(key)} x y`), new RegExp(`^--${flagOf(key)} is not supported: `));
  }
  t.regex(fault(t, "-a stdout x"), /^--attach is not supported/);
});

/** `docker run --help` of 28.0, without those of Windows. */
const DOCKER_RUN = `add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems
detach detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add
health-cmd health-interval health-retries health-start-interval health-start-period health-timeout help hostname init interactive ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver log-opt
mac-address memory memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull quiet read-only
restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket user userns uts volume volume-driver volumes-from workdir`.split(/\s+/);
/** Of `run` alone, and what the parser itself knows. */
const ELSEWHERE = ["detach", "detach-keys", "sig-proxy", "help"];
test("--userns auto: users of its own", (t) => {
  t.is(template("--userns auto x").spec!.hostUsers, false);
  t.is(template("--userns host x").spec!.hostUsers, undefined);
});

test("every flag of docker run is known", (t) => {
  const known = new Set([...Object.keys(CONTAINER_OPTIONS).map(flagOf), ...ELSEWHERE]);
  t.deepEqual(DOCKER_RUN.filter((flag) => !known.has(flag)), []);
});

const other = (changes: Partial<NonNullable<Pod["spec"]>>, mounts: NonNullable<NonNullable<Pod["spec"]>["containers"][0]["volumeMounts"]>, podIP?: string) => {
  const container = { name: "db", image: "x", volumeMounts: mounts };
  return { pod: { metadata: { name: "db" }, spec: { containers: [container], ...changes }, status: podIP ? { podIP } : {} } as Pod, container, status: undefined };
};

test("--link: the other's address under both names; one without an address is said", (t) => {
  t.deepEqual(request("--link db:database x").links, [{ container: "db", alias: "database" }]);
  t.deepEqual(hostsOfLink({ container: "db", alias: "database" }, other({}, [], "10.0.0.9").pod), ["database:10.0.0.9", "db:10.0.0.9"]);
  t.throws(() => hostsOfLink({ container: "db", alias: "db" }, other({}, []).pod), { message: /--link: container db has no address of its own/ });
  t.regex(fault(t, "--link a:b:c x"), /is not CONTAINER\[:NAME\]/);
});

test("--volumes-from: named volumes, folders, secrets; what only the other pod can use is said; memory is left out", (t) => {
  t.deepEqual(request("--volumes-from db:ro x").volumesFrom, [{ container: "db", readOnly: true }]);
  const found = other({ volumes: [{ name: "a", persistentVolumeClaim: { claimName: "data" } }, { name: "b", hostPath: { path: "/srv" } }, { name: "s", secret: { secretName: "pw" } }, { name: "t", emptyDir: { medium: "Memory" } }] },
    [{ name: "a", mountPath: "/data" }, { name: "b", mountPath: "/srv", readOnly: true }, { name: "s", mountPath: "/run/secrets/pw", subPath: "pw" }, { name: "t", mountPath: "/t" }]);
  t.deepEqual(mountsFrom(found, false), [
    { type: "volume", source: "data", target: "/data", readOnly: false }, { type: "bind", source: "/srv", target: "/srv", readOnly: true }, { type: "secret", source: "pw", key: "pw", target: "/run/secrets/pw", readOnly: false },
  ]);
  t.true(mountsFrom(found, true).every((m) => m.readOnly));
  t.throws(() => mountsFrom(other({ volumes: [{ name: "o", emptyDir: {} }] }, [{ name: "o", mountPath: "/own" }]), false), { message: /--volumes-from db: \/own is a volume without a name.*-v NAME:\/own/ });
});

test("an image's health check and ports, unless the command line says otherwise", (t) => {
  const image = { ExposedPorts: { "80/tcp": {}, "53/udp": {}, "x": {} }, Healthcheck: { Test: ["CMD-SHELL", "curl localhost"], Interval: 5e9, Retries: 2 } };
  const check = { command: ["/bin/sh", "-c", "curl localhost"], intervalMs: 5000, timeoutMs: 30_000, startPeriodMs: 0, retries: 2 };
  t.deepEqual(withSettings(request("x"), image).health, check);
  t.deepEqual(withSettings(request("x"), image).ports, []);
  t.deepEqual(withSettings(request("--health-interval 7s --health-retries 9 x"), image).health, { ...check, intervalMs: 7000, retries: 9 });
  t.is(withSettings(request("--no-healthcheck x"), image).health, undefined);
  t.deepEqual(withSettings(request("--health-cmd true x"), image).health?.command, ["/bin/sh", "-c", "true"]);
  t.deepEqual(withSettings(request("-P -p 8080:80 --expose 9000 x"), image).ports, [
    { hostIp: "", hostPort: 8080, containerPort: 80, protocol: "TCP" }, { hostIp: "", hostPort: 0, containerPort: 9000, protocol: "TCP" }, { hostIp: "", hostPort: 0, containerPort: 53, protocol: "UDP" },
  ]);
  for (const nonsense of [undefined, 5, {}, { Test: "x" }, { Test: ["NONE"] }, { Test: ["CMD"] }, { Test: [1] }]) t.is(healthOfImage(nonsense), undefined);
});

test("an image that nobody has is fetched by a node that is ready and that the container may come to", (t) => {
  const node = (name: string, ready: string, arch = "amd64"): Node => ({ metadata: { name, labels: { "kubernetes.io/arch": arch } }, status: { conditions: [{ type: "Ready", status: ready }] } }) as unknown as Node;
  const nodes = [node("a", "False"), node("b", "True", "arm64"), node("c", "True"), node("d", "True")];
  t.is(nodeToPullOn(nodes, request("x")), "b");
  t.is(nodeToPullOn(nodes, request("--platform linux/amd64 x")), "c");
  t.is(nodeToPullOn(nodes, { ...request("x"), nodes: ["d"] }), "d");
  t.is(nodeToPullOn([], request("x")), undefined);
  const having = (n: Node): Node => ({ ...n, status: { ...n.status, images: [{ names: ["docker.io/library/x:1"] }] } });
  t.deepEqual(nodesWith([having(nodes[0]!), having(nodes[1]!), nodes[2]!, having(nodes[3]!)], "docker.io/library/x:1"), ["b", "d"]);
});
