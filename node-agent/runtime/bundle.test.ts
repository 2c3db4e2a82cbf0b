import test from "ava";
import { buildConfig, type Host } from "./bundle.ts";
import type { ContainerSpec } from "./container-runtime.ts";
import { resolveUser } from "./user.ts";

const spec = (changes: Partial<ContainerSpec> = {}): ContainerSpec => ({
  id: "0123456789abc", name: "c", layerDirs: [], args: ["sh"], env: [], cwd: "/", user: "", supplementalGroups: [], hostname: "h", namespaces: { network: "/n", ipc: "/i", uts: "/u" }, mounts: [], tty: false, stdin: false,
  readOnlyRoot: false, privileged: false, noNewPrivileges: true, capabilitiesAdd: [], capabilitiesDrop: [], seccomp: { type: "Unconfined" }, sysctls: {}, cgroupPath: "c", limits: { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 }, oomScoreAdj: 0, logPath: "/log", labels: {}, ...changes,
});
const profileOf = (appArmor: ContainerSpec["appArmor"], loaded: readonly string[] | undefined, more: Partial<ContainerSpec> = {}): string | undefined => {
  const host: Host = {
    architecture: "amd64", cgroupV2: false, boundingSet: new Set(), leastOomScoreAdj: -1000, devices: () => [], readSeccompProfile: () => { throw new Error("unused"); }, appArmorProfiles: () => loaded && new Set(loaded),
  };
  return buildConfig(spec({ ...(appArmor && { appArmor }), ...more }), { uid: 0, gid: 0, additionalGids: [] }, host, { rootPath: "/r", cgroupsPath: "/c" }).process.apparmorProfile;
};

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
});
