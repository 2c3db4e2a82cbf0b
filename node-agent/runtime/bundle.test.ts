import test from "ava";
import { buildConfig, ociJson, type Host, type OciConfig, type OciDevice } from "./bundle.ts";
import type { CgroupFeatures } from "../cgroups/cgroup-tree.ts";
import type { ContainerSpec } from "./container-runtime.ts";
import { resolveUser } from "./user.ts";

const spec = (changes: Partial<ContainerSpec> = {}): ContainerSpec => ({
  id: "0123456789abc", name: "c", layerDirs: [], args: ["sh"], env: [], cwd: "/", user: "", supplementalGroups: [], hostname: "h", namespaces: { network: "/n", ipc: "/i", uts: "/u" }, mounts: [], tty: false, stdin: false,
  readOnlyRoot: false, privileged: false, noNewPrivileges: true, capabilitiesAdd: [], capabilitiesDrop: [], seccomp: { type: "Unconfined" }, sysctls: {}, cgroupPath: "c", limits: { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 }, oomScoreAdj: 0, logPath: "/log", labels: {}, ...changes,
});
const device = (path: string, minor: number): OciDevice => ({ path, type: "c", major: 10, minor, fileMode: 0o660, uid: 0, gid: 7 });
const FEATURES: CgroupFeatures = { swap: true, oomGroup: false, hugePageSizes: ["1GB", "2MB"], ioWeight: true, ioRates: true };
const host: Host = {
  architecture: "amd64", cgroupV2: false, cgroupFeatures: FEATURES, boundingSet: new Set(), leastOomScoreAdj: -1000, devices: () => [device("/dev/fuse", 229)], devicesAt: (path) => (path === "/dev/fuse" ? [device(path, 229)] : path === "/dev/snd" ? [device("/dev/snd/a", 1), device("/dev/snd/b", 2)] : []),
  initProgram: () => "/usr/bin/tini-static", readSeccompProfile: () => { throw new Error("unused"); }, appArmorProfiles: () => undefined,
};
const config = (changes: Partial<ContainerSpec>, more: Partial<Host> = {}): OciConfig => buildConfig(spec(changes), { uid: 0, gid: 0, additionalGids: [] }, { ...host, ...more }, { rootPath: "/r", cgroupsPath: "/c" });
const profileOf = (appArmor: ContainerSpec["appArmor"], loaded: readonly string[] | undefined, more: Partial<ContainerSpec> = {}): string | undefined =>
  config({ ...(appArmor && { appArmor }), ...more }, { appArmorProfiles: () => loaded && new Set(loaded) }).process.apparmorProfile;

for (const [title, wanted, loaded, result] of [
  ["the default where one is loaded", undefined, ["other", "docker-default"], "docker-default"],
  ["the default where none is", undefined, ["other"], undefined],
  ["the default without AppArmor", { type: "RuntimeDefault" }, undefined, undefined],
  ["none", { type: "Unconfined" }, ["docker-default"], undefined],
  ["the node's own", { type: "Localhost", profile: "mine" }, ["mine"], "mine"],
] as const) test(`AppArmor: ${title}`, (t) => t.is(profileOf(wanted, loaded), result));

test("AppArmor: a profile that can't be applied is said, not left out; a privileged container has none by default", (t) => {
  t.throws(() => profileOf({ type: "Localhost", profile: "mine" }, undefined), { message: /cannot enforce "mine": AppArmor is not enabled on this node/ });
  t.throws(() => profileOf({ type: "Localhost", profile: "mine" }, ["other"]), { message: /no profile "mine" is loaded on this node/ });
  t.is(profileOf(undefined, ["docker-default"], { privileged: true }), undefined);
  t.is(profileOf({ type: "Localhost", profile: "mine" }, ["mine"], { privileged: true }), "mine");
});

test("groups of the image are merged, unless the pod's are all that there shall be", (t) => {
  const read = (path: string): string => (path === "/etc/passwd" ? "app:x:1000:1000:::\n" : "app:x:1000:\naudio:x:29:app\n");
  t.deepEqual(resolveUser("app", [5], read).additionalGids, [5, 29, 1000]);
  t.deepEqual(resolveUser("app", [5], read, true).additionalGids, [5, 1000]);
  t.deepEqual(resolveUser("app", ["audio", 5], read, true).additionalGids, [5, 29, 1000]);
  t.throws(() => resolveUser("app", ["video"], read), { message: "Unable to find group video: no matching entries in group file" });
});

test("rlimits: an unlimited one is written, read and written again without a digit's difference", (t) => {
  const { process } = config({ rlimits: [{ name: "nofile", soft: 1024, hard: 2048 }, { name: "core", soft: 0, hard: -1 }] });
  const text = ociJson(process.rlimits);
  t.is(text, '[{"type":"RLIMIT_NOFILE","soft":1024,"hard":2048},{"type":"RLIMIT_CORE","soft":0,"hard":18446744073709551615}]');
  t.is(ociJson(JSON.parse(text)), text);
  t.is(config({}).process.rlimits, undefined);
});

test("devices: under their names in the container, each with a rule; a folder is all that is in it; one that isn't there is said", (t) => {
  interface Linux { readonly devices?: readonly { readonly path: string }[]; readonly resources: { readonly devices: readonly object[] } }
  const linux = (changes: Partial<ContainerSpec>) => config(changes)["linux"] as Linux;
  const { devices, resources } = linux({ devices: [{ source: "/dev/fuse", target: "/dev/f", access: "rw" }, { source: "/dev/snd", target: "/dev/sound", access: "r" }] });
  t.deepEqual(devices?.map((d) => d.path), ["/dev/f", "/dev/sound/a", "/dev/sound/b"]);
  t.deepEqual(resources.devices.slice(-3), [{ allow: true, type: "c", major: 10, minor: 229, access: "rw" }, { allow: true, type: "c", major: 10, minor: 1, access: "r" }, { allow: true, type: "c", major: 10, minor: 2, access: "r" }]);
  t.is(linux({}).devices, undefined);
  t.deepEqual(linux({ privileged: true, devices: [{ source: "/dev/fuse", target: "/dev/fuse", access: "rwm" }] }).devices?.map((d) => d.path), ["/dev/fuse"]);
  t.throws(() => config({ devices: [{ source: "/dev/nosuch", target: "/dev/x", access: "rwm" }] }), { message: /device "\/dev\/nosuch": this node has no such device/ });
});

test("an init stands before the command, bound from the node; without one that is said", (t) => {
  const { process, mounts } = config({ init: true, args: ["sleep", "1"] });
  t.deepEqual(process.args, ["/dev/init", "--", "sleep", "1"]);
  t.like((mounts as object[]).at(-1), { source: "/usr/bin/tini-static", destination: "/dev/init", type: "bind" });
  t.throws(() => config({ init: true }, { initProgram: () => undefined }), { message: /this node has no init to give: install tini/ });
});

test("cpusets", (t) => {
  t.like(config({ cpusetCpus: "0-1", cpusetMems: "0" })["linux"], { resources: { cpu: { cpus: "0-1", mems: "0" } } });
});

const V2 = { cgroupV2: true, cgroupFeatures: { ...FEATURES, oomGroup: true } };
for (const [title, limits, host, memory, unified] of [
  ["version 1: swap counts with memory", { memoryBytes: 100, swapBytes: 20 }, {}, { limit: 100, swap: 120 }, undefined],
  ["version 1: none", { memoryBytes: 100, swapBytes: 0 }, {}, { limit: 100, swap: 100 }, undefined],
  ["version 1: any", { memoryBytes: 100, swapBytes: -1 }, {}, { limit: 100, swap: -1 }, undefined],
  ["version 1: without a limit of memory there can't be one of swap", { memoryBytes: 0, swapBytes: 0 }, {}, undefined, undefined],
  ["version 1 without swap accounting", { memoryBytes: 100, swapBytes: 0 }, { cgroupFeatures: { ...FEATURES, swap: false } }, { limit: 100 }, undefined],
  ["version 2: swap is apart", { memoryBytes: 100, swapBytes: 20 }, V2, { limit: 100 }, { "memory.swap.max": "20", "memory.oom.group": "1" }],
  ["version 2: any amount of memory and no swap", { memoryBytes: 0, swapBytes: 0 }, V2, undefined, { "memory.swap.max": "0", "memory.oom.group": "1" }],
  ["version 2: any", { memoryBytes: 0, swapBytes: -1 }, V2, undefined, { "memory.swap.max": "max", "memory.oom.group": "1" }],
  ["version 2 without a memory controller", { memoryBytes: 0, swapBytes: 0 }, { cgroupV2: true, cgroupFeatures: { ...FEATURES, swap: false } }, undefined, undefined],
] as const) test(`memory, ${title}`, (t) => {
  const { resources } = config({ oomGroup: true, limits: { cpuShares: 512, cpuQuotaMilli: 0, pids: 0, ...limits } }, host)["linux"] as { resources: { memory?: object; unified?: object } };
  t.deepEqual(resources.memory, memory);
  t.deepEqual(resources.unified, unified);
});

test("huge pages: a limit of each size of the node, where its control groups have them", (t) => {
  const limits = { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 };
  const of = (hugePages: object, more: Partial<Host> = {}): unknown => (config({ limits: { ...limits, ...hugePages } }, more)["linux"] as { resources: { hugepageLimits?: object } }).resources.hugepageLimits;
  t.deepEqual(of({ hugePages: { "2MB": 4 << 20 } }), [{ pageSize: "1GB", limit: 0 }, { pageSize: "2MB", limit: 4 << 20 }]);
  t.is(of({}), undefined, "as a build's");
  t.is(of({ hugePages: {} }, { cgroupFeatures: { ...FEATURES, hugePageSizes: [] } }), undefined);
});
