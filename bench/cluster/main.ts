// bench/cluster: 0 -> 100 -> 0 containers on three nodes, memory and idle CPU with 100 running, and the floor on this machine. See
// bench/README.md.
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { childrenOf, memoryOf, pssBytesOf } from "../../cli/cluster/memory.ts";
import { IMAGE, row, withCluster } from "./bench-cluster.ts";
import { measureFloor } from "./floor.ts";
import { stagesOf } from "./stages.ts";
import { scaleRound, type ScaleRound } from "./scale.ts";
import { median, percentile } from "../statistics.ts";

const MIB = 2 ** 20;
/** Before each round: the kernel takes network namespaces down in the background, for about a second after the last pod is gone. */
const SETTLE_MS = 2000;

/** CPU time of a process so far, in seconds: utime + stime of proc(5), in ticks of 1/100 s. */
const cpuSecondsOf = (pid: number): number => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
};

/** The conmon processes whose run directory is below `dir`, with their containers' first processes. */
const conmonsBelow = (dir: string): readonly number[] =>
  readdirSync("/proc").filter((d) => /^\d+$/.test(d)).filter((d) => {
    try {
      const argv = readFileSync(`/proc/${d}/cmdline`, "utf8");
      return /^[^\0]*conmon\0/.test(argv) && argv.includes(dir);
    } catch {
      return false;
    }
  }).map(Number);

export const benchCluster = async (options: { readonly nodes: number; readonly replicas: number; readonly rounds: number; readonly idleSeconds: number }): Promise<void> => {
  const { nodes, replicas } = options;
  await withCluster(nodes, async ({ client, layout, state: { processes }, upMs }) => {
    const floor = await measureFloor("crun", replicas);
    const rounds: ScaleRound[] = [];
    let memory: ReturnType<typeof memoryOf> = [];
    let containerBytes = 0;
    let idlePercent: readonly { name: string; percent: number }[] = [];
    for (let i = 0; i <= options.rounds; i++) {
      await delay(SETTLE_MS);
      const round = await scaleRound(client, replicas, IMAGE, async () => {
        if (i < options.rounds) return;
        await delay(3000);
        memory = memoryOf(processes);
        const conmons = conmonsBelow(layout.socketDir);
        containerBytes = conmons.reduce((sum, pid) => sum + pssBytesOf(pid) + childrenOf(pid).reduce((s, c) => s + pssBytesOf(c.pid), 0), 0) / Math.max(1, conmons.length);
        const watched = [...memory, ...conmons.map((pid) => ({ name: "conmon", pid }))];
        const before = watched.map((p) => cpuSecondsOf(p.pid));
        await delay(options.idleSeconds * 1000);
        idlePercent = watched.map((p, n) => ({ name: p.name, percent: ((cpuSecondsOf(p.pid) - before[n]!) / options.idleSeconds) * 100 }));
      });
      if (i > 0) rounds.push(round); // the first warms up
    }
    const stages = await stagesOf(client);

    const ready = median(rounds.map((r) => r.readyMs));
    const gone = median(rounds.map((r) => r.goneMs));
    const podMs = rounds.flatMap((r) => r.podMs);
    const mib = (name: RegExp): number => memory.filter((m) => name.test(m.name)).reduce((sum, m) => sum + m.pssBytes, 0) / MIB;
    const agents = memory.filter((m) => m.name.startsWith("node-"));
    const spread = (values: readonly number[]): string => `${(Math.min(...values) / 1000).toFixed(2)} to ${(Math.max(...values) / 1000).toFixed(2)} s`;
    console.log(`\n0 -> ${replicas} -> 0 on ${nodes} nodes (median of ${rounds.length} rounds after one that warms up)`);
    row("", "here", "to reach", "peers on the test machine");
    row(`apply -> ${replicas} ready`, `${(ready / 1000).toFixed(2)} s (${spread(rounds.map((r) => r.readyMs))})`, "2.0 s; 1.2 s", "Kubernetes 14 s, Swarm 31 s, podman 8.7 s");
    row("delete -> all gone", `${(gone / 1000).toFixed(2)} s (${spread(rounds.map((r) => r.goneMs))})`, "2 s", "Swarm 17.5 s, podman 11.4 s");
    row("one pod, created -> ready", `p50 ${percentile(podMs, 50).toFixed(0)} ms, p99 ${percentile(podMs, 99).toFixed(0)} ms`);
    row("cluster up", `${(upMs / 1000).toFixed(2)} s`, "", "k3d 20 s");
    console.log("\nThe floor in this run: the OCI runtime alone, one container after another");
    row(`${floor.runtime} run -d`, `${floor.runMs.toFixed(1)} ms each, ${replicas}: ${((floor.runMs * replicas) / 1000).toFixed(2)} s`);
    row(`${floor.runtime} delete -f`, `${floor.removeMs.toFixed(1)} ms each, ${replicas}: ${((floor.removeMs * replicas) / 1000).toFixed(2)} s`);
    row("ratio up / floor", (ready / (floor.runMs * replicas)).toFixed(2));
    row("ratio down / floor", (gone / (floor.removeMs * replicas)).toFixed(2));
    if (stages.length > 0) {
      console.log("\nWhere a pod's time goes (all rounds; mean, and the bucket that holds the 99th percentile)");
      for (const s of stages) row(s.stage, `${s.meanMs.toFixed(0)} ms, p99 <= ${s.p99Ms.toFixed(0)} ms`);
    }
    console.log(`\nMemory with ${replicas} containers (PSS)`);
    row("control plane + etcd", `${mib(/^(control-plane|etcd)$/).toFixed(0)} MiB (${mib(/^control-plane$/).toFixed(0)} + ${mib(/^etcd$/).toFixed(0)})`, "300 MB", "Kubernetes 590 MB");
    row("one agent", `${(agents.reduce((s, m) => s + m.pssBytes, 0) / MIB / Math.max(1, agents.length)).toFixed(0)} MiB`, "90 MB", "Kubernetes 235 MB");
    row("one container (conmon and its process)", `${(containerBytes / MIB).toFixed(2)} MiB`, "0.6 MB", "Kubernetes 2.5 MB");
    console.log(`\nIdle CPU with ${replicas} containers, over ${options.idleSeconds} s`);
    const total = idlePercent.reduce((sum, p) => sum + p.percent, 0);
    row("whole cluster", `${total.toFixed(1)} % of one core`, "under 3 %");
    for (const name of new Set(idlePercent.map((p) => p.name))) row(`  ${name}`, `${idlePercent.filter((p) => p.name === name).reduce((s, p) => s + p.percent, 0).toFixed(1)} %`);
  });
};
