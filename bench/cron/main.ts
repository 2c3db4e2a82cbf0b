// bench/cron: how far after its tick the last of 100 containers of a CronJob runs, staged and not; and a thousand CronJobs that are due at
// once. See bench/README.md.
import { pathToFileURL } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import { CRON_JOBS, JOBS } from "../../base/kube/resources.ts";
import type { Job } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../../cli/api-client.ts";
import { IMAGE, row, withCluster } from "../cluster/bench-cluster.ts";
import { median, percentile } from "../statistics.ts";
import { measureBurstFloor, measureColdFloor } from "../cluster/floor.ts";
import { burst, cronJob, nextSecond, type Burst } from "./burst.ts";

/** The kernel takes network namespaces down in the background, for about a second after the last pod is gone. */
const SETTLE_MS = 2000;

interface Crowd {
  readonly count: number;
  /** Of the last Job's appearance in a watch, ms after the tick. */
  readonly lastMs: number;
  readonly firstMs: number;
}

/** `count` CronJobs with the same instant, unstaged; their Jobs are suspended, so that no pods get in the way. */
const crowd = async (client: ApiClient, count: number): Promise<Crowd> => {
  const tickMs = nextSecond(Date.now() + 4000 + count * 8);
  const spec: NonNullable<Job["spec"]> = { suspend: true, template: { spec: { restartPolicy: "Never", containers: [{ name: "c", image: IMAGE }] } } };
  for (let i = 0; i < count; i += 50) {
    await Promise.all(Array.from({ length: Math.min(50, count - i) }, (_, k) => client.json("POST", client.pathOf(CRON_JOBS, "default"), { body: cronJob(`crowd-${i + k}`, tickMs, 0, spec) })));
  }
  if (Date.now() > tickMs - 1000) throw new Error(`creating ${count} CronJobs took too long for their instant`);
  const abort = new AbortController();
  const { metadata } = await client.list(JOBS, "default", {});
  const seen = new Map<string, number>();
  const done = Promise.withResolvers<void>();
  const watching = (async () => {
    for await (const { type, object } of client.watch<Job>(client.pathOf(JOBS, "default"), { resourceVersion: metadata.resourceVersion }, abort.signal)) {
      if (type === "ADDED" && !seen.has(object.metadata.name!)) seen.set(object.metadata.name!, Date.now());
      if (seen.size >= count) done.resolve();
    }
  })().catch((error: unknown) => {
    if (!abort.signal.aborted) done.reject(error);
  });
  await Promise.race([done.promise, delay(tickMs - Date.now() + 30_000)]);
  abort.abort();
  await watching;
  if (seen.size < count) throw new Error(`${seen.size} of ${count} Jobs were created within 30 s of their tick`);
  await client.json("DELETE", client.pathOf(CRON_JOBS, "default"), { body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background" } });
  return { count, firstMs: Math.min(...seen.values()) - tickMs, lastMs: Math.max(...seen.values()) - tickMs };
};

export const benchCron = async ({ nodes, count, rounds, cronJobs }: { readonly nodes: number; readonly count: number; readonly rounds: number; readonly cronJobs: number }): Promise<void> => {
  await withCluster(nodes, async ({ client }) => {
    const staged: Burst[] = [];
    const plain: Burst[] = [];
    const floors: number[] = [];
    const coldFloors: number[] = [];
    for (let i = 0; i <= rounds; i++) {
      await delay(SETTLE_MS);
      if (i > 0) floors.push(await measureBurstFloor(count));
      const one = await burst(client, `staged-${i}`, { count, image: IMAGE, aheadSeconds: 30, leadMs: 12_000 });
      if (i > 0) staged.push(one); // the first warms up
    }
    for (let i = 0; i < rounds; i++) {
      await delay(SETTLE_MS);
      coldFloors.push(await measureColdFloor(count));
      await delay(SETTLE_MS);
      plain.push(await burst(client, `plain-${i}`, { count, image: IMAGE, aheadSeconds: 0, leadMs: 2000 }));
    }
    const many = await crowd(client, cronJobs);

    const lasts = (bursts: readonly Burst[]): readonly number[] => bursts.map((b) => Math.max(...b.startsMs));
    const show = (values: readonly number[]): string => `${median(values).toFixed(0)} ms (${Math.min(...values).toFixed(0)} to ${Math.max(...values).toFixed(0)})`;
    const table = (title: string, bursts: readonly Burst[], target: string): void => {
      const all = bursts.flatMap((b) => b.startsMs);
      console.log(`\n${title}`);
      row("the last of them, after the tick", show(lasts(bursts)), target, "Kubernetes there: 18 s");
      row("the first of them, after the tick", show(bursts.map((b) => Math.min(...b.startsMs))), "never below 0");
      row("each", `p50 ${percentile(all, 50).toFixed(0)} ms, p99 ${percentile(all, 99).toFixed(0)} ms`);
      row("before the tick", String(all.filter((ms) => ms < 0).length), "0");
    };
    console.log(`\nA CronJob of ${count} containers on ${nodes} nodes, by the clock of their own processes (median of ${rounds} ticks)`);
    row("staged a second before the tick", staged.map((b) => `${b.staged}`).join(", "), `${count} each`);
    table("staged", staged, "150 ms; 80 ms");
    const floor = (title: string, own: readonly number[], bursts: readonly Burst[]): void => row(`the floor: ${title}`, `${show(own)}, ratio ${(median(lasts(bursts)) / median(own)).toFixed(2)}`);
    floor("bare crun containers, let go in a loop", floors, staged);
    table(`not staged (gantry.io/stage-ahead: 0s)`, plain, "2.0 s");
    floor("crun run, one a processor", coldFloors, plain);
    console.log(`\n${many.count} CronJobs due at the same instant, not staged`);
    row("the last Job created, after the tick", `${many.lastMs.toFixed(0)} ms (the first ${many.firstMs.toFixed(0)})`, "2 s");
  });
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const number = (name: string, value: number): number => Number(process.env[name] ?? value);
  await benchCron({ nodes: number("NODES", 3), count: number("REPLICAS", 100), rounds: number("ROUNDS", 3), cronJobs: number("CRONJOBS", 1000) });
}
