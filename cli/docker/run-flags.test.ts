import test, { type ExecutionContext } from "ava";
import { parseOptions } from "../../base/config.ts";
import { isCode } from "../../base/errors.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { toPodTemplate } from "./container-request.ts";
import { CONTAINER_OPTIONS, requestOfFlags } from "./run-flags.ts";

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
