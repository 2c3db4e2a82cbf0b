import test from "ava";
import { Container, PodAssignment, type ContainerSecurity, type DeepPartial, type PodSecurity } from "../../proto/gen/gantry/v1/agent.ts";
import type { Image } from "../images/image-service.ts";
import { buildContainerSpec, commandLine, cpuShares, oomScoreAdj, type ContainerSpecInput } from "./container-spec.ts";

const image = (config: Partial<Image["config"]> = {}): Image => ({
  id: "sha256:1", manifestDigest: "sha256:2", names: [], sizeBytes: 1, architecture: "amd64", createdMs: 0, manifestBytes: 0, mediaType: "", layers: [], layerDirs: ["/l1"],
  config: { entrypoint: [], cmd: ["sleep", "1"], env: ["FROM=image"], workingDir: "/work", user: "", stopSignal: "", volumes: [], labels: {}, exposedPorts: [], ...config },
});
const input = (container: DeepPartial<Container> = {}, more: { pod?: DeepPartial<PodAssignment>; image?: Image } = {}): ContainerSpecInput => ({
  id: "id-1", pod: PodAssignment.fromPartial({ uid: "u", name: "p", namespace: "n", qosClass: "Burstable", ...more.pod }), container: Container.fromPartial({ name: "c", image: "i", ...container }),
  image: more.image ?? image(), volumeMounts: [], logPath: "/log", nodeMemoryBytes: 1000, defaultPidsLimit: 4096, singleProcessOomKill: false,
  sandbox: { namespaces: { network: "/n", ipc: "/i", uts: "/u" }, hostname: "p", podIp: "10.0.0.2", hostIp: "192.0.2.1", files: new Map([["/etc/hosts", "/run/hosts"]]), cgroupPath: "kubepods/burstable/podu" },
});

test("command and args replace entrypoint and cmd as upstream's table says", (t) => {
  const of = (command: string[], args: string[]) => commandLine({ command, args }, { entrypoint: ["/ep"], cmd: ["cmd"] }, new Map([["V", "x"]]));
  t.deepEqual(of([], []), ["/ep", "cmd"]);
  t.deepEqual(of(["c"], []), ["c"]);
  t.deepEqual(of([], ["a", "$(V)"]), ["/ep", "a", "x"]);
  t.deepEqual(of(["c"], ["a"]), ["c", "a"]);
});

test("secure unless told otherwise", (t) => {
  const spec = buildContainerSpec(input());
  t.true(spec.noNewPrivileges);
  t.deepEqual(spec.seccomp, { type: "RuntimeDefault" });
  t.false(spec.privileged);
  t.false(buildContainerSpec(input({ security: { allowPrivilegeEscalation: true } })).noNewPrivileges);
  t.deepEqual(buildContainerSpec(input({ security: { privileged: true } })).seccomp, { type: "Unconfined" });
});

test("the container's security settings win over the pod's, which win over the image's", (t) => {
  const user = (container: DeepPartial<ContainerSecurity>, pod: DeepPartial<PodSecurity>, own: string) => buildContainerSpec(input({ security: container }, { pod: { security: pod }, image: image({ user: own }) })).user;
  t.is(user({}, {}, "app:staff"), "app:staff");
  t.is(user({}, { runAsUser: 5 }, "app:staff"), "5");
  t.is(user({ runAsUser: 6, runAsGroup: 7 }, { runAsUser: 5 }, "app"), "6:7");
  t.is(user({}, { runAsGroup: 7 }, ""), "0:7");
});

test("runAsNonRoot refuses root and names that can't be told from it", (t) => {
  const refuse = (own: string) => t.throws(() => buildContainerSpec(input({}, { pod: { security: { runAsNonRoot: true } }, image: image({ user: own }) }))).message;
  t.regex(refuse(""), /would run as root/);
  t.regex(refuse("app"), /is not a number/);
  t.notThrows(() => buildContainerSpec(input({}, { pod: { security: { runAsNonRoot: true } }, image: image({ user: "1000" }) })));
});

test("limits become cgroup values", (t) => {
  const spec = buildContainerSpec(input({ requests: { milliCpu: 500, memoryBytes: 100 }, limits: { milliCpu: 1500, memoryBytes: 200 } }));
  t.deepEqual(spec.limits, { cpuShares: 512, cpuQuotaMilli: 1500, memoryBytes: 200, swapBytes: 0, pids: 4096, hugePages: {} });
  t.true(spec.oomGroup);
  t.false(buildContainerSpec({ ...input(), singleProcessOomKill: true }).oomGroup);
  t.is(spec.oomScoreAdj, 900);
  t.is(cpuShares(0), 2);
  t.is(oomScoreAdj("Guaranteed", 0, 1), -997);
  t.is(oomScoreAdj("BestEffort", 0, 1), 1000);
});

for (const [memoryBytes, annotation, swapBytes] of [[200, undefined, 0], [200, "300", 100], [200, "-1", -1], [400, "300", 0], [0, "300", 0], [0, "-1", -1]] as const) {
  test(`swap beside ${memoryBytes} of memory with --memory-swap ${annotation}: ${swapBytes}`, (t) => {
    t.is(buildContainerSpec(input({ limits: { memoryBytes } }, { pod: { annotations: annotation === undefined ? {} : { "gantry.io/memory-swap": annotation } } })).limits.swapBytes, swapBytes);
  });
}

test("an image and a container without a command can't run", (t) => {
  t.regex(t.throws(() => buildContainerSpec(input({}, { image: image({ cmd: [] }) }))).message, /no command specified/);
});

test("a volume on a path of the pod's own files takes its place", (t) => {
  const spec = buildContainerSpec({ ...input(), volumeMounts: [{ source: "/v", destination: "/etc/hosts", type: "bind", options: ["ro"] }] });
  t.deepEqual(spec.mounts.map((m) => m.source), ["/v"]);
});

test("what docker's flags say beside: annotations; one that can't be read is said, not left out", (t) => {
  const spec = buildContainerSpec(input({}, { pod: { annotations: { "gantry.io/ulimits": "nofile=10:20", "gantry.io/devices": "/dev/fuse:/dev/f:r", "gantry.io/init": "true", "gantry.io/pids-limit": "-1", "gantry.io/cpu-shares": "512", "gantry.io/oom-score-adj": "-5" } } }));
  t.like(spec, { rlimits: [{ name: "nofile", soft: 10, hard: 20 }], devices: [{ source: "/dev/fuse", target: "/dev/f", access: "r" }], init: true, oomScoreAdj: -5 });
  t.like(spec.limits, { pids: 0, cpuShares: 512 });
  t.throws(() => buildContainerSpec(input({}, { pod: { annotations: { "gantry.io/ulimits": "files=1" } } })), { message: /annotation gantry.io\/ulimits: "files=1" is not NAME=SOFT\[:HARD\]/ });
});
