// Control groups for real: on whatever this host has, and on the unified tree of a hybrid host for what version 2 does differently.
import test from "ava";
import type { ExecutionContext } from "ava";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { customAlphabet } from "nanoid";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { CgroupTree, podCgroupPath } from "../../node-agent/cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "../../node-agent/cgroups/detect.ts";
import type { CgroupLayout } from "../../node-agent/cgroups/detect.ts";
import { prepareHybridHost, undoHybridHost } from "../../node-agent/cgroups/hybrid.ts";
import { mountTmpfs, readMounts } from "../../node-agent/linux/mount.ts";
import { eventually, temporaryDirectory } from "../helpers/hosts.ts";

const unique = customAlphabet("0123456789abcdefghijklmnopqrstuvwxyz", 8);
const host = readCgroupLayout();
/** The part of a hybrid host that is version 2: freezing, killing and removing need no controller. */
const unifiedOnly: CgroupLayout = { ...host, version: "v2", hierarchies: new Map() };

interface Subject {
  readonly tree: CgroupTree;
  readonly root: string;
  readonly mounts: readonly string[];
}

const subject = (t: ExecutionContext, layout: CgroupLayout): Subject => {
  const root = `gantry-test-${unique()}`;
  const tree = new CgroupTree({ layout, root, clock: new SystemClock(), logger: silentLogger });
  const mounts = [...layout.hierarchies.values(), ...(layout.unified === undefined ? [] : [layout.unified])];
  const awake = setInterval(() => undefined, 1000); // SystemClock's timers alone don't keep a process alive
  t.teardown(() => clearInterval(awake)); // last: they run in reverse
  t.teardown(async () => {
    await tree.destroy();
    const left = mounts.filter((mount) => existsSync(join(mount, root)));
    if (left.length > 0) throw new Error(`groups are left in ${left.join(", ")}`);
  });
  return { tree, root, mounts };
};

/** A leaf as the runtime makes it: a group in every hierarchy with a process in it. */
const startIn = async (t: ExecutionContext, { root, mounts, tree }: Subject, path: string, script: string): Promise<{ readonly pid: number; readonly ended: Promise<unknown> }> => {
  tree.create(path);
  for (const mount of mounts) if (!mount.endsWith("cpuset")) mkdirSync(join(mount, root, path), { recursive: true }); // a cpuset would want its CPUs first
  const places = mounts.map((mount) => join(mount, root, path, "cgroup.procs")).filter((file) => existsSync(file));
  const child = spawn("sh", ["-c", `read go; ${script}`], { stdio: ["pipe", "ignore", "ignore"] });
  t.teardown(() => child.kill("SIGKILL"));
  const ended = once(child, "exit");
  for (const place of places) writeFileSync(place, String(child.pid));
  child.stdin.write("\n");
  return { pid: child.pid!, ended };
};

test("Burstable pods weigh together what they request, and nothing once they are gone", async (t) => {
  const { tree, root } = subject(t, host);
  const [mount, file] = host.version === "v2" ? [host.unified!, "cpu.weight"] : [host.hierarchies.get("cpu")!, "cpu.shares"];
  const weightOf = (path: string): string => readFileSync(join(mount, root, path, file), "utf8").trim();
  tree.prepare();
  const idle = weightOf("kubepods/burstable");
  const pods = ["u1", "u2"].map((uid) => podCgroupPath("Burstable", uid));
  for (const pod of pods) tree.create(pod, { cpuShares: 2048, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 });
  t.is(weightOf("kubepods/burstable"), host.version === "v2" ? "157" : "4096");
  const next = new CgroupTree({ layout: host, root, clock: new SystemClock(), logger: silentLogger });
  next.prepare();
  t.is(weightOf("kubepods/burstable"), host.version === "v2" ? "157" : "4096");
  for (const pod of pods) await next.remove(pod);
  t.is(weightOf("kubepods/burstable"), idle);
  t.not(weightOf("kubepods"), idle);
});

for (const [name, layout] of [["this host's", host], ["the unified tree's", unifiedOnly]] as const) {
  const run = layout.version === "v2" && layout.unified === undefined ? test.skip : test;

  run(`${name} groups are found, killed with all that forks in them, and removed`, async (t) => {
    const here = subject(t, layout);
    const { tree } = here;
    const pod = podCgroupPath("BestEffort", "u1");
    const { pid, ended } = await startIn(t, here, `${pod}/c1`, "while :; do sleep 100 & sleep 0.01; done");
    t.true(await eventually(() => tree.processes(pod).length > 3));
    t.true(tree.processes(pod).includes(pid));
    await t.throwsAsync(new CgroupTree({ layout, root: here.root, clock: hurried(), logger: silentLogger }).remove(pod), { code: "Conflict", message: /processes \d+/ });
    await tree.kill(pod);
    await ended;
    await tree.remove(pod);
    t.false(tree.exists(pod));
    await tree.remove(pod);
  });

  run(`${name} groups freeze and go on`, async (t) => {
    const here = subject(t, layout);
    const file = join(temporaryDirectory(t), "beat");
    await startIn(t, here, "c1", `while :; do echo x >> ${file}; sleep 0.01; done`);
    t.true(await eventually(() => existsSync(file)));
    await here.tree.freeze("c1");
    const size = readFileSync(file).length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.is(readFileSync(file).length, size);
    here.tree.thaw("c1");
    t.true(await eventually(() => readFileSync(file).length > size));
    await here.tree.freeze("c1"); // and a frozen group can be killed: destroy() at the end does
  });
}

test("version 1: groups get their processors and memory nodes from above when they are made, not from whoever makes them", (t) => {
  const cpuset = host.hierarchies.get("cpuset");
  if (cpuset === undefined) {
    t.pass("this host has no version 1 cpuset");
    return;
  }
  const { tree, root } = subject(t, host);
  tree.prepare();
  const group = join(cpuset, root, "kubepods/podx/c1");
  mkdirSync(group, { recursive: true });
  for (const file of ["cpuset.cpus", "cpuset.mems"]) t.is(readFileSync(join(group, file), "utf8"), readFileSync(join(cpuset, file), "utf8"));
});

test("limits hold: memory kills and is counted, statistics tell what was used", async (t) => {
  const here = subject(t, host);
  const { tree } = here;
  tree.prepare();
  const pod = podCgroupPath("Burstable", "u2");
  tree.create(pod, { cpuShares: 256, cpuQuotaMilli: 500, memoryBytes: 32 << 20, pids: 50 });
  tree.create(`${pod}/c1`, { cpuShares: 256, cpuQuotaMilli: 500, memoryBytes: 16 << 20, pids: 20 });
  const { ended } = await startIn(t, here, `${pod}/c1`, "x=12345678; while :; do x=$x$x; done");
  await ended;
  t.true(tree.readOomKills(`${pod}/c1`) >= 1);
  const stats = tree.readStats(`${pod}/c1`)!;
  t.is(stats.memoryLimitBytes, 16 << 20);
  t.true(stats.cpuNs > 0);
  t.is(stats.oomKills, tree.readOomKills(`${pod}/c1`));
  t.is(tree.readOomKills(`${pod}/gone`), 0);
  t.throws(() => tree.apply(`${pod}/gone`, { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 }), { code: "NotFound", message: /can't set cpu/ });
});

// Every test that runs crun on a hybrid host needs this, and they run at the same time: so it stays, and undoing is tested on other mounts.
test("a hybrid host is made ready for crun, more than once", (t) => {
  const record = join(temporaryDirectory(t), "run", "hybrid");
  prepareHybridHost(readCgroupLayout(), record);
  const after = readCgroupLayout();
  if (after.version === "hybrid") t.deepEqual(after.unifiedControllers, []);
  t.deepEqual(prepareHybridHost(after, record), []);
});

test("what was mounted for crun, and only that, is taken away again", (t) => {
  const directory = temporaryDirectory(t);
  const record = join(directory, "hybrid");
  const [ours, others, used] = ["ours", "others", "used"].map((name) => join(directory, name)) as [string, string, string];
  for (const target of [ours, others, used]) {
    mkdirSync(target);
    mountTmpfs(target);
  }
  const user = openSync(used, "r");
  t.teardown(() => closeSync(user));
  writeFileSync(record, `${ours}\n${ours}\n${used}\n${join(directory, "never-mounted")}\n`);
  undoHybridHost(record);
  undoHybridHost(record);
  t.deepEqual(readMounts().map((mount) => mount.target).filter((target) => target.startsWith(directory)), [others, used]);
  t.false(existsSync(ours));
});

/** Time that runs away, so that a wait of seconds is over at once. */
const hurried = (): SystemClock => {
  const clock = new SystemClock();
  let now = 0;
  clock.monotonicMs = () => (now += 2000);
  return clock;
};
