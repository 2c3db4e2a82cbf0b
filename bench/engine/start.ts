// bench/engine: how long one container takes from the request to its running process, beside the bare OCI runtime and other engines in
// the same run; and whether a node with 500 containers starts them as fast as the first 100.
import { execFileSync } from "node:child_process";
import { freemem } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { type ApiClient } from "../../cli/api-client.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { IMAGE, row, withCluster } from "../cluster/bench-cluster.ts";
import { measureFloor } from "../cluster/floor.ts";
import { scaleRound } from "../cluster/scale.ts";
import { median, percentile, sum } from "../statistics.ts";
import { watchLateness, type Lateness } from "./machine-lateness.ts";
import { measureDocker, measurePodman } from "./others.ts";

const SINGLE = 40;
const WARM_UP = 5;
const MANY = 500;
const FEW = 100;
/** By far more than a container takes. */
const MIB_EACH = 4;
/** Of few and many in turn: machines get faster and slower while this takes. */
const ROUNDS = 3;
/** What an event loop must not be held up for. */
const LATE_MS = 50;
/** The kernel takes network namespaces down in the background. */
const SETTLE_MS = 3000;

const pod = (name: string): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", labels: { app: "single" } },
  spec: {
    restartPolicy: "Never", terminationGracePeriodSeconds: 0, nodeName: "node-1",
    containers: [{ name: "main", image: IMAGE, imagePullPolicy: "IfNotPresent", command: ["/bin/sleep", "86400"] }],
  },
});

/** One pod after another, as `docker run -d` in a loop; each from the POST to the watch's event that says Running, ms. */
const startOneByOne = async (client: ApiClient, count: number): Promise<readonly number[]> => {
  const abort = new AbortController();
  const waiting = new Map<string, (ms: number) => void>();
  const { metadata } = await client.list(PODS, "default");
  const watching = (async () => {
    for await (const { object } of client.watch<Pod>(client.pathOf(PODS, "default"), { resourceVersion: metadata.resourceVersion }, abort.signal)) {
      if (object.status?.phase === "Running") waiting.get(object.metadata.name!)?.(performance.now());
    }
  })().catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
  try {
    const taken: number[] = [];
    for (let i = 0; i < count; i++) {
      const name = `single-${i}`;
      const running = new Promise<number>((resolve) => waiting.set(name, resolve));
      const startedMs = performance.now();
      await client.json("POST", client.pathOf(PODS, "default"), { body: pod(name) });
      taken.push((await running) - startedMs);
    }
    return taken;
  } finally {
    abort.abort();
    await watching;
    await client.json("DELETE", `${client.pathOf(PODS, "default")}?labelSelector=app%3Dsingle&gracePeriodSeconds=0`);
  }
};

/**
 * A virtual machine may give back memory that is free (the kernel's page_reporting), and then waits for the hypervisor at each first touch: of 500 containers
 * four would have to do that for one that finds the memory of those before. So all find what was just used.
 */
const touchMemory = (): void => {
  execFileSync(process.execPath, ["-e", `Buffer.alloc(${Math.min(MANY * MIB_EACH * 2 ** 20, Math.floor(freemem() / 2))}, 1)`]);
};

interface Samples {
  readonly late: number;
  readonly all: number;
}

/** Samples of an agent's event loop that were late by more than `seconds`, and all samples, from its /metrics. */
const lateSamples = async (address: string, seconds: number): Promise<Samples> => {
  const metrics = await (await fetch(`http://${address}:6445/metrics`)).text();
  const value = (pattern: RegExp): number => Number(pattern.exec(metrics)?.[1] ?? Number.NaN);
  const all = value(/^gantry_event_loop_lag_seconds_count (\S+)$/m);
  return { all, late: all - value(new RegExp(`^gantry_event_loop_lag_seconds_bucket\\{le="${seconds}"\\} (\\S+)$`, "m")) };
};

export const benchStart = async (): Promise<void> => {
  await withCluster(1, async ({ client, state }) => {
    const floor = await measureFloor("crun", SINGLE);
    await startOneByOne(client, WARM_UP);
    await delay(SETTLE_MS);
    const singles = await startOneByOne(client, SINGLE);
    const others = { podman: await measurePodman(10), docker: await measureDocker(10) };
    const p50 = median(singles);
    console.log(`\nOne container with its network, image local, ${SINGLE} one after another`);
    row("POST -> Running seen by a watch", `p50 ${p50.toFixed(1)} ms, p99 ${percentile(singles, 99).toFixed(1)} ms`);
    row("crun run -d alone, no network", `${floor.runMs.toFixed(1)} ms each`);
    row("ratio to crun", (p50 / floor.runMs).toFixed(2), "at most 3");
    for (const [name, ms] of Object.entries(others)) {
      row(`${name} run -d`, ms === undefined ? "can't run on this machine" : `${ms.toFixed(0)} ms each`);
      if (ms !== undefined) row(`${name} / here`, (ms / p50).toFixed(1), "at least 5");
    }

    await delay(SETTLE_MS);
    await scaleRound(client, FEW, IMAGE, async () => undefined); // warms up
    await delay(SETTLE_MS);
    const { address } = state.hosts[0]!;
    const late = () => lateSamples(address, LATE_MS / 1000);
    const rounds: { readonly fewMs: number; readonly manyMs: number; readonly before: Samples; readonly after: Samples; readonly gone: Samples; readonly machine: Lateness }[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      touchMemory();
      // Few are watched too, only so that both rounds bear the same.
      const watchFew = watchLateness(LATE_MS);
      const few = await scaleRound(client, FEW, IMAGE, async () => void (await watchFew.end()));
      await delay(SETTLE_MS);
      touchMemory();
      const watch = watchLateness(LATE_MS);
      const before = await late();
      let [after, machine]: [Samples, Lateness | undefined] = [before, undefined];
      const many = await scaleRound(client, MANY, IMAGE, async () => {
        after = await late();
        machine = await watch.end();
      });
      await delay(SETTLE_MS);
      rounds.push({ fewMs: few.readyMs, manyMs: many.readyMs, before, after, gone: await late(), machine: machine! });
    }
    const rateOf = (count: number, ms: readonly number[]): number => (count * ms.length * 1000) / sum(ms);
    const rates = (few: readonly number[], many: readonly number[]): string => (rateOf(MANY, many) / rateOf(FEW, few)).toFixed(2);
    const [fewMs, manyMs] = [rounds.map((round) => round.fewMs), rounds.map((round) => round.manyMs)];
    const seconds = (ms: readonly number[]): string => ms.map((one) => (one / 1000).toFixed(2)).join(", ");
    const lateIn = (from: readonly Samples[], to: readonly Samples[]): string => `${sum(to.map((s) => s.late)) - sum(from.map((s) => s.late))} of ${sum(to.map((s) => s.all)) - sum(from.map((s) => s.all))} samples`;
    console.log(`\n${MANY} containers on one node, ${FEW} and ${MANY} in turn`);
    row(`0 -> ${FEW}`, `${seconds(fewMs)} s, ${rateOf(FEW, fewMs).toFixed(0)} a second`);
    row(`0 -> ${MANY}`, `${seconds(manyMs)} s, ${rateOf(MANY, manyMs).toFixed(0)} a second`);
    row(`rate of ${MANY} / rate of ${FEW}`, `${rates(fewMs, manyMs)} (${rounds.map((round) => rates([round.fewMs], [round.manyMs])).join(", ")})`, "1");
    row(`agent's event loop late by over ${LATE_MS} ms`, lateIn(rounds.map((r) => r.before), rounds.map((r) => r.after)), "0");
    row("a thread that does nothing, before all", `${sum(rounds.map((r) => r.machine.late))} times; worst ${Math.max(...rounds.map((r) => r.machine.worstMs)).toFixed(0)} ms`, "the machine's own");
    row("the same while they go", lateIn(rounds.map((r) => r.after), rounds.map((r) => r.gone)), "");
  });
};

if (import.meta.main) await benchStart();
